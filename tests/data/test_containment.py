"""What a data set may reach: nothing that its tables or links name elsewhere on this machine."""

import io
import json
import shutil
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from datasets import Dataset, load_dataset
from huggingface_hub import constants
from PIL import Image as Pil

from agssp.commands import split
from agssp.commands.dataset_push import refuse_outside
from agssp.data import containment
from agssp.data.containment import FOLDERS_VARIABLE, Boundary, TableFiles, is_delivered
from agssp.data.images import decode_image
from agssp.data.readers import ReadReport, read_dataset
from agssp.data.readers.listing import path_inside
from agssp.data.schema import features
from agssp.errors import InputError
from agssp.hub.dataset_rows import Rows

SECRET = "a text that is nobody's business"
WAYS = ("parquet", "saved", "streamed")


def png(shade=90):
    buffer = io.BytesIO()
    Pil.new("L", (40, 20), shade).save(buffer, "png")
    return buffer.getvalue()


def write(path: Path, content: bytes | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png() if content is None else content)
    return path


def stored(folder: Path, way: str, paths, mask=None) -> Path:
    """A table that names its images by these paths instead of holding them."""
    schema = features(["plate"], ["pit"], mask=mask is not None)
    rows = [
        {
            "image": {"path": str(path), "bytes": None},
            "image_id": f"image {number}",
            "category": 0,
            "is_normal": False,
            "objects": {"bbox": [[1, 1, 5, 5]], "category": [0], "score": [1.0], "iscrowd": [False]},
            **({} if mask is None else {"mask": {"path": str(mask), "bytes": None}}),
        }
        for number, path in enumerate(paths)
    ]
    dataset = Dataset.from_list(rows, features=schema)
    folder.mkdir(parents=True, exist_ok=True)
    if way == "saved":
        # As older releases of `datasets` left it: the newest puts the bytes in.
        dataset = dataset.cast_column("image", schema["image"])
        shutil.rmtree(folder)
        Dataset.from_list([{"a": 1}]).save_to_disk(folder)
        with pq.ParquetWriter(folder / "ignored.parquet", dataset.data.schema):
            pass
        (folder / "ignored.parquet").unlink()
        return _saved(folder, dataset)
    pq.write_table(dataset.data.table, folder / "train.parquet")
    return folder / "train.parquet"


def _saved(folder: Path, dataset: Dataset) -> Path:
    import pyarrow as pa

    file = next(folder.glob("*.arrow"))
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, dataset.data.table.schema) as writer:
        writer.write_table(dataset.data.table)
    facts = json.loads((folder / "dataset_info.json").read_text())
    facts["features"] = dataset.features.to_dict()
    (folder / "dataset_info.json").write_text(json.dumps(facts))
    return folder


def rows_of(source, way):
    return list(read_dataset(source, streaming=way == "streamed"))


@pytest.mark.parametrize("way", WAYS)
def test_a_table_names_images_of_its_own_folder(tmp_path, way, monkeypatch):
    monkeypatch.chdir(tmp_path)
    inside = [write(tmp_path / "table/images/a.png"), write(tmp_path / "table/images/b.png")]
    source = stored(tmp_path / "table/data" if way == "saved" else tmp_path / "table", way, inside)
    if way == "saved":
        monkeypatch.setenv(FOLDERS_VARIABLE, str(tmp_path / "table"))
    assert [decode_image(row["image"]).size for row in rows_of(source, way)] == [(40, 20)] * 2


@pytest.mark.parametrize("way", ["parquet", "streamed"])
def test_a_relative_path_begins_at_the_table_wherever_the_command_runs(tmp_path, way, monkeypatch):
    write(tmp_path / "table/images/a.png", png(10))
    write(tmp_path / "run/images/a.png", png(200))
    monkeypatch.chdir(tmp_path / "run")
    source = stored(tmp_path / "table", way, ["images/a.png"])
    (row,) = rows_of(source, way)
    assert decode_image(row["image"]).getpixel((0, 0)) == (10, 10, 10)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("column", ["image", "mask"])
@pytest.mark.parametrize("how", ["absolute", "climbing", "link"])
def test_a_table_does_not_bring_in_other_files(tmp_path, way, column, how):
    secret = write(tmp_path / "home/secret.png", SECRET.encode())
    own = write(tmp_path / "table/own.png")
    name = {"absolute": secret, "climbing": "../home/secret.png", "link": "linked.png"}[how]
    if how == "link":
        (tmp_path / "table/linked.png").symlink_to(secret)
    source = stored(tmp_path / "table/data" if way == "saved" else tmp_path / "table", way,
                    ["own.png" if column == "mask" else name], name if column == "mask" else None)  # fmt: skip
    if way == "saved":
        shutil.copy(own, source / "own.png")
        if how == "link":
            (source / "linked.png").symlink_to(secret)
        if how == "climbing":
            write(tmp_path / "table/home/secret.png", SECRET.encode())
    with pytest.raises(InputError, match=rf"(names|is a link).*{FOLDERS_VARIABLE}=.*home"):
        rows_of(source, way)


@pytest.mark.parametrize("way", WAYS)
def test_the_user_opens_a_folder_to_a_table_of_ones_own(tmp_path, way, monkeypatch):
    image = write(tmp_path / "line7/a.png")
    source = stored(tmp_path / "table", way, [image])
    monkeypatch.setenv(FOLDERS_VARIABLE, f"{tmp_path / 'line8'}:{tmp_path / 'line7'}")
    assert [row["image"]["path"] for row in rows_of(source, way)] == [str(image)]


def test_what_datasets_saves_today_holds_its_images(tmp_path):
    image = write(tmp_path / "line7/a.png")
    read_dataset(image.parent).save_to_disk(tmp_path / "saved")
    shutil.rmtree(image.parent)
    assert [decode_image(row["image"]).size for row in read_dataset(tmp_path / "saved")] == [(40, 20)]


@pytest.mark.parametrize("way", ["parquet", "streamed"])
@pytest.mark.parametrize(
    "address",
    [
        "file:///etc/hostname",
        "file:/etc/hostname",
        "http://localhost:1/a.png",
        "https://localhost:1/a.png",
        "hf://datasets/other/repository/a.png",
        "zip://a.png::file:///etc/hostname",
        "a.png::file:///etc/hostname",
    ],
)
def test_no_address_of_a_table_is_opened(tmp_path, way, address, monkeypatch):
    def opened(*_, **__):
        raise AssertionError("an address was opened")

    # Nothing may be asked for, which only a stand-in can tell.
    monkeypatch.setattr("agssp.data.readers.table_schema.fsspec.open", opened)
    source = stored(tmp_path / "table", way, [address])
    with pytest.raises(InputError, match=r"train\.parquet: names an image by the address"):
        rows_of(source, way)


def test_the_images_of_a_repository_of_the_hub_are_its_own():
    files = TableFiles("me/plates", is_hub=True)
    for name in ("hf://datasets/me/plates/a.png", "hf://datasets/me/plates@refs/convert/b/a.png"):
        assert files.place(name) == name
    cache = Path(constants.HF_HUB_CACHE)
    own = cache / "datasets--me--plates/snapshots/1/a.png"
    assert files.place(str(own)) == str(own)
    assert files.place("a.png") == str(cache / "datasets--me--plates/a.png")
    others = [
        "hf://datasets/me/plates2/a.png",
        "hf://datasets/me/plates/../other/a.png",
        "hf://me/plates/a.png",
        "zip://a.png::hf://datasets/me/plates/a.zip",
        str(cache / "datasets--me--other/snapshots/1/a.png"),
        "/etc/hostname",
        "../datasets--me--other/a.png",
    ]
    for name in others:
        with pytest.raises(InputError, match=r"^me/plates: names"):
            files.place(name)


def test_addresses_of_a_stream_that_the_user_named():
    files = TableFiles("https://example.org/data/train.parquet")
    assert files.place("https://example.org/images/a.png") == "https://example.org/images/a.png"
    for name in ("http://example.org/a.png", "https://example.com/a.png", "https://example.org@example.com/a.png"):
        with pytest.raises(InputError, match="by the address"):
            files.place(name)


def test_a_text_is_not_published(tmp_path):
    """Neither by `split` nor by `dataset push`, be it named by a table or in it."""
    # Its header passes for that of an image.
    write(tmp_path / "table/notes.png", b"P5 40 20 255\n" + SECRET.encode())
    good = write(tmp_path / "table/a.png")
    source = stored(tmp_path / "table", "parquet", ["notes.png", "a.png", "a.png", "a.png"])
    split.main(split.SplitArguments(dataset=str(source), output=str(tmp_path / "few"), count=1))
    written = [file.read_bytes() for file in (tmp_path / "few").rglob("*.parquet")]
    assert not any(SECRET.encode() in content for content in written)
    tables = load_dataset("parquet", data_files=[str(path) for path in (tmp_path / "few").rglob("*.parquet")])["train"]
    assert sorted(tables["image_id"]) == ["image 1", "image 2", "image 3"]
    left_out = json.loads((tmp_path / "few/split.json").read_text())["left_out"]
    assert list(left_out) == ["image 0"]
    assert "image 0: the image is damaged or truncated" in left_out["image 0"]
    dataset = read_dataset(source)
    rows = Rows({"train": dataset})
    with pytest.raises(InputError, match=r"image 0 \(split train\): cannot be read, so it cannot be published"):
        list(rows.of(rows.splits["train"]))
    rows = Rows({"train": dataset.select([1])})
    assert [row["image"]["bytes"] for row in rows.of(rows.splits["train"])] == [good.read_bytes()]


def test_a_split_of_texts_alone(tmp_path):
    write(tmp_path / "table/notes.png", b"P5 40 20 255\n" + SECRET.encode())
    source = stored(tmp_path / "table", "parquet", ["notes.png"])
    with pytest.raises(InputError, match=r"none of its 1 images can be decoded; the first: image 0"):
        split.main(split.SplitArguments(dataset=str(source), output=str(tmp_path / "few"), count=1))


# --- links ------------------------------------------------------------------------------------------------------------


def test_a_link_to_a_file_elsewhere_is_refused_unless_the_user_opens_its_folder(tmp_path, monkeypatch):
    image = write(tmp_path / "elsewhere/a.png")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.png").symlink_to(image)
    with pytest.raises(InputError, match=rf"data/a\.png: is a link that leads out of .*{FOLDERS_VARIABLE}=.*elsewhere"):
        read_dataset(tmp_path / "data")
    monkeypatch.setenv(FOLDERS_VARIABLE, str(tmp_path / "elsewhere"))
    assert len(read_dataset(tmp_path / "data")) == 1


def test_links_inside_and_the_users_own_link_to_the_data_are_followed(tmp_path):
    image = write(tmp_path / "disk/data/pool/a.png")
    (tmp_path / "disk/data/train").mkdir()
    (tmp_path / "disk/data/train/b.png").symlink_to(image)
    (tmp_path / "mine").symlink_to(tmp_path / "disk/data")
    (tmp_path / "train").symlink_to(tmp_path / "disk/data/train")
    for root in (tmp_path / "disk/data", tmp_path / "mine"):
        assert sorted(read_dataset(root)["image_id"]) == ["pool/a.png", "train/b.png"]
    with pytest.raises(InputError, match=r"b\.png: is a link that leads out"):
        read_dataset(tmp_path / "train")


def test_a_folder_on_another_disk_is_read_and_told(tmp_path):
    write(tmp_path / "disk/a.png")
    (tmp_path / "disk/b.png").symlink_to("a.png")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/images").symlink_to(tmp_path / "disk")
    report = ReadReport()
    dataset = read_dataset(tmp_path / "data", report=report)
    assert sorted(dataset["image_id"]) == ["images/a.png", "images/b.png"]
    assert report.causes["linked_folders"].examples == [f"{tmp_path / 'data/images'} (to {tmp_path / 'disk'})"]


def git(folder, *words):
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
@pytest.mark.parametrize("version", ["2", "4"])
def test_a_link_that_came_with_a_repository_is_refused(tmp_path, version, monkeypatch):
    write(tmp_path / "pictures/private.png")
    origin = tmp_path / "origin"
    write(origin / "data/own.png")
    (origin / "data/images").symlink_to(tmp_path / "pictures")
    git(origin, "init", "-q")
    git(origin, "config", "index.version", version)
    git(origin, "add", "-A")
    git(origin, "commit", "-q", "-m", "a")
    git(tmp_path, "clone", "-q", str(origin), "clone")
    with pytest.raises(InputError, match=r"data/images: is a link that came with the repository and leads out of"):
        read_dataset(tmp_path / "clone/data")
    monkeypatch.setenv(FOLDERS_VARIABLE, str(tmp_path / "pictures"))
    assert len(read_dataset(tmp_path / "clone/data")) == 2
    monkeypatch.delenv(FOLDERS_VARIABLE)
    (tmp_path / "clone/data/images").unlink()
    (tmp_path / "clone/data/mine").symlink_to(tmp_path / "pictures")
    if version == "2":
        # This one git does not track: whoever works here has put it there.
        assert len(read_dataset(tmp_path / "clone/data")) == 2


def test_the_hubs_cache_keeps_its_files_beside_the_snapshots(tmp_path):
    repository = tmp_path / "hub/datasets--me--plates"
    write(repository / "blobs/0123")
    (repository / "snapshots/main/images").mkdir(parents=True)
    (repository / "snapshots/main/images/a.png").symlink_to("../../../blobs/0123")
    assert read_dataset(repository / "snapshots/main")["image_id"][:] == ["images/a.png"]
    write(tmp_path / "hub/datasets--me--other/blobs/4567")
    (repository / "snapshots/main/images/b.png").symlink_to("../../../../datasets--me--other/blobs/4567")
    with pytest.raises(InputError, match=r"b\.png: is a link that leads out"):
        read_dataset(repository / "snapshots/main")
    (repository / "snapshots/main/images/b.png").unlink()
    (repository / "snapshots/main/more").symlink_to(tmp_path / "hub/datasets--me--other")
    with pytest.raises(InputError, match="more: is a link that came with the repository"):
        read_dataset(repository / "snapshots/main")


def test_git_annex_keeps_its_files_in_the_repository(tmp_path):
    write(tmp_path / ".git/annex/objects/x/a.png")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.png").symlink_to("../.git/annex/objects/x/a.png")
    assert read_dataset(tmp_path / "data")["image_id"][:] == ["a.png"]


@pytest.mark.parametrize("kind", ["coco", "metadata", "labelme", "voc", "yolo"])
def test_lists_of_labels_do_not_reach_through_links(tmp_path, kind):
    write(tmp_path / "elsewhere/a.png")
    root = tmp_path / "data"
    root.mkdir()
    (root / "a.png").symlink_to(tmp_path / "elsewhere/a.png")
    shape = {"label": "pit", "points": [[1, 1], [5, 5]], "shape_type": "rectangle"}
    files = {
        "coco": ("a.json", json.dumps({
            "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 20}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 4, 4]}],
            "categories": [{"id": 1, "name": "pit"}]})),
        "metadata": ("metadata.jsonl", json.dumps({"file_name": "a.png"})),
        "labelme": ("a.json", json.dumps({"shapes": [shape], "imagePath": "a.png", "imageWidth": 40,
                                          "imageHeight": 20, "imageData": None})),
        "voc": ("a.xml", "<annotation><filename>a.png</filename></annotation>"),
        "yolo": ("a.txt", "0 .5 .5 .1 .1"),
    }  # fmt: skip
    name, text = files[kind]
    (root / name).write_text(text)
    (root / "classes.txt").write_text("pit")
    with pytest.raises(InputError, match=r"a\.png: is a link that leads out of"):
        read_dataset(root)


def test_a_table_of_yolo_that_came_with_a_repository_names_no_other_folder(tmp_path, monkeypatch):
    write(tmp_path / "pictures/images/private.png")
    (tmp_path / "pictures/labels").mkdir()
    (tmp_path / "pictures/labels/private.txt").write_text("0 .5 .5 .1 .1")
    table = tmp_path / "repository/data.yaml"
    table.parent.mkdir()
    table.write_text(f"path: {tmp_path / 'pictures'}\ntrain: images\nnames: [pit]\n")
    assert read_dataset(table)["image_id"][:] == ["images/private.png"]
    write(table.parent / ".git/index", b"DIRC\0\0\0\2" + b"?" * 60 + b"data.yaml\0")
    with pytest.raises(InputError, match=r"data\.yaml: `path`: names .*pictures/, which lies outside of .*repository"):
        read_dataset(table)
    monkeypatch.setenv(FOLDERS_VARIABLE, str(tmp_path / "pictures"))
    assert read_dataset(table)["image_id"][:] == ["images/private.png"]


def test_names_of_sources_do_not_leave_by_links(tmp_path):
    write(tmp_path / "root/a.png")
    secret = write(tmp_path / "elsewhere/b.png")
    (tmp_path / "root/b.png").symlink_to(secret)
    (tmp_path / "root/folder").symlink_to(secret.parent)
    assert path_inside(tmp_path / "root", "a.png", "table") == tmp_path / "root/a.png"
    with pytest.raises(InputError, match=r"b\.png: is a link that leads out"):
        path_inside(tmp_path / "root", "b.png", "table")
    assert path_inside(tmp_path / "root", "folder/b.png", "table") == tmp_path / "root/folder/b.png"


def test_a_boundary_is_one_of_folders_not_of_the_letters_of_their_names(tmp_path):
    for name in ("data", "data2"):
        write(tmp_path / name / "a.png")
    boundary = Boundary(tmp_path / "data")
    assert boundary.holds(tmp_path / "data/a.png")
    assert boundary.holds(tmp_path / "data")
    assert not boundary.holds(tmp_path / "data2/a.png")
    assert not boundary.holds(tmp_path / "data/../data2/a.png")
    assert Boundary("/").holds(tmp_path)


def test_nothing_is_delivered_where_no_repository_is(tmp_path):
    assert not is_delivered(tmp_path / "a.png")
    (tmp_path / ".git").mkdir()
    assert not is_delivered(tmp_path / "a.png")
    (tmp_path / ".git").rmdir()
    (tmp_path / ".git").write_text("gitdir: real")
    write(tmp_path / "real/index", b"DIRC\0\0\0\2" + b"?" * 60 + b"data/a.png\0\0")
    assert is_delivered(tmp_path / "data/a.png")
    assert not is_delivered(tmp_path / "data/b.png")
    assert containment.granted_folders() == ""


@pytest.mark.parametrize("way", WAYS)
def test_a_table_that_the_user_made_may_name_pictures_elsewhere_which_is_told(tmp_path, way):
    picture = write(tmp_path / "line7/a.png")
    source = stored(tmp_path / "table", way, [picture])
    report = ReadReport()
    data = read_dataset(source, streaming=way == "streamed", report=report)
    assert [decode_image(row["image"]).size for row in data] == [(40, 20)]
    if way != "streamed":
        assert report.examples("outside_files") == [str(picture)]
        with pytest.raises(InputError, match=r"split train: 1 of its pictures lie outside .*a\.png; what is published"):
            refuse_outside("train", report)
    refuse_outside("train", ReadReport())


def test_a_table_that_came_with_a_repository_names_no_pictures_elsewhere(tmp_path):
    source = stored(tmp_path / "table", "parquet", [write(tmp_path / "line7/a.png")])
    write(tmp_path / "table/.git/index", b"DIRC\0\0\0\2" + b"?" * 60 + b"train.parquet\0")
    with pytest.raises(InputError, match=r"names .*a\.png, which lies outside of .*table; a table may not bring in"):
        read_dataset(source)
