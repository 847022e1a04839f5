"""Keeps the libraries that this package uses from reporting on whoever uses it, where they allow that."""

import os
import sys
from typing import Any

_OFF = {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_UPDATE_DOWNLOAD_COUNTS": "0"}
"""Read by huggingface_hub and transformers, and by datasets and evaluate, when they are imported.

DO_NOT_TRACK would do the same for huggingface_hub, but also against a HF_HUB_DISABLE_TELEMETRY=0 of the user's.
"""


def switch_off() -> None:
    """Set the variables that the libraries read at their import; a value that the user has set is kept.

    Called where these libraries are imported for the first time, not by `import agssp`.
    """
    for name, value in _OFF.items():
        os.environ.setdefault(name, value)


def import_onnxruntime() -> Any:
    """onnxruntime, told to report nothing before it does anything: its builds for Windows would otherwise.

    Raises:
        ImportError: it is not installed.
    """
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    return onnxruntime


def forget_session() -> None:
    """Take out the random number by which transformers lets the Hub tell that requests are of one process."""
    constants: Any = sys.modules.get("huggingface_hub.constants")
    requests: Any = sys.modules.get("transformers.utils.hub")
    if requests is not None and getattr(constants, "HF_HUB_DISABLE_TELEMETRY", False):
        requests.SESSION_ID = "none"
