"""The version of this package, which records of runs and manifests of stores carry."""

__version__ = "0.1.0"
