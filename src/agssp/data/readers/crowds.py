"""Which boxes are crowd regions: a rectangle around an unknown number of defects that nobody has told apart."""

from typing import Any

from agssp.errors import InputError

FLAGS = {"": False, "0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}


def crowd_flag(value: Any, where: str) -> bool:
    """The `iscrowd` of a box as a bool: null, 0 and 1 in whatever form tools write them.

    Args:
        value: null, a bool, a number or a text.
        where: names the box in the error.

    Raises:
        InputError: it is none of these.
    """
    if value is None or isinstance(value, bool):
        return bool(value)
    flag = FLAGS.get(str(value).strip().lower())
    if flag is None:
        raise InputError(f"{where}: iscrowd must be 0 or 1, got {value!r}")
    return flag
