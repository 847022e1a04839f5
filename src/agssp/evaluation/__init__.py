"""Numbers for detectors and for anomaly maps, as plain classes and functions and as `evaluate` modules."""

from pathlib import Path

MODULES = Path(__file__).parent / "modules"


def module_path(name: str) -> str:
    """The folder of a metric for `evaluate.load`: `agssp_detection` or `agssp_anomaly`.

    Raises:
        InputError: there is no metric of that name.
    """
    from agssp.errors import InputError

    names = sorted(path.name for path in MODULES.iterdir() if path.is_dir() and not path.name.startswith("_"))
    if name not in names:
        raise InputError(f"{name!r}: no such metric; expected one of {', '.join(names)}")
    return str(MODULES / name)
