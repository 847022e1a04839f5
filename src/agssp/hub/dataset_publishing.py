"""Publishes a data set shard by shard; all of it, with its card, becomes visible in one commit."""

import json
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from agssp.data.origin import DATASET_FILE
from agssp.errors import InputError, StorageError
from agssp.files import work_folder
from agssp.hub_client.errors import NO_ROOM, hub_errors
from agssp.hub_client.retries import with_retries
from agssp.parsing import parse_json

from .dataset_card import dataset_card
from .dataset_rows import Counts, Rows, example_picture, shard_counts, write_shard
from .machine_traces import check_no_traces
from .names import check_name
from .rights import check_may_write

PICTURE = "example.jpg"
DESCRIBING = (DATASET_FILE, "README.md", PICTURE)
"""Files that `describing_files` gives."""
KEPT = (".gitattributes", "README.md", "LICENSE", "LICENSE.md")


def write_shards(
    rows: Rows, facts: dict[str, Any], shard_images: int, keep: Callable[[str, Path], None] | None, progress: Any
) -> dict[str, bytes]:
    """Write every shard, hand it over, and count what is in it.

    Args:
        rows: what is published.
        facts: from `describe_rows`; gets splits, counts, categories, shards, and what metadata images lost.
        shard_images: images a shard at most.
        keep: called with a shard's path in the repository and its file, which is gone afterwards; None only counts.
        progress: a tqdm bar over images.

    Returns:
        The example picture, if there is an image: path in the repository -> content.
    """
    best: dict[str, Any] | None = None
    categories: Counter[int] = Counter()
    splits: dict[str, dict[str, int]] = {}
    shards: dict[str, dict[str, Any]] = {}
    for split in rows.splits.values():
        counts, stream = Counts(), iter(rows.of(split))
        sizes = shard_counts(len(split), shard_images)

        def seen(counts: Counts, part: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
            nonlocal best
            for row in part:
                counts.add(row)
                # The clearest find, or the first image where there are no maps.
                if best is None or (row.get("map_max") or 0) > (best.get("map_max") or 0):
                    best = row
                progress.update()
                yield row

        for index, size in enumerate(sizes):
            part = seen(counts, islice(stream, size))
            if keep is None:
                deque(part, maxlen=0)
                continue
            name = f"data/{split.name}-{index:05d}-of-{len(sizes):05d}.parquet"
            with work_folder("dataset-push") as work, _room(work):
                file = work / Path(name).name
                digest = write_shard(file, part, rows.features)
                shards[name] = {"images": size, "bytes": file.stat().st_size, "sha256": digest}
                keep(name, file)
        categories += counts.categories
        splits[split.name] = {key: value for key, value in asdict(counts).items() if key != "categories"}
    facts["splits"] = splits
    facts["counts"] = {key: sum(one[key] for one in splits.values()) for key in next(iter(splits.values()))}
    facts["categories"] = {name: categories[label] for label, name in enumerate(rows.categories) if categories[label]}
    facts["metadata"] = "kept" if rows.keep_exif else {"dropped": dict(sorted(rows.metadata.items()))}
    if rows.mask_reading is not None:
        facts["mask_values"] = rows.mask_reading.words()
    if shards:
        facts["shards"] = shards
    return {PICTURE: example_picture(best)} if best is not None else {}


def describing_files(rows: Rows, facts: dict[str, Any], repo_id: str, picture: dict[str, bytes]) -> dict[str, bytes]:
    """dataset.json, the card and its picture; path in the repository -> content.

    Raises:
        InputError: one of them would name this machine.
    """
    card = dataset_card(facts, repo_id, rows.features, picture=next(iter(picture), None))
    record = json.dumps(facts, indent=1, ensure_ascii=False) + "\n"
    files = {DATASET_FILE: record.encode(), "README.md": card.encode(), **picture}
    for path, content in files.items():
        check_no_traces(content, path)
    return files


class Upload:
    """The way of one data set to the Hub: shards as they come, then everything in one commit.

    What the Hub would refuse it is asked when this is made, before any image is read; `begin` makes the repository.
    A shard is sent at once but belongs to no revision until the commit. What arrived in an earlier run, cut short, has
    the same hash and is not sent again. What the commit took away is named in `removed` afterwards.

    Args:
        repo_id: OWNER/NAME; made if it is not there.
        name: of the data set, as its dataset.json has it.
        private: whether a new repository is visible to its owner alone.
        revision: branch; made if it is not there.
        replace: take the place of another data set or of other files there.

    Raises:
        InputError: no token, an unknown one or one without the right to write, something else of this name, or a
            public repository where a private one is asked for.
    """

    def __init__(
        self, repo_id: str, name: str, *, private: bool = False, revision: str | None = None, replace: bool = False
    ) -> None:
        from huggingface_hub import HfApi

        check_name(repo_id)
        self.api, self.repo_id, self.revision, self.replace = HfApi(), repo_id, revision, replace
        self.private = private
        self.additions: list[Any] = []
        self.removed: list[str] = []
        with hub_errors(repo_id):
            check_may_write(self.api, repo_id)
            self._check_target(name)

    def begin(self) -> None:
        """Make the repository and the branch, where they are not there yet."""
        kind: dict[str, Any] = {"repo_type": "dataset", "exist_ok": True}
        with hub_errors(self.repo_id):
            with_retries(lambda: self.api.create_repo(self.repo_id, private=self.private or None, **kind))
            if self.revision is not None:
                with_retries(lambda: self.api.create_branch(self.repo_id, branch=str(self.revision), **kind))

    def keep(self, name: str, file: Path) -> None:
        """Send a shard, which is not needed on this machine afterwards."""
        from huggingface_hub import CommitOperationAdd

        addition = CommitOperationAdd(name, str(file))
        with hub_errors(self.repo_id):
            with_retries(
                lambda: self.api.preupload_lfs_files(
                    self.repo_id, [addition], repo_type="dataset", revision=self.revision
                )
            )
        if not addition._is_uploaded:
            # A Hub that wants small files inside the commit gets this one there; the file itself will be gone.
            addition.path_or_fileobj = file.read_bytes()
        self.additions.append(addition)

    def commit(self, files: dict[str, bytes], message: str | None = None) -> str:
        """Make it visible.

        Args:
            files: the small files that describe it.
            message: of the commit.

        Returns:
            Address of the data set at the new revision.
        """
        with hub_errors(self.repo_id):
            # Each attempt looks at the repository anew: one whose answer was lost may have done the work.
            revision = with_retries(lambda: self._commit(files, message or "Upload data set"))
        return f"{self.api.endpoint}/datasets/{self.repo_id}/tree/{revision}"

    def _check_target(self, name: str) -> None:
        from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

        try:
            try:
                there = with_retries(self._info)
            except RevisionNotFoundError:
                # A new branch begins as a copy of the main one, and is as public.
                there = with_retries(lambda: self.api.dataset_info(self.repo_id))
        except RepositoryNotFoundError:
            return
        if self.private and not there.private:
            raise InputError(f"{self.repo_id}: is public already; take another name for what must stay private")
        names = [sibling.rfilename for sibling in there.siblings or []]
        others = [each for each in names if each not in KEPT]
        if not others or self.replace:
            return
        found = self._name(there.sha) if DATASET_FILE in names else None
        if found != name:
            what = f"the data set {found!r}" if found else f"other files ({', '.join(others[:5])})"
            raise InputError(
                f"{self.repo_id}: holds {what} already, this one is {name!r}; choose another name, or --replace what "
                "is there"
            )

    def _commit(self, files: dict[str, bytes], message: str) -> str:
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        there = self._info()
        names = [sibling.rfilename for sibling in there.siblings or []]
        new = {addition.path_in_repo for addition in self.additions} | set(files)
        # dataset.json names the hash of every shard, so with it and all of them there nothing is left to do.
        if new <= set(names) and all(
            self._download(name, there.sha) == files[name] for name in (DATASET_FILE, "README.md")
        ):
            return str(there.sha)
        stale = [
            name
            for name in names
            if name not in new
            and (name == PICTURE or (name.startswith("data/") and name.endswith(".parquet")) or self.replace)
            and name not in KEPT
        ]
        self.removed = stale
        operations: list[Any] = [CommitOperationDelete(name) for name in stale]
        operations += [*self.additions, *(CommitOperationAdd(name, content) for name, content in files.items())]
        done = self.api.create_commit(
            self.repo_id, operations, repo_type="dataset", commit_message=message, revision=self.revision,
            parent_commit=there.sha,
        )  # fmt: skip
        return str(done.oid)

    def _info(self) -> Any:
        return self.api.dataset_info(self.repo_id, revision=self.revision)

    def _name(self, revision: str) -> Any:
        """What the data set is called that is there."""
        facts = parse_json(self._download(DATASET_FILE, revision), f"{self.repo_id}/{DATASET_FILE}")
        return facts.get("name") if isinstance(facts, dict) else None

    def _download(self, name: str, revision: str) -> bytes:
        return Path(self.api.hf_hub_download(self.repo_id, name, repo_type="dataset", revision=revision)).read_bytes()


@contextmanager
def _room(folder: Path) -> Iterator[None]:
    """Raise StorageError where the disk with this folder is full."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise StorageError(
            f"{folder}: the disk is full; each shard lies there while it is sent. Make room, set TMPDIR to a folder "
            "on another disk, or give a smaller --shard-images"
        ) from error
