"""By which names images are published: their own, which are paths in their owner's folders, or digests of these."""

import hashlib

IDS = ("path", "hash")
LENGTH = 32


def hashed_id(image_id: str) -> str:
    """The name that `--ids hash` publishes an image by: the first 32 hexadecimal digits of the SHA-256 of its own.

    It is the same in every push. Whoever can guess a path can find out whether it is the one.
    """
    return hashlib.sha256(image_id.encode("utf-8", "surrogateescape")).hexdigest()[:LENGTH]


def published_id(image_id: str, ids: str) -> str:
    """An image's published name; `ids` is one of `IDS`."""
    return hashed_id(image_id) if ids == "hash" else image_id
