"""The only door to `ultralytics` (AGPL-3.0): imported late, offline, and without a trace on the user's disk."""

import atexit
import contextlib
import os
from types import ModuleType

import torch
from PIL import Image

from agssp.errors import InputError
from agssp.files import work_folder


def import_ultralytics() -> ModuleType:
    """Import `ultralytics` with its network checks, self-installation and settings file switched off.

    Its import reads some environment variables; a value that the user has already set is kept. Submodules
    (`ultralytics.nn.tasks`, ...) may be imported the ordinary way after this call.

    Returns:
        The `ultralytics` module.

    Raises:
        InputError: `ultralytics` is not installed.
    """
    os.environ.setdefault("YOLO_OFFLINE", "true")
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    os.environ.setdefault("YOLO_VERBOSE", "false")
    if "YOLO_CONFIG_DIR" not in os.environ:
        # Otherwise the import writes a settings file into the user's home.
        settings = contextlib.ExitStack()
        os.environ["YOLO_CONFIG_DIR"] = str(settings.enter_context(work_folder("ultralytics")))
        owner = os.getpid()
        atexit.register(lambda: settings.close() if os.getpid() == owner else None)
    threads = os.environ.get("OMP_NUM_THREADS")
    originals = Image.open, torch.save
    try:
        # Its head keeps two tensors in its class, which must not be made on the meta device that models are planned on.
        with torch.device("cpu"):
            import ultralytics
            import ultralytics.nn.modules.head
    except ImportError as error:
        raise InputError(
            f"YOLO models need the package ultralytics, which could not be imported ({error}); install it with "
            "`pip install ultralytics` (licence: AGPL-3.0, which asks for the whole source of a program that uses it, "
            "over a network too), or use a backbone of timm and a detector without it: faster_rcnn, dino, rtdetr_v2_s, "
            "dfine_s"
        ) from error
    finally:
        # Its import sets OMP_NUM_THREADS=1, which would slow every process started later.
        if threads is None:
            os.environ.pop("OMP_NUM_THREADS", None)
        # Its import replaces these for the whole process; its Image.open installs a package when a file is no image.
        Image.open, torch.save = originals
    return ultralytics
