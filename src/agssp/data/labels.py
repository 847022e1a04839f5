"""Leaves out images of which nobody has said where their defects are, for they are not images without defects."""

from typing import Any

from agssp.errors import InputError


def with_known_boxes(dataset: Any, source: str) -> Any:
    """The rows of a data set whose boxes are known, be there none; how many others are left out is printed.

    Args:
        dataset: rows of the schema with `objects`; null there means that nothing is known.
        source: names the data set in the message.

    Raises:
        InputError: the boxes of no image are known.
    """
    known = [row for row, objects in enumerate(dataset["objects"]) if objects is not None]
    if len(known) == len(dataset):
        return dataset
    if not known:
        raise InputError(
            f"{source}: its {len(dataset)} images have no labels (`objects` is null); give boxes, an empty list for an "
            "image without defects"
        )
    print(f"{source}: {len(dataset) - len(known)} of {len(dataset)} images have no labels and are left out")
    return dataset.select(known)
