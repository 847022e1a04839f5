"""Models in transformers' form: backbones, the pretraining model around them, and detectors."""

from agssp.telemetry import switch_off

switch_off()


def register_auto_classes() -> None:
    """Let transformers' `AutoConfig`, `AutoModel` and `AutoBackbone` open folders saved by the backbone classes.

    Importing `agssp.models.backbone` or `agssp.models.pretraining` does it as well; registering twice is harmless.
    """
    from . import backbone, pretraining  # noqa: F401  (registration happens at their import)
