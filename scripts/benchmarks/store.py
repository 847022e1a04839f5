"""What the map store costs beside bare pyarrow, NumPy and datasets: writing, reading, lookups, size; with the ratios.

python scripts/benchmark.py store
python scripts/benchmark.py store --maps 200000 --grid 15 --rounds 1

The maps are synthetic: smooth noise with a few bumps, as float16. Files are read back from the page cache.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from agssp.maps.store import MapStore

Row = dict[str, Any]
# The store's own settings, so that both sides compress the same numbers in the same way.
BARE_OPTIONS = {
    "compression": "zstd",
    "use_dictionary": False,
    "use_byte_stream_split": ["anomaly_map.list.element"],
}


def synthetic_maps(count: int, grid: int) -> np.ndarray:
    """Smooth noise around 0.2 with up to three bumps: float16 (n, g, g)."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:grid, :grid].astype(np.float32)
    maps = np.empty((count, grid, grid), np.float16)
    for row in maps:
        values = 0.2 + 0.05 * cv2.GaussianBlur(generator.standard_normal((grid, grid), np.float32), (0, 0), 1)
        for _ in range(generator.integers(0, 4)):
            cy, cx, height, spread = generator.uniform((0, 0, 0.2, 0.8), (grid, grid, 0.7, 2.5))
            values += height * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * spread**2))
        row[:] = values
    return maps


def facts(maps: np.ndarray) -> list[Row]:
    """The other columns of the store."""
    maxima = maps.reshape(len(maps), -1).max(1).tolist()
    return [
        {
            "image_id": f"plate/unlabelled/{index:07d}.jpg",
            "category": 0,
            "is_normal": None,
            "width": 640,
            "height": 640,
            "anomaly_score": highest,
            "map_max": highest,
        }
        for index, highest in enumerate(maxima)
    ]


def write_store(folder: Path, rows: list[Row], maps: np.ndarray, shard: int) -> None:
    """All rows through `MapStore.write_shard`."""
    store = MapStore.create(folder, {"categories": ["plate"], "grid_size": maps.shape[-1]})
    starts = range(0, len(rows), shard)
    for index, start in enumerate(starts):
        part = slice(start, start + shard)
        store.write_shard(store.shard_path(index, len(starts)), rows[part], maps[part], [])


def write_bare(folder: Path, columns: dict[str, pa.Array], maps: np.ndarray, shard: int) -> None:
    """The same columns with pyarrow alone: arrays made beforehand, maps flat, nothing made durable."""
    folder.mkdir()
    cells = maps.shape[-1] ** 2
    for start in range(0, len(maps), shard):
        part = maps[start : start + shard]
        flat = pa.FixedSizeListArray.from_arrays(pa.array(part.reshape(-1)), cells)
        scalars = {name: column.slice(start, shard) for name, column in columns.items()}
        pq.write_table(pa.table(scalars | {"anomaly_map": flat}), folder / f"{start:07d}.parquet", **BARE_OPTIONS)


def read_bare(folder: Path, grid: int) -> int:
    """All maps with pyarrow alone; how many."""
    count = 0
    for path in sorted(folder.glob("*.parquet")):
        table = pq.read_table(path)
        count += len(table["anomaly_map"].combine_chunks().flatten().to_numpy().reshape(-1, grid, grid))
    return count


def seconds(call: Callable[[], object]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def report(title: str, spent: dict[str, list[float]], count: int, what: str) -> None:
    """Print each side's rate, and its time as a share of the first side's."""
    print(title)
    ours = next(iter(spent.values()))
    for name, times in spent.items():
        ratio = statistics.median(a / b for a, b in zip(ours, times, strict=True))
        middle = statistics.median(times)
        print(f"  {name:<44} {count / middle:>12,.0f} {what}/s {1e6 * middle / count:>9.2f} us   ratio {ratio:7.3f}")


def megabytes(folder: Path) -> float:
    """Size of the files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def main(argv: Sequence[str]) -> None:
    """Measure all sides in turns and print them with the store's ratio to each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maps", type=int, default=20_000, help="how many")
    parser.add_argument("--grid", type=int, default=27, help="side of the maps")
    parser.add_argument("--shard", type=int, default=2000, help="maps a file")
    parser.add_argument("--lookups", type=int, default=2000, help="maps read one by one in random order")
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds; the median counts")
    args = parser.parse_args(argv)

    maps = synthetic_maps(args.maps, args.grid)
    rows = facts(maps)
    columns = {name: pa.array([row[name] for row in rows]) for name in rows[0]}
    order = np.random.default_rng(1).integers(0, args.maps, args.lookups).tolist()
    ids = [rows[index]["image_id"] for index in order]
    writing: dict[str, list[float]] = {"MapStore.write_shard": [], "pyarrow, same compression": [], "numpy.save": []}
    reading: dict[str, list[float]] = {"MapStore.iter_shards": [], "pyarrow": [], "numpy.load": []}
    single: dict[str, list[float]] = {"store[image_id]": [], "numpy slice": [], "datasets, row": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(args.rounds + 1):
            ours, bare, raw = (folder / f"{side}{number}" for side in ("store", "bare", "raw"))
            raw.mkdir()
            times = [
                seconds(lambda ours=ours: write_store(ours, rows, maps, args.shard)),
                seconds(lambda bare=bare: write_bare(bare, columns, maps, args.shard)),
                seconds(lambda raw=raw: np.save(raw / "maps.npy", maps)),
            ]
            if number:  # the first round warms up
                for spent, value in zip(writing.values(), times, strict=True):
                    spent.append(value)
        store = MapStore.open(ours)
        whole = np.concatenate([part for _, part in store.iter_shards()])
        if not np.array_equal(whole, maps):
            raise SystemExit("the store gives other maps than were written")
        datasets.disable_progress_bars()
        table = datasets.load_dataset(
            "parquet", data_dir=str(ours / "data"), split="train", cache_dir=str(folder / "cache")
        )
        table = table.select_columns("anomaly_map").with_format("numpy")
        for number in range(args.rounds + 1):
            times = [
                seconds(lambda: sum(len(part) for _, part in store.iter_shards())),
                seconds(lambda: read_bare(bare, args.grid)),
                seconds(lambda: np.load(raw / "maps.npy")),
            ]
            index = seconds(lambda: ids[0] in MapStore.open(ours))
            _ = ids[0] in store
            lookups = [
                seconds(lambda: [store[image_id] for image_id in ids]),
                seconds(lambda: [whole[row] for row in order]),
                seconds(lambda: [table[row]["anomaly_map"] for row in order]),
            ]
            if number:
                for spent, value in zip([*reading.values(), *single.values()], [*times, *lookups], strict=True):
                    spent.append(value)
        sizes = {side: megabytes(path) for side, path in (("store", ours), ("bare", bare), ("raw", raw))}

    print(f"{args.maps} synthetic maps of {args.grid} x {args.grid} float16, {args.shard} a shard")
    print(f"pyarrow {pa.__version__}, datasets {datasets.__version__}; ratio: time of the store to that side")
    report("writing (the store's side also makes its columns from rows, and is durable)", writing, args.maps, "maps")
    report("reading all", reading, args.maps, "maps")
    report(f"one map at random, its shard read before (index made in {index:.3f} s)", single, args.lookups, "maps")
    print("size")
    for side, label in (("store", "store"), ("bare", "pyarrow, same compression"), ("raw", "raw float16")):
        print(f"  {label:<44} {sizes[side]:8.1f} MB   ratio {sizes['store'] / sizes[side]:7.3f}")
