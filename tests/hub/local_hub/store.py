"""Repositories on disk: contents by their sha256, revisions as whole lists of files, branches and tags that name them.

    FOLDER/contents/<sha256>                              every content once
    FOLDER/repositories/models/OWNER/NAME/settings.json   visibility, branches and tags
    FOLDER/repositories/models/OWNER/NAME/commits/<id>.json

A commit is written whole before a branch is moved to it, and both by renaming: a reader sees a revision or none of it.
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from .messages import Refusal

LFS_SUFFIXES = (
    ".7z", ".arrow", ".bin", ".bmp", ".bz2", ".ckpt", ".gif", ".gz", ".h5", ".jpeg", ".jpg", ".model", ".msgpack",
    ".npy", ".npz", ".onnx", ".parquet", ".pb", ".pickle", ".pkl", ".png", ".pt", ".pth", ".rar", ".safetensors",
    ".tar", ".tflite", ".tgz", ".tif", ".tiff", ".wasm", ".webp", ".xz", ".zip", ".zst",
)  # fmt: skip
REGULAR_LIMIT = 10 * 1024 * 1024


@dataclass(frozen=True)
class File:
    """One file of a revision: its size in bytes, the sha256 of its content, git's id of it, and whether it is LFS's."""

    path: str
    size: int
    sha256: str
    git_id: str
    lfs: bool

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.git_id


@dataclass(frozen=True)
class Commit:
    """One revision: all its files, by path, and where it comes from."""

    id: str
    parent: str | None
    title: str
    message: str
    author: str
    date: str
    files: dict[str, File]


def is_large(path: str, size: int, sample: bytes) -> bool:
    """Whether a file goes over LFS, as the Hub decides it: by suffix, by size, or because it is not text."""
    return size > 0 and (path.lower().endswith(LFS_SUFFIXES) or size > REGULAR_LIMIT or b"\0" in sample)


def now() -> str:
    """The time as the Hub writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that is there wholly or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    beside.write_bytes(data)
    beside.replace(path)


class Contents:
    """What was uploaded, each content once, named by its sha256."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, sha256: str) -> Path:
        return self.folder / sha256

    def add(self, data: bytes) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        if not self.path(sha256).exists():
            write_whole(self.path(sha256), data)
        return sha256

    def receive(self, pieces: Iterable[bytes], sha256: str, size: int) -> None:
        """Keep a content that arrives in pieces, if it is what it was announced to be.

        Raises:
            Refusal: it has another size or sha256; nothing is kept.
        """
        beside = self.folder / f".{uuid.uuid4().hex}"
        digest, received = hashlib.sha256(), 0
        try:
            with beside.open("wb") as file:
                for piece in pieces:
                    digest.update(piece)
                    received += len(piece)
                    file.write(piece)
            if received != size:
                raise Refusal(400, f"EntityTooSmall: {received} bytes came, {size} were announced")
            if digest.hexdigest() != sha256:
                raise Refusal(400, f"BadDigest: the content's sha256 is {digest.hexdigest()}, announced was {sha256}")
            beside.replace(self.path(sha256))
        finally:
            beside.unlink(missing_ok=True)

    def file(self, path: str, sha256: str, lfs: bool) -> File:
        """The file of a revision that has this content."""
        data = self.path(sha256)
        size = data.stat().st_size
        stored = data.read_bytes() if not lfs else pointer(sha256, size)
        return File(path, size, sha256, git_id(b"blob", stored), lfs)


def git_id(kind: bytes, data: bytes) -> str:
    return hashlib.sha1(b"%s %d\0" % (kind, len(data)) + data).hexdigest()


def pointer(sha256: str, size: int) -> bytes:
    """What git keeps in place of an LFS file."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


class Repository:
    """One repository; its branches, tags and visibility are in `settings`, which `save` writes."""

    def __init__(self, folder: Path, kind: str, name: str, contents: Contents):
        self.folder, self.kind, self.name, self.contents = folder, kind, name, contents
        self.settings = json.loads((folder / "settings.json").read_text())

    def save(self) -> None:
        write_whole(self.folder / "settings.json", json.dumps(self.settings, indent=1).encode())

    @property
    def owner(self) -> str:
        return self.name.split("/")[0]

    def commit(self, revision: str = "main") -> Commit:
        """The revision that a branch, a tag or a commit's id names.

        Raises:
            Refusal: there is none.
        """
        short = revision.removeprefix("refs/heads/").removeprefix("refs/tags/")
        id = self.settings["branches"].get(short) or self.settings["tags"].get(short) or revision
        path = self.folder / "commits" / f"{id}.json"
        if not id.isalnum() or not path.exists():
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        record = json.loads(path.read_text())
        return Commit(**record | {"files": {name: File(**file) for name, file in record["files"].items()}})

    def history(self, revision: str) -> list[Commit]:
        """The revision and those it comes from, newest first."""
        commits = [self.commit(revision)]
        while commits[-1].parent:
            commits.append(self.commit(commits[-1].parent))
        return commits

    def record(self, branch: str, files: dict[str, File], title: str, message: str, author: str) -> Commit:
        """Make these files a new revision and move the branch to it, which a new repository's first one begins."""
        commit = {
            "parent": self.settings["branches"].get(branch),
            "title": title,
            "message": message,
            "author": author,
            "date": now(),
            "files": {path: asdict(file) for path, file in sorted(files.items())},
        }
        commit["id"] = git_id(b"commit", json.dumps(commit).encode() + os.urandom(8))
        write_whole(self.folder / "commits" / f"{commit['id']}.json", json.dumps(commit, indent=1).encode())
        self.settings["branches"][branch] = commit["id"]
        self.save()
        return self.commit(commit["id"])


class Store:
    """All repositories, by their kind ("models", "datasets" or "spaces") and name ("OWNER/NAME").

    Who changes one must be alone from finding it to the end.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.contents = Contents(folder / "contents")

    def find(self, kind: str, name: str) -> Repository | None:
        folder = self.folder / "repositories" / kind / name
        valid = len(PurePosixPath(name).parts) == 2 and ".." not in name
        if not valid or not (folder / "settings.json").exists():
            return None
        return Repository(folder, kind, name, self.contents)

    def list(self, kind: str) -> list[Repository]:
        found = sorted((self.folder / "repositories" / kind).glob("*/*/settings.json"))
        return [Repository(path.parent, kind, "/".join(path.parts[-3:-1]), self.contents) for path in found]

    def create(self, kind: str, name: str, author: str, private: bool = False) -> Repository:
        """A new repository with the Hub's own first commit."""
        folder = self.folder / "repositories" / kind / name
        settings = {"private": private, "gated": False, "created": now(), "branches": {}, "tags": {}}
        write_whole(folder / "settings.json", json.dumps(settings).encode())
        repository = Repository(folder, kind, name, self.contents)
        lines = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES)
        attributes = self.contents.file(".gitattributes", self.contents.add(lines.encode()), lfs=False)
        repository.record("main", {attributes.path: attributes}, "initial commit", "", author)
        return repository

    def delete(self, repository: Repository) -> None:
        gone = self.folder / f".{uuid.uuid4().hex}"
        repository.folder.rename(gone)
        shutil.rmtree(gone)
