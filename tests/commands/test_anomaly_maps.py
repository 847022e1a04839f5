import json
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from datasets import load_dataset
from map_cases import TEACHER, arguments, contents, write_images, write_teacher
from safetensors.torch import save_file

from agssp.commands.anomaly_maps import main
from agssp.data.content import content_hash
from agssp.data.images import decode_image
from agssp.data.readers import read_dataset
from agssp.errors import InputError, StorageError
from agssp.maps.modeling_kead import KeAD
from agssp.maps.store import MapStore


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def files(tmp_path):
    write_images(tmp_path / "images")
    write_teacher(tmp_path / "teacher.safetensors")
    return tmp_path


def write_table(files):
    """The images as one Parquet file."""
    source = read_dataset(files / "images")
    embedded = source.map(lambda row: {"image": {"bytes": open(row["image"]["path"], "rb").read(), "path": None}})  # noqa: SIM115, PTH123
    (files / "table").mkdir()
    embedded.to_parquet(files / "table/train-00000-of-00001.parquet")
    return str(files / "table")


def test_no_images(tmp_path):
    (tmp_path / "images").mkdir()
    write_teacher(tmp_path / "teacher.safetensors")
    with pytest.raises(InputError, match="no images found"):
        main(arguments(tmp_path))
    assert not (tmp_path / "maps").exists()


def test_maps_are_those_of_kead_on_each_image_alone(files, capsys):
    main(arguments(files))
    store = MapStore.open(files / "maps")
    kead = KeAD.from_teacher(
        f"timm:{TEACHER}", weights=files / "teacher.safetensors", image_size=64, layers=[16], device="cpu"
    )
    kead.load_references(files / "maps/references.safetensors")
    rows = read_dataset(files / "images")
    names = rows.features["category"].names
    assert len(store) == 23
    for row in rows:
        if row["image_id"] == "plate/normal/005.png":
            assert row["image_id"] not in store
            continue
        image = decode_image(row["image"])
        alone = kead(kead.preprocess(image)[None], [names[row["category"]]], [content_hash(row["image"])])
        np.testing.assert_allclose(store[row["image_id"]], alone.anomaly_maps[0].numpy(), atol=1e-3)
    table = store.table()
    assert set(table["width"].to_pylist()) == {48}
    assert set(table["height"].to_pylist()) == {40}
    assert table["map_max"].to_pylist() == [float(store[image_id].max()) for image_id in table["image_id"].to_pylist()]
    skipped = [json.loads(line) for line in (files / "maps/skipped.jsonl").read_text().splitlines()]
    assert [entry["image_id"] for entry in skipped] == ["plate/normal/005.png"]
    assert "no known image format" in skipped[0]["reason"]
    kept = json.loads((files / "maps/reading.json").read_text())
    assert (kept["layout"], kept["images"], kept["changes"]) == ("imagefolder", 24, {})
    output = capsys.readouterr().out
    assert "1 images skipped" in output
    assert "next: agssp pseudo-boxes" in output


def test_plain_datasets_reads_the_store(files):
    main(arguments(files))
    data = load_dataset("parquet", data_dir=str(files / "maps/data"), split="train")
    store = MapStore.open(files / "maps")
    assert data.features["category"].names == ["plate", "strip"]
    row = data[7]
    np.testing.assert_array_equal(np.array(row["anomaly_map"], np.float16), store[row["image_id"]])


def test_second_run_changes_nothing_and_a_lost_shard_comes_back_the_same(files):
    main(arguments(files))
    before = contents(files / "maps")
    stamps = {path: path.stat().st_mtime_ns for path in (files / "maps/data").iterdir()}
    lost = sorted(stamps)[2]
    lost.unlink()
    sorted(stamps)[3].write_bytes(before["data/maps-00003-of-00006.parquet"][:-50])
    main(arguments(files))
    assert contents(files / "maps") == before
    untouched = [path for path in stamps if path.name[:10] not in ("maps-00002", "maps-00003")]
    assert all(path.stat().st_mtime_ns == stamps[path] for path in untouched)


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"image_size": 96}, '"image_size": 96'),
        ({"seed": 1}, '"seed": 1'),
        ({"reference_fraction": 0.5}, '"fraction": 0.5'),
        ({"max_pixels": 5000}, '"max_pixels": 5000'),
    ],
)
def test_store_made_in_another_way_is_refused_with_the_difference(files, changes, shown):
    main(arguments(files))
    with pytest.raises(InputError, match="made in another way") as error:
        main(arguments(files, **changes))
    assert f"+ {shown}" in str(error.value).replace("+  ", "+ ").replace("+  ", "+ ")


def test_store_of_another_teacher_is_refused(files):
    main(arguments(files))
    write_teacher(files / "other.safetensors", seed=1)
    with pytest.raises(InputError, match="weights_sha256"):
        main(arguments(files, weights=str(files / "other.safetensors")))


def test_folder_with_foreign_content_is_refused(files):
    (files / "maps").mkdir()
    (files / "maps/thesis.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds thesis.txt but no manifest.json"):
        main(arguments(files))


def test_too_few_normal_images(files):
    with pytest.raises(InputError, match=r"plate has 5; strip has 6.*--references mutual"):
        main(arguments(files, references="normal", shots=7))


def test_auto_takes_normals_where_there_are_enough(files):
    main(arguments(files, references="auto", shots=6))
    chosen = MapStore.open(files / "maps").manifest["references"]["chosen"]
    assert {name: (entry["mode"], len(entry["image_ids"])) for name, entry in chosen.items()} == {
        "plate": ("mutual", 3),
        "strip": ("normal", 6),
    }
    assert all("/normal/" in image_id for image_id in chosen["strip"]["image_ids"])


def test_references_from_a_folder(files):
    write_images(files / "sound", count=4, broken=None)
    main(arguments(files, references=str(files / "sound"), shots=2))
    chosen = MapStore.open(files / "maps").manifest["references"]["chosen"]
    assert [len(entry["image_ids"]) for entry in chosen.values()] == [2, 2]


def test_maps_that_are_not_finite_are_skipped(files):
    state = timm.create_model(TEACHER, num_classes=0).state_dict()
    save_file({key: torch.full_like(value, torch.nan) if value.ndim == 4 else value for key, value in state.items()},
              files / "teacher.safetensors")  # fmt: skip
    main(arguments(files))
    store = MapStore.open(files / "maps")
    assert len(store) == 0
    assert {entry["reason"] for entry in store.skipped()} >= {"its anomaly map is not finite"}
    assert len(store.skipped()) == 24


@pytest.mark.slow
def test_stream_gives_the_same_maps(files):
    table = write_table(files)
    main(arguments(files, "whole", dataset=table))
    main(arguments(files, "streamed", dataset=table, streaming=True))
    whole, streamed = MapStore.open(files / "whole"), MapStore.open(files / "streamed")
    assert streamed.table().equals(whole.table())
    for image_id in whole.table()["image_id"].to_pylist():
        np.testing.assert_array_equal(whole[image_id], streamed[image_id])


@pytest.mark.slow
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_finishes_what_the_others_left(files, monkeypatch, capsys, streaming, rank):
    table = write_table(files)
    main(arguments(files, "alone", dataset=table, streaming=streaming))
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", "2")
    capsys.readouterr()
    main(arguments(files, "left", dataset=table, streaming=streaming))
    assert contents(files / "left") == contents(files / "alone")
    assert len((files / "left/skipped.jsonl").read_text().splitlines()) == 1
    printed = capsys.readouterr().out
    assert ("23 maps of 4 x 4" in printed and "1 images skipped" in printed) if rank == 0 else printed == ""


def test_the_references_of_the_first_process_count_for_all(files, monkeypatch):
    save, first = KeAD.save_references, files / "first.safetensors"

    def late(kead, part):
        # Another process, whose last bits differ, is a moment ahead.
        bank = kead.banks["plate"]
        kead.banks["plate"] = replace(bank, tokens=bank.tokens * 0.5)
        save(kead, first)
        (files / "maps/references.safetensors").write_bytes(first.read_bytes())
        kead.banks["plate"] = bank
        save(kead, part)

    monkeypatch.setattr(KeAD, "save_references", late)
    main(arguments(files))
    assert (files / "maps/references.safetensors").read_bytes() == first.read_bytes()
    assert min(map(np.min, [maps for _, maps in MapStore.open(files / "maps").iter_shards()][:3])) > 0.2


@pytest.mark.slow
def test_decoding_in_worker_processes_gives_the_same_bytes(files):
    main(arguments(files))
    main(arguments(files, "parallel", workers=2))
    assert contents(files / "parallel") == contents(files / "maps")


def test_the_kead_that_drew_the_maps_is_saved_and_draws_them_again(files):
    main(arguments(files, kead=str(files / "kead"), dtype="float32"))
    kead, store = KeAD.from_pretrained(files / "kead", device="cpu"), MapStore.open(files / "maps")
    row = read_dataset(files / "images")[0]
    pixel_values = kead.preprocess(decode_image(row["image"], row["image_id"]))[None]
    drawn = kead(pixel_values, ["plate"], [content_hash(row["image"])]).anomaly_maps[0]
    np.testing.assert_allclose(drawn.numpy(), store[row["image_id"]], atol=1e-3)


def test_a_share_that_is_gone_ends_the_command_skips_nothing_and_the_same_command_goes_on(files, monkeypatch):
    main(arguments(files, "whole"))
    from agssp.maps import drawing as map_drawing

    draw, count = map_drawing.finish_shard, 0

    def unmount(*words):
        nonlocal count
        count += 1
        if count == 3:
            (files / "images/strip").rename(files / "strip")
        draw(*words)

    monkeypatch.setattr(map_drawing, "finish_shard", unmount)
    with pytest.raises(StorageError, match=r"strip/.*: no such file: .*, and nothing is in its folder"):
        main(arguments(files))
    monkeypatch.undo()
    store = MapStore.open(files / "maps")
    assert 0 < len(store.shards()) < 6
    assert [entry["image_id"] for entry in store.skipped()] == ["plate/normal/005.png"]
    (files / "strip").rename(files / "images/strip")
    main(arguments(files))
    assert contents(files / "maps") == contents(files / "whole")


def test_skipped_images_are_tried_again_where_that_is_asked_for(files, capsys):
    with pytest.raises(InputError, match="--retry-skipped: there is no map store"):
        main(arguments(files, retry_skipped=True))
    broken = files / "images/plate/normal/005.png"
    good = (files / "images/plate/normal/003.png").read_bytes()
    # As long as it was, or it would be another data set.
    broken.write_bytes(b"\0" * len(good))
    main(arguments(files))
    before = contents(files / "maps")
    kept = {path: path.stat().st_ino for path in (files / "maps/data").iterdir()}
    broken.write_bytes(good)
    main(arguments(files))
    assert contents(files / "maps") == before
    main(arguments(files, retry_skipped=True))
    assert "1 images were skipped before and are tried again" in capsys.readouterr().out
    store = MapStore.open(files / "maps")
    assert store.skipped() == []
    assert len(store) == 24
    assert sum(path.stat().st_ino != number for path, number in kept.items()) == 1
    main(arguments(files, retry_skipped=True))
    assert "no image was skipped before" in capsys.readouterr().out
