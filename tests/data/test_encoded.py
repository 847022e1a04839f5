"""A fault of the machine is no bad image: what can be had of a file, what cannot now, and what never can."""

import errno
import io
import os
import resource
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image
from torch.utils.data import DataLoader

from agssp.data import encoded
from agssp.data.content import content_hash
from agssp.data.encoded import ImageError, open_encoded, read_encoded
from agssp.data.fingerprint import dataset_fingerprint
from agssp.data.images import checked_content, decode_image, image_frame
from agssp.data.mask_reading import MaskReading
from agssp.data.masks import decode_mask
from agssp.data.readers import read_dataset
from agssp.data.schema import features
from agssp.data.training_sets import _Images
from agssp.errors import InputError, StorageError
from agssp.maps.drawing import prepare


def write_image(path: Path, size=(64, 48)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


class BrokenFile(io.RawIOBase):
    """A file on a disk that fails from some byte on, as no test can make a real one do."""

    def __init__(self, content: bytes, good: int, number: int = errno.EIO) -> None:
        self.content, self.good, self.number, self.position = content, good, number, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def seek(self, offset: int, whence: int = 0) -> int:
        self.position = (0, self.position, len(self.content))[whence] + offset
        return self.position

    def read(self, size: int = -1) -> bytes:
        end = len(self.content) if size is None or size < 0 else min(self.position + size, len(self.content))
        if end > self.good:
            raise OSError(self.number, os.strerror(self.number))
        block, self.position = self.content[self.position : end], end
        return block


def test_nothing(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    for value in (tmp_path / "a.png", b""):
        with pytest.raises(ImageError, match=r"plate 7: the file is empty \(0 bytes\)"):
            open_encoded(value, "plate 7")
    with pytest.raises(ImageError, match="plate 7: expected a path, bytes, a binary file or a PIL image, got int"):
        open_encoded(7, "plate 7")


def test_a_missing_file_alone_is_a_missing_image(tmp_path):
    write_image(tmp_path / "other.png")
    for use in (decode_image, image_frame, read_encoded):
        with pytest.raises(ImageError, match="plate 7: no such file"):
            use(tmp_path / "gone.png", "plate 7")
    with pytest.raises(ImageError, match="no such file"):
        content_hash(tmp_path / "gone.png")


@pytest.mark.parametrize("left", ["nothing", "an empty folder", "a link to nothing"])
def test_a_missing_folder_is_a_share_that_is_not_there(tmp_path, left):
    path = tmp_path / "share/line7/a.png"
    if left == "an empty folder":
        path.parent.mkdir(parents=True)
    if left == "a link to nothing":
        write_image(tmp_path / "share/line7/b.png")
        path.symlink_to(tmp_path / "other share/a.png")
    row = {"image_id": "plate 7", "image": {"path": str(path), "bytes": None}, "category": 0, "is_normal": None}
    with pytest.raises(StorageError, match=r"plate 7: no such file: .*a\.png, and nothing is in its folder"):
        decode_image(path, "plate 7")
    for use in (lambda: content_hash(path), lambda: decode_mask(path, "plate 7"), lambda: prepare(row, None, 100)):
        with pytest.raises(StorageError, match="nothing is in its folder"):
            use()
    with pytest.raises(StorageError, match="nothing is in its folder"):
        MaskReading.of([("plate 7", path)], "masks")


@pytest.mark.parametrize("kind", ["png", "jpeg", "bmp", "tiff", "webp"])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_an_input_output_error_is_not_damage(kind, share):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)).save(buffer, kind)
    content = buffer.getvalue()
    with pytest.raises(StorageError, match="plate 7: Input/output error"):
        decode_image(BrokenFile(content, int(share * len(content))), "plate 7")
    with pytest.raises(ImageError, match=r"plate 7: the image is damaged|no known image"):
        decode_image(BrokenFile(content[: len(content) // 2], len(content)), "plate 7")


def test_a_stale_handle_in_a_header(tmp_path):
    content = write_image(tmp_path / "a.png").read_bytes()
    with pytest.raises(StorageError, match="plate 7: Stale file handle"):
        image_frame(BrokenFile(content, 4, errno.ESTALE), "plate 7")
    with pytest.raises(StorageError, match="plate 7: Stale file handle"):
        decode_mask(BrokenFile(content, 100, errno.ESTALE), "plate 7")


def test_no_memory_is_not_damage(tmp_path):
    class NoMemory(io.BytesIO):
        def read(self, size=-1):
            raise MemoryError

    with pytest.raises(StorageError, match="plate 7: this process has no memory left"):
        decode_image(NoMemory(b"some bytes"), "plate 7")


def test_too_many_open_files(tmp_path):
    path = write_image(tmp_path / "a.png")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(tmp_path, os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, before[1]))
    try:
        with pytest.raises(StorageError, match=r"plate 7: .*a\.png cannot be opened now: Too many open files"):
            decode_image(path, "plate 7")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert decode_image(path).size == (64, 48)


@pytest.mark.skipif(os.geteuid() == 0, reason="the system's administrator may read all")
def test_a_file_that_may_not_be_read(tmp_path):
    path = write_image(tmp_path / "a.png")
    path.chmod(0)
    with pytest.raises(StorageError, match=r"plate 7: .* cannot be opened now: Permission denied"):
        decode_image(path, "plate 7")


def test_pipes_and_sockets_are_no_images_and_nobody_waits_for_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    os.mkfifo("a.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("b.png")
        for name in ("a.png", "b.png"):
            for use in (decode_image, image_frame):
                with pytest.raises(ImageError, match=r"is no file of bytes|cannot be opened"):
                    use(name, "plate 7")
        with pytest.raises(ImageError, match="is no file of bytes"):
            decode_image(os.devnull, "plate 7")


def test_a_large_file_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(encoded.MAX_BYTES + 1)  # takes no room
    for use in (decode_image, read_encoded, lambda path, _: content_hash(path)):
        with pytest.raises(ImageError, match=r"1,073,741,825 bytes; expected 1,073,741,824 at most"):
            use(tmp_path / "a.png", "plate 7")


def test_what_is_passed_on_has_been_decoded(tmp_path):
    path = write_image(tmp_path / "a.png")
    (tmp_path / "notes.png").write_text("a text that a table calls an image")
    assert checked_content({"path": str(path), "bytes": None}, "a") == path.read_bytes()
    for value in (tmp_path / "notes.png", {"path": "a.png", "bytes": b"a text"}, path.read_bytes()[:200]):
        with pytest.raises(ImageError, match="plate 7"):
            checked_content(value, "plate 7")


def table(paths):
    schema = features(["plate"])
    rows = [{"image": {"path": str(p), "bytes": None}, "image_id": p.name, "category": 0, "is_normal": None}
            for p in paths]  # fmt: skip
    return Dataset.from_list(rows, features=schema)


@pytest.mark.parametrize("workers", [0, 2])
def test_training_lists_damage_and_stops_at_a_share_that_is_gone(tmp_path, workers):
    class Sizes(_Images):
        def __getitem__(self, index):
            return torch.tensor(self._good_row(index)[2].size)

    paths = [write_image(tmp_path / "share/a" / f"{number}.png") for number in range(4)]
    paths[1].write_bytes(b"damaged")
    paths[2].unlink()
    images = Sizes(table(paths), 0)
    assert len(list(DataLoader(images, batch_size=2, num_workers=workers))) == 2
    assert set(images.skipped) == {"1.png", "2.png"}
    (tmp_path / "share/a").rename(tmp_path / "elsewhere")
    gone = Sizes(table(paths), 0)
    with pytest.raises(StorageError) as caught:
        list(DataLoader(gone, batch_size=2, num_workers=workers))
    assert str(caught.value).startswith("0.png: no such file")
    assert not gone._bad.any()
    (tmp_path / "elsewhere").rename(tmp_path / "share/a")
    assert len(list(DataLoader(gone, batch_size=2, num_workers=workers))) == 2


def test_a_fingerprint_is_not_made_of_files_that_are_not_there(tmp_path):
    paths = [write_image(tmp_path / "share/a" / f"{number}.png") for number in range(2)]
    before = dataset_fingerprint(table(paths))
    (tmp_path / "share/a").rename(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match=r"0\.png: .*cannot be looked at"):
        dataset_fingerprint(table(paths))
    (tmp_path / "elsewhere").rename(tmp_path / "share/a")
    assert dataset_fingerprint(table(paths)) == before


def test_a_table_on_a_share_that_is_gone(tmp_path):
    write_image(tmp_path / "share/images/a.png")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/images").symlink_to(tmp_path / "share/images")
    assert len(read_dataset(tmp_path / "data")) == 1
    (tmp_path / "share").rename(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match=r"data/images: is a link to .*share/images, whose folder is not there"):
        read_dataset(tmp_path / "data")
    (tmp_path / "elsewhere").rename(tmp_path / "share")
    assert len(read_dataset(tmp_path / "data")) == 1


def test_the_flag_stays_before_a_fault(tmp_path):
    from agssp.data.reading import read_told

    (tmp_path / "data").mkdir()
    (tmp_path / "data/images").symlink_to(tmp_path / "share/images")
    with pytest.raises(StorageError, match=r"^--test .*data/images: is a link"):
        read_told(str(tmp_path / "data"), "--test")
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match=r"^--test .*no images found"):
        read_told(str(tmp_path / "none"), "--test")
