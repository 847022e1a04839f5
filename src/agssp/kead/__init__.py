"""KeAD: anomaly maps from a frozen teacher, descriptions of defects and a few reference images."""
