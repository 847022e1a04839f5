"""The store of anomaly maps: Parquet shards that are whole or absent, under a manifest that says how they were made."""

import bisect
import difflib
import hashlib
import json
import math
import mmap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets.features.features import Array2DExtensionType

from agssp.data.parquet_files import check_footer, naming, read_table
from agssp.data.schema import map_features
from agssp.errors import InputError
from agssp.faults import raise_storage_fault
from agssp.files import open_whole, write_lines, write_once
from agssp.hub_client.names import written_by
from agssp.parsing import parse_json, read_json

MANIFEST = "manifest.json"
REFERENCES = "references.safetensors"
MOST_CELLS = 4096
"""On a side of a map; teachers have 14 to 37."""
SKIPPED = "skipped.jsonl"
READING = "reading.json"
OWN_FILES = {MANIFEST, REFERENCES, SKIPPED, READING, "data"}
# Facts that may change without changing a map.
NOT_COMPARED = ("source",)


def write_parquet(path: Path, table: pa.Table, **options: Any) -> None:
    """Write a Parquet file, whole or not at all; `options` are `pyarrow.parquet.write_table`'s."""
    with open_whole(path, "wb") as file:
        pq.write_table(table, file, **options)


def map_table(
    categories: Sequence[str], rows: Sequence[dict[str, Any]], maps: np.ndarray, metadata: dict[str, str]
) -> pa.Table:
    """Bring the maps of a shard to the store's schema, without a detour through Python lists.

    Args:
        categories: names, in label order.
        rows: `image_id`, `category` (index), `is_normal`, `width`, `height`, `anomaly_score`, `map_max` of each image.
        maps: float16 (n, g, g).
        metadata: texts kept in the file's footer.

    Returns:
        A table that `load_dataset("parquet")` reads with `Array2D` maps.
    """
    count, grid = len(rows), maps.shape[-1]
    flat = pa.array(np.ascontiguousarray(maps, dtype=np.float16).reshape(-1))
    inner = pa.ListArray.from_arrays(np.arange(0, count * grid * grid + 1, grid, dtype=np.int32), flat)
    outer = pa.ListArray.from_arrays(np.arange(0, count * grid + 1, grid, dtype=np.int32), inner)
    schema = map_features(categories, grid).arrow_schema
    columns = []
    for field in schema:
        if field.name == "anomaly_map":
            columns.append(pa.ExtensionArray.from_storage(Array2DExtensionType((grid, grid), "float16"), outer))
        else:
            columns.append(pa.array([row[field.name] for row in rows], field.type))
    merged = {**(schema.metadata or {}), **{key.encode(): value.encode() for key, value in metadata.items()}}
    return pa.Table.from_arrays(columns, schema=schema.with_metadata(merged))


def _identity(path: Path) -> tuple[int, int]:
    """What changes when a file is replaced by another, be it of the same bytes."""
    found = path.stat()
    return found.st_ino, found.st_mtime_ns


class MapStore:
    """Anomaly maps of a data set on disk.

    `OUTPUT/data/maps-00042-of-00120.parquet` (a shard is the unit of work), `manifest.json` (how the maps were made),
    `references.safetensors` (what they were compared with), `skipped.jsonl` (images that could not be read, and why),
    `reading.json` (what was found, changed and left out when the data set was read).

    `iter_shards` holds one shard at a time. `store[image_id]` keeps the maps of every shard it has touched, because
    training reads them in random order: in the end all maps, once, as float16 (120,000 of 27 x 27 are 175 MB). The
    workers that a DataLoader forks after the first look-up share that memory.

    Args:
        path: folder of the store.
        manifest: its manifest.
    """

    def __init__(self, path: str | Path, manifest: dict[str, Any]) -> None:
        self.path, self.manifest = Path(path), manifest
        self._rows: dict[str, int] | None = None
        self._paths: list[Path] = []
        self._starts: list[int] = []
        self._read: list[bool] = []
        self._maps = np.zeros((0, 0, 0), np.float16)
        self._retried: dict[Path, tuple[int, int]] = {}

    def __getstate__(self) -> dict[str, Any]:
        # A process that is not forked finds the shards again; copying the maps to it would take their memory anew.
        return {"path": self.path, "manifest": self.manifest}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    @classmethod
    def create(cls, path: str | Path, manifest: dict[str, Any]) -> "MapStore":
        """Open a store for writing, or begin it.

        Raises:
            InputError: the folder holds something else, or a store made in another way; the difference is shown.
        """
        path = Path(path)
        if path.exists() and not path.is_dir():
            raise InputError(f"--output {path}: expected a folder, there is a file of that name")
        present = {item.name for item in path.iterdir() if not item.name.startswith(".")} if path.exists() else set()
        if MANIFEST in present:
            store = cls.open(path)
            store.compare(manifest)
            return store
        if present:
            raise InputError(
                f"--output {path}: holds {', '.join(sorted(present)[:4])} but no {MANIFEST}, so it is no map store; "
                "give a new folder"
            )
        content = (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode()
        if not write_once(path / MANIFEST, lambda part: part.write_bytes(content)):
            return cls.create(path, manifest)  # another process began it a moment ago, perhaps in another way
        return cls(path, manifest)

    @classmethod
    def open(cls, path: str | Path) -> "MapStore":
        """Open a store that `agssp anomaly-maps` wrote.

        Raises:
            InputError: there is none.
        """
        file = Path(path) / MANIFEST
        if not file.is_file():
            raise InputError(f"{path}: is no map store (no {MANIFEST}); {written_by(path, 'anomaly-maps')}")
        manifest = read_json(file, keys=("grid_size", "categories"), remedy=written_by(path, "anomaly-maps"))
        grid, names = manifest["grid_size"], manifest["categories"]
        if type(grid) is not int or not 0 < grid <= MOST_CELLS:
            raise InputError(f"{file}: grid_size is {grid!r}; expected cells on a side, 1 to {MOST_CELLS}")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise InputError(f"{file}: categories are {str(names)[:80]}; expected a list of names")
        return cls(path, manifest)

    def compare(self, manifest: dict[str, Any]) -> None:
        """Raise unless this store was made as `manifest` says.

        Raises:
            InputError: with the lines that differ.
        """
        texts = []
        for facts in (self.manifest, manifest):
            kept = {key: value for key, value in facts.items() if key not in NOT_COMPARED}
            texts.append(json.dumps(kept, indent=1, sort_keys=True).splitlines())
        if texts[0] != texts[1]:
            difference = [
                line
                for line in difflib.unified_diff(texts[0], texts[1], "the store", "this command", lineterm="", n=0)
                if line[:2] != "@@"
            ]
            raise InputError(
                f"{self.path}: its maps were made in another way; give another --output, or the same flags:\n"
                + "\n".join(difference[:40])
            )

    @property
    def key(self) -> str:
        """Short hash of the manifest, written into every shard."""
        kept = {name: value for name, value in self.manifest.items() if name not in NOT_COMPARED}
        return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def categories(self) -> list[str]:
        """Names of the object categories, in label order."""
        return list(self.manifest["categories"])

    @property
    def grid_size(self) -> int:
        """Side of the maps in cells."""
        return int(self.manifest["grid_size"])

    @property
    def _data(self) -> Path:
        # pyarrow takes a relative path whose first folder has a colon for an address.
        return self.path.absolute() / "data"

    def shard_path(self, index: int, count: int | None) -> Path:
        """Where a shard belongs; `count` is None while a stream's length is not known."""
        name = f"maps-{index:05d}.parquet" if count is None else f"maps-{index:05d}-of-{count:05d}.parquet"
        return self._data / name

    def is_done(self, path: Path) -> bool:
        """Whether a shard is there, whole, and made as the manifest says."""
        if not path.is_file() or (path in self._retried and _identity(path) == self._retried[path]):
            return False
        try:
            metadata = pq.read_schema(path).metadata or {}
        except (pa.ArrowInvalid, OSError) as error:
            raise_storage_fault(error, path)
            return False
        return metadata.get(b"agssp_manifest") == self.key.encode()

    def write_shard(
        self, path: Path, rows: Sequence[dict[str, Any]], maps: np.ndarray, skipped: Sequence[dict[str, str]]
    ) -> None:
        """Write one shard; the same rows give the same bytes. Columns as in `map_table`."""
        metadata = {"agssp_manifest": self.key, "agssp_skipped": json.dumps(list(skipped))}
        table = map_table(self.categories, rows, maps.reshape(-1, self.grid_size, self.grid_size), metadata)
        write_parquet(
            path,
            table,
            compression="zstd",
            use_dictionary=False,
            use_byte_stream_split=["anomaly_map.list.element.list.element"],
        )

    def shards(self) -> list[Path]:
        """The finished shards, in order."""
        return [path for path in sorted(self._data.glob("maps-*.parquet")) if self.is_done(path)]

    def skipped(self) -> list[dict[str, str]]:
        """Images without a map: `image_id` and `reason`, in the order of the data set."""
        return [entry for path in self.shards() for entry in self._skipped_of(path)]

    def retry_skipped(self) -> int:
        """Take finished shards that list skipped images for unfinished until they are written anew, by any process.

        They stay readable to others meanwhile.

        Returns:
            How many images they list.
        """
        lists = {path: self._skipped_of(path) for path in self.shards()}
        self._retried = {path: _identity(path) for path, entries in lists.items() if entries}
        return sum(map(len, lists.values()))

    def _skipped_of(self, path: Path) -> list[dict[str, str]]:
        content = (check_footer(path).metadata or {}).get(b"agssp_skipped", b"[]")
        return parse_json(content, f"{path}, its `agssp_skipped`")

    def write_skipped(self) -> list[dict[str, str]]:
        """Write skipped.jsonl from what the shards say, and return it."""
        skipped = self.skipped()
        write_lines(self.path / SKIPPED, skipped)
        return skipped

    def table(self) -> pa.Table:
        """All columns but the maps, of all finished shards, in order."""
        names = [name for name in map_features(self.categories, self.grid_size) if name != "anomaly_map"]
        tables = [read_table(path, names).replace_schema_metadata(None) for path in self.shards()]
        if not tables:
            raise InputError(f"{self.path}: has no finished shard yet; run `agssp anomaly-maps` again to finish it")
        return pa.concat_tables(tables)

    def iter_shards(self) -> Iterator[tuple[pa.Table, np.ndarray]]:
        """The finished shards one by one: their table without maps, and the maps float16 (n, g, g)."""
        for path in self.shards():
            yield self.read_shard(path)

    def read_shard(self, path: Path) -> tuple[pa.Table, np.ndarray]:
        """One shard: its table without maps, and the maps float16 (n, g, g)."""
        table = read_table(path)
        return table.drop_columns("anomaly_map").replace_schema_metadata(None), self._map_array(table, path)

    def __len__(self) -> int:
        return sum(check_footer(path).num_rows for path in self.shards())

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._index()

    def __getitem__(self, image_id: str) -> np.ndarray:
        """The map of an image, float16 (g, g).

        Raises:
            KeyError: there is none.
        """
        row = self._index()[image_id]
        shard = bisect.bisect_right(self._starts, row) - 1
        if not self._read[shard]:
            maps = self._map_array(read_table(self._paths[shard], ["anomaly_map"]), self._paths[shard])
            self._maps[self._starts[shard] : self._starts[shard] + len(maps)] = maps
            self._read[shard] = True
        return self._maps[row]

    def _index(self) -> dict[str, int]:
        """The row of each image in all shards laid end to end; reads no map."""
        if self._rows is None:
            ids: list[str] = []
            for path in self.shards():
                self._paths.append(path)
                self._starts.append(len(ids))
                ids += read_table(path, ["image_id"])["image_id"].to_pylist()
            self._read = [False] * len(self._paths)
            # Anonymous memory that forked processes share. Each of them fills in a shard before it reads there, with
            # the same bytes, so they need not wait for each other. What is never touched takes no memory.
            shape = (len(ids), self.grid_size, self.grid_size)
            memory = mmap.mmap(-1, max(1, 2 * math.prod(shape)))
            self._maps = np.frombuffer(memory, np.float16, math.prod(shape)).reshape(shape)
            self._rows = {image_id: row for row, image_id in enumerate(ids)}
        return self._rows

    def _map_array(self, table: pa.Table, path: Path) -> np.ndarray:
        cells = len(table) * self.grid_size**2
        with naming(path):
            storage = table["anomaly_map"].combine_chunks()
            storage = storage.storage if isinstance(storage, pa.ExtensionArray) else storage
            flat = storage.flatten().flatten().to_numpy(zero_copy_only=False)
            if len(flat) != cells:
                raise ValueError(f"{len(flat):,} cells in {len(table)} maps of {self.grid_size} x {self.grid_size}")
            return flat.astype(np.float16, copy=False).reshape(-1, self.grid_size, self.grid_size)
