"""`agssp dataset build` and `verify`: every source from a tiny folder in its own layout, and what must never happen."""

import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from PIL import Image
from source_fakes import DEFECTS, FILES, ROWS, coco, labelme, picture, voc, write_fake
from warm_python import python

from agssp.cli import main as agssp
from agssp.commands import dataset_build, dataset_verify
from agssp.commands.dataset_build import DatasetBuildArguments
from agssp.commands.dataset_verify import DatasetVerifyArguments
from agssp.data.encoded import ImageError
from agssp.data.readers import read_dataset
from agssp.data.schema import category_names, check_schema, defect_names
from agssp.errors import InputError, StorageError
from agssp.sources.defects import MaskShape
from agssp.sources.image import SourceImage, SourceReport
from agssp.sources.layout import read_source_images
from agssp.sources.plan import plan_source
from agssp.sources.shards import make_row, write_shard
from agssp.sources.table import find_source, sources

SOURCES = sorted(sources())
WHOLE = [name for name in SOURCES if not sources()[name].subset]


def build(name, root, output, **changes):
    dataset_build.main(DatasetBuildArguments(name=name, root=str(root), output=str(output), **changes))
    return json.loads((output / "dataset.json").read_text())


def verify(output, **changes):
    dataset_verify.main(DatasetVerifyArguments(dataset=str(output), **changes))


def rows_of(output, splits):
    """Image id -> split and row, as `--dataset` reads them."""
    found = {}
    for split in splits:
        data = read_dataset(output, split=split)
        check_schema(data)
        for row in data:
            found[row["image_id"]] = (split, row, category_names(data), defect_names(data))
    return found


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_all_sources_of_the_corpus_and_the_validation_sets_are_there():
    assert sum(source.corpus for source in sources().values()) == 20
    validation = {"casting-billet", "casting-billet-mini50", "steel-pipe", "gc10-det", "gc10-mini", "fd"}
    assert validation <= set(SOURCES)
    assert len(SOURCES) == 27
    assert set(WHOLE) == set(FILES)


@pytest.mark.parametrize("name", SOURCES)
def test_nothing_there_names_what_was_expected(name, tmp_path):
    (tmp_path / "readme.txt").write_text("")
    whole = sources()[name].subset.get("of", name) if sources()[name].subset else name
    messages = {
        "own-line": f"{tmp_path}: no images found; expected files with .bmp",
        "bsd-cls": f"{tmp_path}: none of its 0 image files fits the layout of bsd-cls",
    }
    expected = f"expected {', '.join(sources()[whole].expects)} of {whole} in {tmp_path / whole} or in {tmp_path} "
    with pytest.raises(InputError, match=re.escape(messages.get(name, expected))):
        build(name, tmp_path, tmp_path / "output")
    assert not (tmp_path / "output").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ROWS))
def test_every_source_from_its_own_layout(name, tmp_path):
    write_fake(name, tmp_path)
    facts = build(name, tmp_path, tmp_path / "output")
    rows = rows_of(tmp_path / "output", facts["splits"])
    assert set(rows) == set(ROWS[name])
    for image_id, (split, category, is_normal, classes, boxes, has_mask) in ROWS[name].items():
        found_split, row, categories, names = rows[image_id]
        assert (found_split, categories[row["category"]], row["is_normal"]) == (split, category, is_normal), image_id
        assert Image.open(io.BytesIO(row["image"]["bytes"])).size == (24, 16)
        if classes is None:
            assert "objects" not in row
        else:
            assert [names[label] for label in row["objects"]["category"]] == classes, image_id
            assert np.allclose(row["objects"]["bbox"], boxes, atol=1e-4) if boxes else row["objects"]["bbox"] == []
        if has_mask is None:
            assert "mask" not in row
        else:
            assert (row["mask"] is not None) == has_mask, image_id
        if has_mask:
            pixels = np.asarray(Image.open(io.BytesIO(row["mask"]["bytes"])))
            expected = np.zeros((16, 24), np.uint8)
            for x, y, w, h in boxes:
                expected[y : y + h, x : x + w] = 255
            assert np.array_equal(pixels, expected), image_id
    counts = facts["counts"]
    assert counts["images"] == len(rows) == sum(facts["splits"].values()) == facts["sources"][0]["images"]
    assert counts["normal"] == sum(row[1]["is_normal"] is True for row in rows.values())
    assert counts["boxes"] == sum(len(row[4]) for row in ROWS[name].values())
    assert counts["masks"] == sum(bool(row[5]) for row in ROWS[name].values())
    assert counts["skipped"] == 0
    verify(tmp_path / "output", partial=True)


@pytest.mark.parametrize("name", SOURCES)
def test_the_manifest_says_whether_a_source_may_be_passed_on(name):
    source = sources()[name]
    assert source.redistribution == (source.licence.startswith("cc-by")) == (source.reason is None)
    assert source.layout_source
    assert source.download
    # Where nobody has checked it, it is said what was not seen.
    assert source.layout_checked != bool(re.search(r"\b(not|no)\b", source.layout_source))


def test_plain_datasets_loads_the_folder(tmp_path):
    write_fake("mpdd", tmp_path)
    facts = build("mpdd", tmp_path, tmp_path / "output")
    loaded = load_dataset("parquet", data_dir=str(tmp_path / "output"), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in loaded.items()} == facts["splits"] == {"train": 1, "test": 2}
    assert list(loaded["train"].features) == facts["columns"]
    assert loaded["test"].features["objects"]["category"].feature.names == ["scratches"]
    streamed = load_dataset("parquet", data_dir=str(tmp_path / "output"), streaming=True)["test"]
    assert [row["image_id"] for row in streamed] == loaded["test"]["image_id"]


def test_gc10_keeps_an_image_once_and_drops_what_is_no_class(tmp_path, capsys):
    write_fake("gc10-det", tmp_path)
    facts = build("gc10-det", tmp_path, tmp_path / "output", seed=3)
    said = capsys.readouterr().out
    rows = rows_of(tmp_path / "output", facts["splits"])
    assert facts["splits"] == {"train": 2, "test": 1}
    assert set(rows) == {"1/img_01.jpg", "10/img_10.jpg", "2/img_02.jpg"}
    classes = {key: [names[label] for label in row["objects"]["category"]] for key, (_, row, _, names) in rows.items()}
    assert classes["1/img_01.jpg"] == ["punching hole"]
    assert classes["10/img_10.jpg"] == ["waist folding"] * 2
    assert len(rows["2/img_02.jpg"][3]) == 10
    assert "1 images occur twice; the first was kept: 3/img_02.jpg" in said
    assert "have no labels, though the source labels all, and were left out: 4/img_no_label.jpg" in said
    assert "may not be passed on" in said


@pytest.mark.parametrize(
    ("name", "file", "text", "image_id"),
    [
        ("apddd", "Annotations/b.xml", voc("dent").replace("<xmax>8<", "<xmax>3<"), "JPEGImages/b.jpg"),
        ("bsdata", "label/b.json", labelme("Pitting").replace("[3, ", "[93, ").replace("[8, ", "[98, "), "data/b.jpg"),
        (
            "fd",
            "annotations/val.json",
            coco({"b.jpg": ["stain"]}, outlines=False).replace("[3, 2, 5, 4]", "[3, 2, 0, 4]"),
            "images/b.jpg",
        ),
    ],
)
def test_an_image_whose_labels_are_all_unusable_is_not_called_normal(name, file, text, image_id, tmp_path):
    (write_fake(name, tmp_path) / file).write_text(text)
    build(name, tmp_path, tmp_path / "output")
    shards = (tmp_path / "output/data").glob("*.parquet")
    row = next(row for file in shards for row in pq.read_table(file).to_pylist() if row["image_id"] == image_id)
    assert row["is_normal"] is None
    assert row["objects"] is None


def test_an_outline_around_nothing_is_no_proof_of_a_normal_image(tmp_path):
    picture(1).save(tmp_path / "a.png")
    outline = MaskShape([[90, 90, 95, 90, 95, 95]], "pitting", "a.json")
    image = SourceImage(tmp_path / "a.png", "a.png", "plate", "train", masks=[outline])
    row = make_row(image, plan_source(find_source("bsdata"), [image], 0), 10_000)
    assert [row[name] for name in ("is_normal", "mask", "objects")] == [None, None, None]


@pytest.mark.slow
def test_a_subset_is_seeded_and_keeps_the_validation_images(tmp_path):
    write_fake("casting-billet", tmp_path)
    facts = build("casting-billet-mini50", tmp_path, tmp_path / "a")
    assert facts["splits"] == {"train": 50, "validation": 1}
    assert facts["counts"]["classes"]["scratch"] == 50
    assert list(facts["counts"]["classes"]) == sources()["casting-billet"].classes
    chosen = set(read_dataset(tmp_path / "a", split="train")["image_id"])
    others = []
    for seed in (0, 1, 2, 3):
        build("casting-billet-mini50", tmp_path, tmp_path / f"s{seed}", seed=seed)
        others.append(set(read_dataset(tmp_path / f"s{seed}", split="train")["image_id"]))
    assert others[0] == chosen
    assert any(other != chosen for other in others)


def test_a_subset_of_too_few_images_is_an_error(tmp_path):
    write_fake("gc10-det", tmp_path)
    with pytest.raises(InputError, match="takes 500 training images of gc10-det, but there are 2"):
        build("gc10-mini", tmp_path, tmp_path / "output")


def test_the_corpus_holds_all_sources_that_are_there_with_their_categories(tmp_path, capsys):
    for name in ("mvtec-ad", "neu-seg", "bsd-cls", "casting-billet", "severstal"):
        write_fake(name, tmp_path / "downloads")
    facts = build("corpus", tmp_path / "downloads", tmp_path / "output")
    said = capsys.readouterr().out
    assert "16 of the corpus' 20 sources are not in" in said
    assert "aitex" in said
    assert [source["name"] for source in facts["sources"]] == ["bsd-cls", "mvtec-ad", "neu-seg", "severstal"]
    assert [source["images"] for source in facts["sources"]] == [3, 3, 2, 2]
    assert facts["counts"]["categories"] == {"bsd_cls": 3, "grid": 3, "neu_hot_rolled_strip": 2, "severstal_steel": 2}
    assert facts["splits"] == {"train": 10}
    data = read_dataset(tmp_path / "output")
    assert data["image_id"][:] == sorted(data["image_id"][:])
    assert "neu-seg/images/test/000002.jpg" in data["image_id"][:]
    verify(tmp_path / "output", partial=True)
    stored = pq.read_table(tmp_path / "output/data/train-00000-of-00001.parquet").to_pylist()
    pitting = next(row for row in stored if row["image_id"] == "bsd-cls/P_2.png")
    assert pitting["objects"] is None
    assert pitting["is_normal"] is False


def test_an_empty_root_of_the_corpus_is_an_error(tmp_path):
    with pytest.raises(InputError, match="holds no source of the corpus"):
        build("corpus", tmp_path, tmp_path / "output")


def test_the_same_files_give_the_same_bytes_wherever_they_lie(tmp_path):
    for place in ("a", "b"):
        write_fake("magnetic-tile", tmp_path / place)
        build("magnetic-tile", tmp_path / place, tmp_path / f"output-{place}", shard_images=1)
    assert files(tmp_path / "output-a") == files(tmp_path / "output-b")
    assert len(list((tmp_path / "output-a/data").iterdir())) == 2


def test_bad_images_are_skipped_counted_and_listed(tmp_path, capsys):
    folder = write_fake("kolektorsdd", tmp_path)
    (folder / "kos02").mkdir()
    (folder / "kos02/Part0.jpg").write_bytes(b"")
    (folder / "kos02/Part1.jpg").write_bytes((folder / "kos01/Part0.jpg").read_bytes()[:200])
    picture(5).save(folder / "kos02/Part2.jpg")
    Image.new("L", (9, 9)).save(folder / "kos02/Part2_label.bmp")
    Image.new("L", (200, 100)).save(folder / "kos02/Part3.jpg")
    facts = build("kolektorsdd", tmp_path, tmp_path / "output", max_pixels=10_000)
    skipped = [json.loads(line) for line in (tmp_path / "output/skipped.jsonl").read_text().splitlines()]
    assert [entry["image_id"] for entry in skipped] == [f"kos02/Part{number}.jpg" for number in range(4)]
    reasons = [entry["reason"] for entry in skipped]
    for reason, words in zip(reasons, ("empty", "damaged", "is 9 x 9 px, its image 24 x 16", "10,000"), strict=True):
        assert words in reason
    assert facts["counts"]["skipped"] == 4
    assert facts["counts"]["images"] == 2
    assert "4 images skipped" in capsys.readouterr().out
    verify(tmp_path / "output", partial=True)


def test_skipped_images_are_tried_again_where_that_is_asked_for(tmp_path, capsys):
    folder = write_fake("kolektorsdd", tmp_path)
    with pytest.raises(InputError, match=r"--retry-skipped: .*output holds no finished shard yet"):
        build("kolektorsdd", tmp_path, tmp_path / "output", retry_skipped=True)
    good = (folder / "kos01/Part0.jpg").read_bytes()
    # As long as it was, or it would be another data set.
    (folder / "kos01/Part0.jpg").write_bytes(b"\0" * len(good))
    assert build("kolektorsdd", tmp_path, tmp_path / "output", shard_images=1)["counts"]["skipped"] == 1
    kept = {path: path.stat().st_ino for path in (tmp_path / "output/data").iterdir()}
    (folder / "kos01/Part0.jpg").write_bytes(good)
    assert build("kolektorsdd", tmp_path, tmp_path / "output", shard_images=1)["counts"]["skipped"] == 1
    facts = build("kolektorsdd", tmp_path, tmp_path / "output", shard_images=1, retry_skipped=True)
    assert facts["counts"]["skipped"] == 0
    assert sum(path.stat().st_ino != number for path, number in kept.items()) == 1
    assert not (tmp_path / "output/skipped.jsonl").read_text()
    build("kolektorsdd", tmp_path, tmp_path / "whole", shard_images=1)
    assert files(tmp_path / "output/data") == files(tmp_path / "whole/data")


def test_a_share_that_is_gone_ends_the_build_and_skips_nothing(tmp_path):
    folder = write_fake("kolektorsdd", tmp_path)
    source = find_source("kolektorsdd")
    images = read_source_images(source, folder, SourceReport())
    plan = plan_source(source, images, 0, shard_images=1)
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match=r"no such file: .*, and nothing is in its folder"):
        list(write_shard(tmp_path / "output", plan, plan.shards[0], 10_000))
    assert not list(tmp_path.glob("output/data/*"))
    (tmp_path / "elsewhere").rename(folder)
    images[0].path.unlink()
    (images[0].path.parent / "other.txt").write_text("others are there")
    with pytest.raises(ImageError, match="no such file"):
        make_row(images[0], plan, 10_000)


def test_another_plan_does_not_write_into_a_finished_data_set(tmp_path):
    folder = write_fake("kolektorsdd2", tmp_path)
    build("kolektorsdd2", tmp_path, tmp_path / "output")
    before = files(tmp_path / "output")
    picture(77).save(folder / "train/10007.png")
    with pytest.raises(InputError, match="images: there 2, now 3"):
        build("kolektorsdd2", tmp_path, tmp_path / "output")
    with pytest.raises(InputError, match="holds what `agssp dataset build` did not write"):
        build("kolektorsdd2", tmp_path, folder)
    assert files(tmp_path / "output") == before


@pytest.mark.slow
def test_a_killed_build_goes_on_and_gives_the_same_bytes(tmp_path):
    write_fake("casting-billet", tmp_path)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    build("casting-billet", tmp_path, whole, shard_images=4)
    # The process kills itself where the fifth shard is being written, which no signal from outside can be timed to.
    script = (
        "import os, signal, pyarrow.parquet as pq\n"
        "from agssp.commands.dataset_build import DatasetBuildArguments, main\n"
        "write, done = pq.write_table, []\n"
        "def stop(table, file, **options):\n"
        "    done.append(1)\n"
        "    if len(done) == 5:\n"
        "        file.write(b'PAR1 half a file')\n"
        "        file.flush()\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    write(table, file, **options)\n"
        "pq.write_table = stop\n"
        f"root, output = {str(tmp_path)!r}, {str(cut)!r}\n"
        "main(DatasetBuildArguments(name='casting-billet', root=root, output=output, shard_images=4))\n"
    )
    process = subprocess.run([python(), "-c", script], check=False, capture_output=True, env={**os.environ})
    assert process.returncode == -signal.SIGKILL, process.stderr.decode()
    finished = sorted(path for path in (cut / "data").glob("*.parquet"))
    assert len(finished) == 4
    with pytest.raises(InputError, match=r"no dataset\.json, so it is no finished data set"):
        verify(cut)
    assert len(list((cut / "data").glob("[!.]*"))) == 4
    times = [path.stat().st_mtime_ns for path in finished]
    build("casting-billet", tmp_path, cut, shard_images=4)
    assert [path.stat().st_mtime_ns for path in finished] == times
    visible = {path: content for path, content in files(cut).items() if not path.name.startswith(".")}
    assert visible == files(whole)


@pytest.mark.parametrize("name", ["../outside.jpg", "/etc/passwd", "a/../../outside.jpg"])
def test_names_in_tables_never_leave_their_folder(name, tmp_path):
    picture(1).save(tmp_path / "outside.jpg")
    folder = write_fake("severstal", tmp_path)
    (folder / "train.csv").write_text(f"ImageId,ClassId,EncodedPixels\n{name},1,1 4\n")
    with pytest.raises(InputError, match="points outside"):
        build("severstal", tmp_path, tmp_path / "output")
    folder = write_fake("fd", tmp_path)
    table = json.loads((folder / "annotations/train.json").read_text())
    table["images"][0]["file_name"] = name
    (folder / "annotations/train.json").write_text(json.dumps(table))
    with pytest.raises(InputError, match="points outside"):
        build("fd", tmp_path, tmp_path / "output")


def test_the_first_form_of_severstals_table(tmp_path):
    folder = write_fake("severstal", tmp_path)
    text = (folder / "train.csv").read_text().splitlines()[1].replace(".jpg,3,", ".jpg_3,")
    (folder / "train.csv").write_text(f"ImageId_ClassId,EncodedPixels\n{text}\n00031f466.jpg_1,\n")
    facts = build("severstal", tmp_path, tmp_path / "output")
    assert facts["counts"]["classes"]["defect 3"] == 1
    assert facts["counts"]["normal"] == 1


def test_own_images_may_be_passed_on_once_their_licence_is_given(tmp_path):
    write_fake("own-line", tmp_path)
    facts = build("own-line", tmp_path, tmp_path / "a")
    assert facts["sources"][0]["redistribution"] is False
    assert "--licence" in facts["sources"][0]["reason"]
    facts = build("own-line", tmp_path, tmp_path / "b", licence="cc-by-4.0", title="Our plates")
    assert facts["sources"][0]["redistribution"] is True
    assert (facts["title"], facts["sources"][0]["licence"]) == ("Our plates", "cc-by-4.0")
    with pytest.raises(InputError, match="own-line"):
        build("severstal", tmp_path, tmp_path / "c", licence="mit")


def test_all_masks_of_a_source_are_read_alike(tmp_path, caplog):
    root = tmp_path / "line"
    (root / "masks").mkdir(parents=True)
    border = np.zeros((16, 24), np.uint8)
    border[2:6, 3:8] = 255
    numbers = border.copy()
    numbers[3:5, 4:7] = 2
    lines = []
    for name, mask in (("a.png", numbers), ("b.png", border)):
        picture(len(lines)).save(root / name)
        Image.fromarray(mask).save(root / "masks" / name)
        lines.append({"file_name": name, "mask_file_name": f"masks/{name}"})
    (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    images = read_source_images(find_source("own-line"), root, SourceReport())
    found = [image.masks[0].read((16, 24))[0][1] for image in images]
    assert [int(mask.sum()) for mask in found] == [6, 0]
    (told,) = [record.getMessage() for record in caplog.records if "masks are read as" in record.getMessage()]
    assert told.startswith(f"{root}: ")
    assert "255 beside them ignored" in told


def test_an_own_line_with_metadata_keeps_its_boxes_and_masks(tmp_path):
    root = tmp_path / "line"
    root.mkdir()
    picture(1).save(root / "a.png")
    picture(2).save(root / "b.png")
    Image.fromarray(np.pad(np.full((4, 5), 255, np.uint8), ((2, 10), (3, 16)))).save(root / "a_mask.png")
    objects = {"bbox": [list(DEFECTS[0])], "category": ["pit"]}
    lines = [{"file_name": "a.png", "category": "plate", "mask_file_name": "a_mask.png", "objects": objects},
             {"file_name": "b.png", "category": "plate", "is_normal": True}]  # fmt: skip
    (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    facts = build("own-line", root, tmp_path / "output")
    assert facts["counts"]["classes"] == {"pit": 1}
    assert facts["counts"]["masks"] == 1
    verify(tmp_path / "output")


def test_an_own_line_keeps_its_crowd_regions(tmp_path, capsys):
    root = tmp_path / "line"
    root.mkdir()
    for name in ("a", "b"):
        picture(1).save(root / f"{name}.png")
    boxes = [list(box) for box in DEFECTS]
    told = [{"bbox": boxes, "category": ["pit", "rust"], "iscrowd": [0, 1]}, {"bbox": [], "category": []}]
    lines = [{"file_name": f"{name}.png", "objects": objects} for name, objects in zip("ab", told, strict=True)]
    (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    counts = build("own-line", root, tmp_path / "auto")["counts"]
    assert (counts["boxes"], counts["crowds"], counts["classes"]) == (1, 1, {"pit": 1, "rust": 0})
    assert "1 boxes, 1 crowd regions, 0 masks" in capsys.readouterr().out
    verify(tmp_path / "auto")
    assert [row["iscrowd"] for row in read_dataset(tmp_path / "auto")["objects"]] == [[False, True], []]
    counts = build("own-line", root, tmp_path / "objects", crowds="objects")["counts"]
    assert (counts["boxes"], counts["crowds"], counts["classes"]) == (2, 0, {"pit": 1, "rust": 1})
    # Another reading is another data set, also under the same name.
    with pytest.raises(InputError, match="holds results of other settings"):
        build("own-line", root, tmp_path / "auto", crowds="objects")
    with pytest.raises(InputError, match="whose labels are COCO files, not for severstal"):
        build("severstal", tmp_path, tmp_path / "c", crowds="objects")


def test_a_source_whose_file_marks_every_outline_as_a_crowd_has_objects(tmp_path, capsys):
    write_fake("steel-pipe", tmp_path)
    (file,) = tmp_path.rglob("train_4cate.json")
    content = json.loads(file.read_text())
    for marks, counted in (([0, 0], (2, 0)), ([1, 1], (2, 0)), (["0", "1"], (1, 1))):
        for row, mark in zip(content["annotations"], marks, strict=True):
            row["iscrowd"] = mark
        file.write_text(json.dumps(content))
        counts = build("steel-pipe", tmp_path, tmp_path / f"output {marks}")["counts"]
        assert (counts["boxes"], counts["crowds"]) == counted
        told = "all 2 boxes, as some tools mark single objects, are read as objects" in capsys.readouterr().out
        assert told == (marks == [1, 1])
    for row in content["annotations"]:
        row["iscrowd"] = 1
    file.write_text(json.dumps(content))
    facts = build("steel-pipe", tmp_path, tmp_path / "ignored", crowds="ignore")
    assert (facts["counts"]["boxes"], facts["counts"]["crowds"], facts["reading"]["steel-pipe"]["crowds"]) == (0, 2, 2)
    with pytest.raises(InputError, match="--crowds 'both': expected auto, ignore or objects"):
        build("steel-pipe", tmp_path, tmp_path / "ignored", crowds="both")


def test_what_reading_changed_is_kept_wherever_the_files_lie(tmp_path, capsys):
    for place in ("a", "b"):
        folder = write_fake("apddd", tmp_path / place)
        (folder / "Annotations/b.xml").write_text(voc("dent").replace("<xmax>8<", "<xmax>1<"))
        facts = build("apddd", tmp_path / place, tmp_path / f"output-{place}")
    told = capsys.readouterr().out
    assert "2 images, 2 with a label file, 2 with boxes (read as voc, labels from Annotations/a.xml)" in told
    assert "1 boxes had their corners in another order" in told
    assert files(tmp_path / "output-a") == files(tmp_path / "output-b")
    kept = facts["reading"]["apddd"]
    assert kept["boxes"] == {"scratch": 1, "dent": 2}
    assert kept["changes"] == {"reversed": {"kind": "turned", "count": 1, "examples": ["Annotations/b.xml object 0"]}}


def test_the_command_line(tmp_path, capsys):
    agssp(["dataset", "build", "--list"])
    listed = capsys.readouterr().out
    assert all(f"{name}: " in listed for name in SOURCES)
    assert listed.count("may not be passed on") == sum(not source.redistribution for source in sources().values())
    write_fake("kolektorsdd", tmp_path)
    agssp(["dataset", "build", "kolektorsdd", "--root", str(tmp_path), "--output", str(tmp_path / "output")])
    agssp(["dataset", "verify", str(tmp_path / "output"), "--partial"])
    assert "good; 2 rows" in capsys.readouterr().out
    for words, message in (
        (["dataset", "verify", str(tmp_path / "output")], "1 problem"),
        (["dataset", "build", "kolektorsd", "--root", str(tmp_path), "--output", "x"], "did you mean kolektorsdd"),
        (["dataset", "build", "--root", str(tmp_path), "--output", "x"], "expected NAME"),
        (["dataset", "build", "msd", "--output", "x"], "expected --root"),
        (["dataset", "verify", str(tmp_path)], "has no dataset.json"),
    ):
        with pytest.raises(SystemExit, match=r"^2$"):
            agssp(words)
        assert message in capsys.readouterr().err


@pytest.mark.slow
def test_the_launch_script_lists_the_sources():
    script = Path(__file__).parents[2] / "datasets_scripts" / "build.py"
    told = subprocess.run([sys.executable, str(script), "--list"], check=True, capture_output=True, text=True)
    assert "severstal: " in told.stdout
