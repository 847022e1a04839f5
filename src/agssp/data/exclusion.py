"""Leaves out images that must not be trained on, such as those that `agssp dataset check-overlap` found."""

import logging
from pathlib import Path
from typing import Any

from datasets import IterableDataset

from agssp.data.readers.listing import read_text
from agssp.errors import InputError

logger = logging.getLogger(__name__)


def without_excluded(dataset: Any, file: str | None) -> Any:
    """A data set without the images that a file names.

    Args:
        dataset: rows of the schema, a stream too.
        file: one `image_id` a line; None leaves out nothing.

    Raises:
        InputError: there is no such file, or it names none of the images, as one of another data set does. Whether a
            stream has any of them is not known before its end.
    """
    if file is None:
        return dataset
    path = Path(file)
    if not path.is_file():
        raise InputError(f"--exclude {file}: no such file; expected one image id a line")
    excluded = {line.strip() for line in read_text(path).splitlines()} - {""}
    if isinstance(dataset, IterableDataset):
        logger.info(f"the {len(excluded)} images that {file} names are left out as they come")
        return dataset.filter(lambda image_id: image_id not in excluded, input_columns="image_id")
    ids = dataset["image_id"]
    kept = [row for row, image_id in enumerate(ids) if image_id not in excluded]
    if excluded and len(kept) == len(ids):
        raise InputError(
            f"--exclude {file}: none of its {len(excluded)} ids is among the {len(ids)} images; ids there look like "
            f"{min(excluded)!r}, here like {ids[0]!r}"
        )
    if not kept:
        raise InputError(f"--exclude {file}: leaves out all {len(ids)} images")
    logger.info(f"{len(ids) - len(kept)} of {len(ids)} images are left out, as {file} says")
    return dataset.select(kept)
