"""`agssp dataset push`: what real clients load from a Hub is what was here, whole or not at all."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from dataset_cases import FREE, GRID, images, labelled, maps, refused, write_boxes_of
from local_hub import EVERY
from PIL import Image, PngImagePlugin
from test_push import run_all

from agssp.cli import TRY_AGAIN
from agssp.commands.dataset_push import DatasetPushArguments, main
from agssp.data.images import decode_image
from agssp.data.readers import read_dataset
from agssp.errors import InputError
from agssp.hub.dataset_facts import describe_rows
from agssp.hub.dataset_rows import Rows, write_shard
from agssp.hub.image_ids import hashed_id
from agssp.maps.store import MapStore

LOAD = """
import hashlib, json
import huggingface_hub
from datasets import load_dataset
from huggingface_hub import DatasetCard

card = DatasetCard.load("agssp/x")
if int(huggingface_hub.__version__.split(".")[0]) >= 2:  # before, the public Hub was asked, whatever HF_ENDPOINT said
    card.validate()
rows = {}
for row in load_dataset("agssp/x", split="train", streaming=True).decode(False):
    rows[row["image_id"]] = [hashlib.sha256(row["image"]["bytes"]).hexdigest(), row["category"], row["is_normal"],
                             row.get("anomaly_map"), row.get("map_max"), (row.get("objects") or {}).get("bbox")]
picture = next(iter(load_dataset("agssp/x", split="train", streaming=True)))["image"].size
from agssp.data.readers import read_dataset
table = read_dataset("agssp/x")
streamed = [row["image_id"] for row in read_dataset("agssp/x", streaming=True)]
print(json.dumps({"rows": rows, "picture": picture, "ids": table["image_id"][:], "streamed": streamed,
                  "categories": table.features["category"].names}))
"""


@pytest.fixture
def root(tmp_path):
    """24 images, one of them broken and skipped by the maps' teacher, with maps and boxes."""
    images(tmp_path / "images", broken=5)
    store = maps(tmp_path / "images", tmp_path / "maps", skip=["plate/normal/005.png"])
    write_boxes_of(store, tmp_path / "boxes")
    return tmp_path


def push(hub, root, *words, folder="images", name="agssp/x", check=True, **options):
    words = ("dataset", "push", root / folder, name, *words)
    return hub.agssp(*words, check=check, **options)


def with_maps(root, licence="cc-by-4.0"):
    return ("--maps", root / "maps", "--licence", licence, "--shard-images", "8")


def test_no_images(tmp_path):
    (tmp_path / "images").mkdir()
    assert "no images" in refused(tmp_path, licence="cc-by-4.0")


@pytest.mark.slow
def test_images_maps_and_boxes_come_back_as_they_were(hub, root):
    done = push(hub, root, *with_maps(root), "--boxes", root / "boxes")
    assert "1 images cannot be read and are left out" in done.stdout
    assert "agssp pretrain-backbone --dataset agssp/x --streaming" in done.stdout
    found = hub.run(LOAD, token=None).value
    here, store = read_dataset(root / "images"), MapStore.open(root / "maps")
    expected = [row for row in here if row["image_id"] in store]
    assert found["ids"] == found["streamed"] == list(found["rows"]) == [row["image_id"] for row in expected]
    assert found["categories"] == ["plate", "strip"]
    assert found["picture"] == [48, 40]
    from agssp.data.content import content_hash

    for index, row in enumerate(expected):
        content, category, is_normal, anomaly_map, map_max, bbox = found["rows"][row["image_id"]]
        assert content == content_hash(row["image"])
        assert (category, is_normal) == (row["category"], row["is_normal"])
        assert np.array_equal(np.array(anomaly_map, np.float16), store[row["image_id"]])
        assert map_max == pytest.approx(float(store[row["image_id"]].max()))
        assert bbox == ([[2.0, 3.0, 10.0, 8.0]] if index % 2 else [])
    files = hub.files("agssp/x", "dataset")
    assert sorted(files) == ["README.md", *(f"data/train-0000{i}-of-00003.parquet" for i in range(3)), "dataset.json",
                             "example.jpg"]  # fmt: skip
    # Nothing tells where on the machine the images lay.
    assert not any(str(root).encode() in content for content in files.values())
    card = files["README.md"].decode()
    assert "license: cc-by-4.0" in card
    assert "timm:test_resnet" in card
    assert "1 images could not be read" in card
    assert "None" not in card
    assert json.loads(files["dataset.json"])["counts"]["images"] == 23
    assert json.loads(files["dataset.json"])["reading"]["train"]["images"] == 24
    assert str(root) not in files["dataset.json"].decode()


@pytest.mark.slow
def test_the_same_push_changes_nothing_and_other_maps_take_the_place_of_the_old(hub, root):
    push(hub, root, *with_maps(root))
    before, sent = hub.history("agssp/x", "dataset"), len(hub.requested("PUT", "/lfs/"))
    push(hub, root, *with_maps(root))
    assert hub.history("agssp/x", "dataset") == before
    assert len(hub.requested("PUT", "/lfs/")) == sent
    maps(root / "images", root / "new", seed=1, skip=["plate/normal/005.png"])
    new = push(hub, root, "--maps", root / "new", "--licence", "cc-by-4.0", "--shard-images", "30")
    assert "3 files are no part of it and were removed: data/train-00000-of-00003.parquet, " in new.stdout
    shards = [name for name in hub.files("agssp/x", "dataset") if name.startswith("data/")]
    assert shards == ["data/train-00000-of-00001.parquet"]
    assert len(hub.history("agssp/x", "dataset")) == len(before) + 1


@pytest.mark.slow
def test_a_push_that_is_cut_shows_nothing_and_goes_on(hub, root):
    hub.fail("PUT", r"/lfs/", status=507, calls=(3,))
    cut = push(hub, root, *with_maps(root), check=False)
    assert cut.returncode == 2
    assert "no room" in cut.stderr
    assert hub.files("agssp/x", "dataset") == {}
    hub.heal()
    sent = len(hub.requested("PUT", "/lfs/"))
    push(hub, root, *with_maps(root))
    # The third shard and the picture alone: the first two are there already.
    assert len(hub.requested("PUT", "/lfs/")) == sent + 2
    assert len(hub.files("agssp/x", "dataset")) == 6


@pytest.mark.slow
def test_passing_faults_are_waited_for(hub, root):
    hub.fail("POST", r"/repos/create", status=500, calls=(1,))
    hub.fail("POST", r"/preupload/", status=429, retry_after=0, calls=(2,))
    hub.fail("PUT", r"/lfs/", cut_after=1000, calls=(1,))
    hub.fail("POST", r"/commit/", lose_answer=True, calls=(1,))
    push(hub, root, *with_maps(root))
    assert hub.history("agssp/x", "dataset").count("Upload data set") == 1
    assert len(hub.files("agssp/x", "dataset")) == 6


@pytest.mark.slow
def test_all_splits_go_up_with_one_list_of_classes_and_masks(hub, tmp_path):
    labelled(tmp_path / "labelled")
    push(hub, tmp_path, "--private", folder="labelled")
    code = """
    import json
    from datasets import load_dataset

    loaded = load_dataset("agssp/x")
    print(json.dumps({name: [part.num_rows, part.features["objects"]["category"].feature.names,
                             part[0]["objects"]["category"], part[0]["mask"].size] for name, part in loaded.items()}))
    """
    assert hub.run(code).value == {
        "train": [6, ["pit", "stain"], [0], [48, 40]], "test": [6, ["pit", "stain"], [1], [48, 40]],
    }  # fmt: skip
    assert hub.run(code, token=None, check=False).returncode != 0, "a private one is not for everybody"
    card = hub.files("agssp/x", "dataset")["README.md"].decode()
    assert "licence" not in card.lower(), "none is known, so none is said"


@pytest.mark.slow
def test_what_is_there_already_is_not_overwritten_by_chance(hub, root):
    hub.publish("agssp/x", {"notes.txt": "mine"}, repo_type="dataset")
    clash = push(hub, root, *with_maps(root), check=False)
    assert (clash.returncode, "holds other files (notes.txt)" in clash.stderr) == (2, True)
    public = push(hub, root, *with_maps(root), "--private", check=False)
    assert (public.returncode, "is public already" in public.stderr) == (2, True)
    assert set(hub.files("agssp/x", "dataset")) == {"notes.txt"}
    push(hub, root, *with_maps(root), "--replace")
    assert "notes.txt" not in hub.files("agssp/x", "dataset")


@pytest.mark.slow
def test_a_new_branch_is_as_public_and_as_much_anothers_as_the_repository(hub):
    hub.publish("agssp/x", {"notes.txt": "mine"}, repo_type="dataset")
    found = hub.run("""
        import json
        from agssp.errors import InputError
        from agssp.hub.dataset_publishing import Upload

        def begin(name, **options):
            try:
                upload = Upload(name, "mine", revision="draft", **options)
                upload.begin()
                upload.commit({"dataset.json": b"{}", "README.md": b"card"})
            except InputError as error:
                return str(error)

        print(json.dumps([begin("agssp/x", private=True), begin("agssp/x"), begin("agssp/x", replace=True),
                          begin("agssp/new", private=True)]))
    """).value
    assert "is public already" in found[0]
    assert "holds other files (notes.txt)" in found[1]
    assert found[2:] == [None, None]
    assert set(hub.files("agssp/x", "dataset", "draft")) == set(hub.files("agssp/new", "dataset", "draft"))
    assert set(hub.files("agssp/new", "dataset", "draft")) == {"dataset.json", "README.md"}
    assert set(hub.files("agssp/x", "dataset")) == {"notes.txt"}
    assert hub.files("agssp/new", "dataset") == {}


@pytest.mark.slow
def test_a_shard_that_is_missing_is_brought_back_and_one_of_another_split_is_named_as_removed(hub, tmp_path):
    (tmp_path / "shard").write_bytes(bytes(1000))
    found = hub.run(
        """
        import json, sys
        from pathlib import Path
        from huggingface_hub import HfApi
        from agssp.hub.dataset_publishing import Upload

        def push(*splits):
            upload = Upload("agssp/x", "mine")
            upload.begin()
            for split in splits:
                upload.keep(f"data/{split}-00000-of-00001.parquet", Path(sys.argv[1]))
            record = json.dumps({"name": "mine", "shards": splits}).encode()
            upload.commit({"dataset.json": record, "README.md": b"card"})
            files = HfApi().list_repo_files("agssp/x", repo_type="dataset")
            return upload.removed, [name[5:].split("-")[0] for name in files if name.startswith("data/")]

        def lose(split):
            HfApi().delete_file(f"data/{split}-00000-of-00001.parquet", "agssp/x", repo_type="dataset")

        both = push("test", "train")
        lose("test")
        print(json.dumps([both, push("test", "train"), push("test")]))
        """,
        tmp_path / "shard",
    ).value
    assert found == [
        [[], ["test", "train"]],
        [[], ["test", "train"]],
        [["data/train-00000-of-00001.parquet"], ["test"]],
    ]


@pytest.mark.slow
def test_who_may_not_write_is_told_so_before_anything_is_read(hub, root):
    expected = {
        "": "there is no token",
        "wrong": "hf auth login",
        "read": "right to write",
        "stranger": "right to write",
    }
    tokens = [hub.tokens.get(name, name) for name in expected]
    (root / "maps/manifest.json").unlink()
    words = ["dataset", "push", root / "images", "agssp/x", *with_maps(root)]
    *refused, unreadable = run_all(hub, *[words] * 5, tokens=[*tokens, hub.tokens["write"]])
    for (status, said), message in zip(refused, expected.values(), strict=True):
        assert (status, message in said) == (2, True), said
    assert (unreadable[0], str(root / "maps") in unreadable[1]) == (2, True)
    assert not hub.requested("POST", "/repos/create"), "nothing is left behind of what cannot be published"


@pytest.mark.slow
def test_a_full_disk_is_named(hub, root):
    done = push(hub, root, *with_maps(root), largest_file=4096, check=False)
    assert done.returncode == TRY_AGAIN
    assert "the disk is full" in done.stderr
    assert "TMPDIR" in done.stderr
    assert hub.files("agssp/x", "dataset") == {}


@pytest.mark.slow
def test_a_hub_that_stays_down_is_named(hub, root):
    hub.fail("GET", r"/whoami", status=403, calls=EVERY)
    done = push(hub, root, *with_maps(root), check=False)
    assert done.returncode == 2
    assert "may not" in done.stderr


def test_a_card_alone_needs_no_hub_and_says_what_is_recorded(root):
    (root / "images/dataset.json").write_text(json.dumps({"name": "free", "title": "Free", "sources": [FREE]}))
    main(DatasetPushArguments(folder=str(root / "images"), repo_id="agssp/x", maps=str(root / "maps"),
                              card_only=str(root / "card")))  # fmt: skip
    card = (root / "card/README.md").read_text()
    assert card.startswith("---\nlicense: cc-by-sa-4.0\n")
    assert (
        "- Free plates (23 images): cc-by-sa-4.0, https://example.org/plates. Plates, 2020\n\nThe anomaly maps" in card
    )
    assert "![An image and its anomaly map](example.jpg)" in card
    assert "# Free\n" in card
    assert f"{GRID} x {GRID}" in card
    assert (root / "card/example.jpg").stat().st_size > 1000
    assert "None" not in card


def test_crowd_regions_are_kept_and_counted_apart(tmp_path):
    labelled(tmp_path / "images", splits=("train",))
    table = tmp_path / "images/train/metadata.jsonl"
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    for row in rows[:2]:
        row["objects"] = {"bbox": [[1, 2, 10, 12], [20, 2, 9, 9]], "category": ["pit", "pit"], "iscrowd": [0, 1]}
    table.write_text("\n".join(map(json.dumps, rows)))
    push = {"folder": str(tmp_path / "images"), "repo_id": "agssp/x", "licence": "mit"}
    for crowds, counted in (("auto", (6, 2)), ("objects", (8, 0))):
        main(DatasetPushArguments(**push, crowds=crowds, card_only=str(tmp_path / crowds)))
        counts = json.loads((tmp_path / crowds / "dataset.json").read_text())["counts"]
        assert (counts["boxes"], counts["crowds"]) == counted
        card = (tmp_path / crowds / "README.md").read_text()
        assert ("with 6 boxes of defects and 2 crowd regions (`iscrowd`" in card) == (crowds == "auto")
        assert ("crowd regions" in card) == (crowds == "auto")
    published = Rows({"train": read_dataset(tmp_path / "images")})
    write_shard(tmp_path / "train.parquet", published.of(published.splits["train"]), published.features)
    back = read_dataset(tmp_path / "train.parquet")
    assert [row["iscrowd"] for row in back["objects"]] == [[False, True]] * 2 + [[False]] * 4


def test_a_card_takes_no_others_place(root):
    push = {"folder": str(root / "images"), "repo_id": "agssp/x", "maps": str(root / "maps"), "licence": "mit"}
    (root / "images/dataset.json").write_text('{"name": "plates", "title": "Plates"}')
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    for folder, message in (("images", "lies in"), ("images/plate", "lies in"), ("maps", "no card of a data set"),
                            ("images/dataset.json", "lies in"),
                            ("boxes/thresholds.json", "a file of this name")):  # fmt: skip
        assert message in refused(root, **push | {"card_only": str(root / folder)})
    (root / "mine").mkdir()
    (root / "mine/README.md").write_text("mine")
    assert "(README.md)" in refused(root, **push | {"card_only": str(root / "mine")})
    assert all(path.read_bytes() == content for path, content in before.items())
    for title in ("One", "Two"):
        main(DatasetPushArguments(**push, title=title, card_only=str(root / "card")))
    assert "# Two\n" in (root / "card/README.md").read_text()


def test_maps_and_boxes_must_be_of_these_images(root, tmp_path):
    own = {"maps": str(root / "maps"), "licence": "mit"}
    maps(root / "images", root / "half", skip=["plate/normal/005.png"], only=10)
    assert "has no map of 13 of 24 images" in refused(root, licence="mit", maps=str(root / "half"))
    labelled(root / "labelled")
    assert "no map of these images" in refused(root, folder="labelled", **own)
    both = refused(root, folder="labelled", licence="mit", boxes=str(root / "boxes"))
    assert "labels already (pit, stain)" in both
    assert "`agssp pretrain-detector --boxes` takes the pseudo boxes" in both
    assert "005.png" in refused(root, licence="mit", card_only=str(root / "card"))


@pytest.mark.parametrize("name", ["x", "a/b/c", "agssp/"])
def test_names_that_are_none(root, name):
    assert "OWNER/NAME" in refused(root, repo_id=name)


def photos(folder, suffix="jpg"):
    """Three images that tell where they were taken, with masks that tell who drew them."""
    labelled(folder, splits=("train",), each=3)
    table = folder / "train/metadata.jsonl"
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Line 3 camera"
    exif.get_ifd(0x8769)[0xA431] = "SN-4711"
    exif.get_ifd(0x8825)[1] = "N"
    drawn = PngImagePlugin.PngInfo()
    drawn.add_text("Author", "Ann Owner")
    for file in sorted((folder / "train/images").iterdir()):
        Image.open(file).save(file.with_suffix(f".{suffix}"), exif=exif)
        file.unlink()
        mask = folder / "train/masks" / file.name
        Image.open(mask).transpose(Image.Transpose.ROTATE_270).save(mask, pnginfo=drawn)
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    for row in rows:
        row["file_name"] = row["file_name"].replace("png", suffix)
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "train"


def shard_of(folder, file, **options):
    rows = Rows({"train": read_dataset(folder)}, **options)
    write_shard(file, rows.of(rows.splits["train"]), rows.features)
    return rows, file.read_bytes(), pq.read_table(file).to_pylist()


SECRETS = (b"Line 3 camera", b"SN-4711", b"Ann Owner")


def test_what_photos_tell_of_place_and_people_is_not_published(tmp_path):
    folder = photos(tmp_path / "photos")
    before = read_dataset(folder)
    rows, _, published = shard_of(folder, tmp_path / "without.parquet")
    assert rows.metadata == {"images": 3, "masks": 3, "EXIF": 3, "GPS position": 3, "serial numbers": 3, "texts": 3}
    assert not any(
        secret in each[part]["bytes"] for secret in SECRETS for each in published for part in ("image", "mask")
    )
    for old, new in zip(before, published, strict=True):
        for part in ("image", "mask"):
            assert np.array_equal(decode_image(new[part]), decode_image(old[part]))
        assert decode_image(new["image"]).size == (40, 48)
    kept, _, published = shard_of(folder, tmp_path / "with.parquet", keep_exif=True)
    assert not kept.metadata
    assert all(secret in published[0]["image"]["bytes"] + published[0]["mask"]["bytes"] for secret in SECRETS)


def test_what_was_taken_out_and_how_images_are_named_is_told(tmp_path, capsys):
    folder = photos(tmp_path / "photos")
    push = {"folder": str(folder), "repo_id": "agssp/x", "licence": "mit"}
    main(DatasetPushArguments(**push, card_only=str(tmp_path / "path")))
    said = capsys.readouterr().out
    assert "by their own names, such as images/0.jpg, images/1.jpg, images/2.jpg; --ids hash gives" in said
    assert "taken out of 3 images and 3 masks, whose pixels stay as they are: EXIF 3, GPS position 3," in said
    card = (tmp_path / "path/README.md").read_text()
    assert "the file as it came but for its metadata (EXIF, GPS position, serial numbers, texts), of which" in card
    assert "unique and stable: the name that it has among its publisher's files" in card
    main(DatasetPushArguments(**push, card_only=str(tmp_path / "hash"), ids="hash", keep_exif=True))
    said = capsys.readouterr().out
    assert f"by digests of their names, such as {hashed_id('images/0.jpg')}, " in said
    assert "--keep-exif asks" in said
    card = (tmp_path / "hash/README.md").read_text()
    assert "the file as it came with its metadata" in card
    assert "first 32 hexadecimal digits of SHA-256" in card
    assert "images/0" not in card + (tmp_path / "hash/dataset.json").read_text()
    assert "expected path or hash" in refused(tmp_path, ids="name")


def test_digests_of_names_join_the_same_maps_and_boxes(root, tmp_path):
    import hashlib

    own = {"maps": root / "maps", "boxes": root / "boxes"}
    _, _, named = shard_of(root / "images", tmp_path / "path.parquet", **own)
    rows, content, hashed = shard_of(root / "images", tmp_path / "hash.parquet", **own, ids="hash")
    assert len(named) == len(hashed) == 23
    for one, other in zip(named, hashed, strict=True):
        digest = hashlib.sha256(one["image_id"].encode()).hexdigest()[:32]
        assert other["image_id"] == digest
        assert other["image"] == {"bytes": one["image"]["bytes"], "path": f"{digest}.png"}
        assert {**other, "image_id": 0, "image": 0} == {**one, "image_id": 0, "image": 0}
    assert not any(name in content for name in (b"normal/", b"003.png"))
    facts = describe_rows(rows, {}, [], title="x", licence="mit")
    assert facts["maps"]["references"]["chosen"]["plate"]["image_ids"] == [hashed_id("a")]


def test_a_name_that_is_a_path_of_this_machine_is_not_published(tmp_path):
    labelled(tmp_path / "labelled", splits=("train",), each=2)
    dataset = read_dataset(tmp_path / "labelled/train").map(lambda row: {"image_id": f"{tmp_path}/{row['image_id']}"})
    with pytest.raises(InputError, match=r"split train: the image /.* is named by a path of this machine.*--ids hash"):
        Rows({"train": dataset})
    assert Rows({"train": dataset}, ids="hash").ids == "hash"
