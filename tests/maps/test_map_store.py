"""The files of a map store: whole or absent, the first of two writers wins; its maps: read when they are asked for."""

import os
import pickle
import tracemalloc

import numpy as np
import pyarrow.parquet as pq
import pytest

from agssp.errors import InputError
from agssp.files import write_once
from agssp.maps import store as map_store
from agssp.maps.store import MapStore


def test_a_store_begun_in_another_way_at_the_same_moment_is_refused(tmp_path, monkeypatch):
    def slower(path, write):
        # Another process begins the store after this one has looked.
        path.parent.mkdir()
        path.write_text('{"categories": [], "grid_size": 4, "teacher": "first"}')
        return write_once(path, write)

    monkeypatch.setattr(map_store, "write_once", slower)
    with pytest.raises(InputError, match="made in another way"):
        MapStore.create(tmp_path / "maps", {"categories": [], "grid_size": 4, "teacher": "second"})
    assert MapStore.open(tmp_path / "maps").manifest["teacher"] == "first"


def write_maps(folder, shards, grid=4, seed=0):
    """A store of the given numbers of maps a shard, and image_id -> its map."""
    generator = np.random.default_rng(seed)
    store, everything = MapStore.create(folder, {"categories": ["plate"], "grid_size": grid}), {}
    for shard, count in enumerate(shards):
        maps = generator.random((count, grid, grid), np.float32).astype(np.float16)
        facts = {"category": 0, "is_normal": None, "width": 8, "height": 8, "anomaly_score": 0.5, "map_max": 0.5}
        rows = [{"image_id": f"{shard}-{index}", **facts} for index in range(count)]
        store.write_shard(store.shard_path(shard, len(shards)), rows, maps, [])
        everything |= {row["image_id"]: anomaly_map for row, anomaly_map in zip(rows, maps, strict=True)}
    return store, everything


@pytest.mark.parametrize("shards", [[], [0], [0, 0]])
def test_an_empty_store_has_no_map(tmp_path, shards):
    store, _ = write_maps(tmp_path / "maps", shards)
    assert len(store) == 0
    assert "0-0" not in store
    with pytest.raises(KeyError, match=r"^'0-0'$"):
        store["0-0"]


@pytest.mark.parametrize("shards", [[1], [3], [3, 0, 5, 1], [0, 2]])
def test_maps_in_any_order(tmp_path, shards):
    _, everything = write_maps(tmp_path / "maps", shards)
    for seed in range(3):
        store = MapStore.open(tmp_path / "maps")
        for image_id in np.random.default_rng(seed).permutation(list(everything)):
            found = store[str(image_id)]
            assert found.dtype == np.float16
            np.testing.assert_array_equal(found, everything[image_id])
    assert "3-0-0" not in store


def test_a_shard_is_read_when_a_map_of_it_is_asked_for_and_once(tmp_path, monkeypatch):
    write_maps(tmp_path / "maps", [3, 3, 3])
    read, read_table = [], pq.read_table

    def counted(path, columns=None):
        read.append((path.name[5:10], columns))
        return read_table(path, columns=columns)

    monkeypatch.setattr(map_store.pq, "read_table", counted)
    store = MapStore.open(tmp_path / "maps")
    assert "1-2" in store
    assert read == [(f"0000{shard}", ["image_id"]) for shard in range(3)]
    for image_id in ("2-0", "0-1", "2-1", "0-1", "2-0"):
        store[image_id]
    assert read[3:] == [("00002", ["anomaly_map"]), ("00000", ["anomaly_map"])]


def test_a_copy_for_another_process_carries_no_maps(tmp_path):
    store, everything = write_maps(tmp_path / "maps", [40])
    np.testing.assert_array_equal(store["0-7"], everything["0-7"])
    packed = pickle.dumps(store)
    assert len(packed) < 40 * 4 * 4 * 2
    np.testing.assert_array_equal(pickle.loads(packed)["0-7"], everything["0-7"])


def test_no_second_copy_of_all_maps_is_made(tmp_path):
    _, everything = write_maps(tmp_path / "maps", [50] * 20, grid=32)
    store = MapStore.open(tmp_path / "maps")
    tracemalloc.start()
    try:
        for image_id in everything:
            store[image_id]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # NumPy's own memory: a shard or so beside the shared maps, of 20.
    assert peak < 3 * 50 * 32 * 32 * 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forked workers here")
def test_forked_workers_share_the_maps(tmp_path):
    _, everything = write_maps(tmp_path / "maps", [5, 5])
    store = MapStore.open(tmp_path / "maps")
    assert "0-0" in store
    child = os.fork()
    if child == 0:
        same = all(np.array_equal(store[image_id], everything[image_id]) for image_id in everything)
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0
    # What the child has read lies in this process's memory as well.
    np.testing.assert_array_equal(store._maps, np.stack(list(everything.values())))
