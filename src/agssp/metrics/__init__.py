"""Numbers for detectors and for anomaly maps, as plain classes and functions and as `evaluate` modules."""
