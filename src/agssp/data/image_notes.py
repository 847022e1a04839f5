"""What is noticed while a data set's images are decoded and is no error: counted, and each kind told once."""

import logging
import mmap
from typing import Any

logger = logging.getLogger(__name__)

EXAMPLES = 5
DARK, PAGES = "dark", "pages"
_WORDS = {
    DARK: "images of 16 bits have no value above 4095 and are nearly black; AGSSP_BIT_DEPTH=12 (or 10, ...) says how "
    "many bits the camera gives",
    PAGES: "image files hold several pages, of which the first alone is read",
}


class ImageNotes:
    """What was noticed in one data set's images, kept by whoever decodes them.

    Attributes:
        names: kind -> the images that this process decoded, each once. Threads meet them in any order.
    """

    def __init__(self) -> None:
        self.names: dict[str, dict[str, None]] = {kind: {} for kind in _WORDS}
        # Memory that forked workers share: one of them tells for all.
        self._told = mmap.mmap(-1, len(_WORDS))

    def __getstate__(self) -> dict[str, dict[str, None]]:
        # The shared memory is of processes that were forked; a copy elsewhere tells for itself.
        return self.names

    def __setstate__(self, names: dict[str, dict[str, None]]) -> None:
        self.__init__()  # type: ignore[misc]
        self.names.update(names)

    def add(self, kind: str, name: str, message: str, *details: object) -> None:
        """Note an image, and log the message if it is the first of its kind.

        Args:
            kind: `DARK` or `PAGES`.
            name: of the image; the message's first value.
            message: of the warning, in logging's form.
            details: its other values.
        """
        self.names[kind][name] = None
        place = list(_WORDS).index(kind)
        if not self._told[place]:
            self._told[place] = 1
            logger.warning(message, name, *details)

    def lines(self) -> list[str]:
        """A sentence for each kind that was noticed: how many, and the first of them."""
        return [f"{len(names)} {_WORDS[kind]}; the first: {min(names)}" for kind, names in self.names.items() if names]

    def as_json(self) -> dict[str, dict[str, Any]]:
        """Of each kind that was noticed the number of images, and the first few of them."""
        return {
            kind: {"count": len(names), "examples": sorted(names)[:EXAMPLES]}
            for kind, names in self.names.items()
            if names
        }


_current = ImageNotes()


def image_notes() -> ImageNotes:
    """The notes of the data set that was read last; `decode_image` writes there unless it is given others."""
    return _current


def begin_image_notes() -> ImageNotes:
    """Begin a data set: what its images have is told even if another data set's images had it before."""
    global _current
    _current = ImageNotes()
    return _current
