"""Tell images apart by what they hold, whatever they are called and wherever they lie."""

import hashlib
from typing import Any

from PIL import Image

from agssp.data.encoded import open_file, storage_faults_told


def content_hash(value: Any) -> str:
    """Sha256 of an image's encoded bytes: the same for every copy of a file, under any name, in Parquet or a folder.

    Args:
        value: a path, the bytes of a file, or a `datasets` image value `{"path", "bytes"}`; of a PIL image, which has
            no encoded bytes, the pixels count.

    Returns:
        64 hexadecimal digits.

    Raises:
        ImageError: the file is missing, or larger than `agssp.data.encoded.MAX_BYTES`.
        StorageError: it cannot be read now.
    """
    if isinstance(value, dict):
        value = value.get("path") if value.get("bytes") is None else value["bytes"]
    if isinstance(value, Image.Image):
        return hashlib.sha256(f"{value.mode} {value.size} ".encode() + value.tobytes()).hexdigest()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return hashlib.sha256(value).hexdigest()
    name = str(value)
    with open_file(value, name) as file, storage_faults_told(name):
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # any that reads bytes
