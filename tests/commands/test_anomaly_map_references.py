"""What each image is compared with: never itself or a copy of itself, always as many references as were asked for."""

import json
import shutil

import numpy as np
import open_clip
import pytest
import torch
from datasets import ClassLabel
from map_cases import TEACHER, write_images, write_teacher
from map_cases import arguments as bare_arguments
from PIL import Image
from safetensors.torch import save_file

from agssp.commands.anomaly_maps import main
from agssp.data.images import decode_image
from agssp.data.readers import read_dataset
from agssp.errors import InputError
from agssp.maps import drawing as map_drawing
from agssp.maps.knowledge_base import KnowledgeBase
from agssp.maps.modeling_kead import KeAD
from agssp.maps.store import MapStore

CLIP = {
    "embed_dim": 48,
    "vision_cfg": {"layers": 4, "width": 64, "head_width": 16, "patch_size": 8, "image_size": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def root(tmp_path):
    write_teacher(tmp_path / "teacher.safetensors")
    return tmp_path


def arguments(root, output="maps", **changes):
    return bare_arguments(root, output, **({"dtype": "float32"} | changes))


def picture(seed):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (32, 40, 3), dtype=np.uint8))


def write(folder, seeds):
    """One noise image a name; the seed is its content."""
    for name, seed in seeds.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture(seed).save(folder / name)
    return folder


def vision_teacher(root):
    return KeAD.from_teacher(
        f"timm:{TEACHER}",
        weights=root / "teacher.safetensors",
        image_size=64,
        layers=[16],
        dtype="float32",
        device="cpu",
    )


def write_clip(root):
    """A text teacher with random weights, and words for its one category."""
    torch.manual_seed(0)
    vision, text = open_clip.CLIPVisionCfg(**CLIP["vision_cfg"]), open_clip.CLIPTextCfg(**CLIP["text_cfg"])
    model = open_clip.CLIP(CLIP["embed_dim"], vision, text)
    (root / "clip").mkdir()
    (root / "clip/open_clip_config.json").write_text(json.dumps({"model_cfg": CLIP, "preprocess_cfg": {}}))
    save_file(model.state_dict(), root / "clip/open_clip_model.safetensors")
    (root / "words.yaml").write_text("plate: {object: steel plate, defects: {scratch: a bright line}}\n")
    return {
        "teacher": f"local-dir:{root / 'clip'}",
        "weights": None,
        "image_size": None,
        "layers": None,
        "knowledge": str(root / "words.yaml"),
    }


def tokens_of(kead, file):
    return kead.teacher(kead.preprocess(decode_image(file))[None].to(kead.dtype))[0][:, 0].float()


def distance(kead, file, references):
    """Eq. 5 in the plainest form: every patch of the image against every patch of every reference."""
    image, others = tokens_of(kead, file), [tokens_of(kead, other) for other in references]
    layers = []
    for layer, patches in enumerate(image):
        bank = torch.cat([other[layer] for other in others])
        layers.append(torch.stack([((1 - bank @ patch) / 2).min() for patch in patches]))
    side = round(len(layers[0]) ** 0.5)
    return torch.stack(layers).mean(0).reshape(side, side).numpy()


def entry(root, name="plate", output="maps"):
    return MapStore.open(root / output).manifest["references"]["chosen"][name]


def skipped(root):
    return [json.loads(line) for line in (root / "maps/skipped.jsonl").read_text().splitlines()]


def test_no_normal_images(root):
    write(root / "images", {"plate/a.png": 0, "plate/b.png": 1})
    with pytest.raises(InputError, match="plate has 0"):
        main(arguments(root, references="normal", shots=1))
    assert not (root / "maps").exists()


def test_no_references_leave_no_store_that_refuses_the_corrected_command(root):
    write(root / "images", {f"plate/normal/{index}.png": index for index in range(3)})
    with pytest.raises(InputError, match=r"reads no text .*--shots 1 or more, or --references mutual"):
        main(arguments(root, references="normal", shots=0))
    assert not (root / "maps").exists()
    main(arguments(root, references="normal", shots=1))
    assert len(MapStore.open(root / "maps")) == 3


@pytest.mark.parametrize("shots", [1, 2, 3])
def test_every_image_is_compared_with_as_many_as_were_asked_for(root, shots):
    images = write(root / "images", {f"plate/normal/{index}.png": index for index in range(5)})
    write(images, {"plate/new/x.png": 9})
    main(arguments(root, references="normal", shots=shots))
    chosen, store, kead = entry(root)["image_ids"], MapStore.open(root / "maps"), vision_teacher(root)
    assert len(chosen) == shots + 1
    assert len(store) == 6
    for image_id in store.table()["image_id"].to_pylist():
        others = [images / other for other in chosen if other != image_id][:shots]
        assert len(others) == shots
        np.testing.assert_allclose(store[image_id], distance(kead, images / image_id, others), atol=2e-5)


def test_with_no_spare_a_reference_has_one_less(root):
    images = write(root / "images", {"plate/normal/a.png": 0, "plate/normal/b.png": 1, "plate/x.png": 2})
    main(arguments(root, references="normal", shots=2))
    store, kead = MapStore.open(root / "maps"), vision_teacher(root)
    a, b, x = (images / name for name in ("plate/normal/a.png", "plate/normal/b.png", "plate/x.png"))
    np.testing.assert_allclose(store["plate/normal/a.png"], distance(kead, a, [b]), atol=2e-5)
    np.testing.assert_allclose(store["plate/normal/b.png"], distance(kead, b, [a]), atol=2e-5)
    np.testing.assert_allclose(store["plate/x.png"], distance(kead, x, [a, b]), atol=2e-5)


def test_the_only_reference_is_skipped_by_a_teacher_without_text(root):
    write(root / "images", {"plate/normal/a.png": 0, "plate/x.png": 2, "plate/copy.png": 0})
    main(arguments(root, references="normal", shots=1))
    assert MapStore.open(root / "maps").table()["image_id"].to_pylist() == ["plate/x.png"]
    assert {item["image_id"] for item in skipped(root)} == {"plate/normal/a.png", "plate/copy.png"}
    assert all("only reference of its category" in item["reason"] for item in skipped(root))


@pytest.mark.slow
@pytest.mark.parametrize("image_score", ["sum", "mean_fused"])
def test_the_only_reference_gets_its_zero_shot_map_from_a_teacher_with_text(root, image_score):
    images = write(root / "images", {"plate/normal/a.png": 0, "plate/x.png": 2})
    text = write_clip(root)
    main(arguments(root, references="normal", shots=1, image_score=image_score, **text))
    store = MapStore.open(root / "maps")
    kead = KeAD.from_teacher(
        text["teacher"], knowledge=KnowledgeBase.load(text["knowledge"]), dtype="float32", device="cpu"
    )
    pixels = torch.stack(
        [kead.preprocess(decode_image(images / name)) for name in ("plate/normal/a.png", "plate/x.png")]
    )
    zero_shot = kead(pixels, ["plate", "plate"])
    table = store.table()
    scores = dict(zip(table["image_id"].to_pylist(), table["anomaly_score"].to_pylist(), strict=True))
    np.testing.assert_allclose(store["plate/normal/a.png"], zero_shot.anomaly_maps[0].numpy(), atol=1e-3)
    assert scores["plate/normal/a.png"] == pytest.approx(float(zero_shot.scores[0]), abs=1e-4)
    fused = zero_shot.anomaly_maps[1].numpy() + distance(kead, images / "plate/x.png", [images / "plate/normal/a.png"])
    np.testing.assert_allclose(store["plate/x.png"], fused, atol=1e-3)


def test_an_image_of_the_folder_is_not_compared_with_itself_though_its_name_is_another(root):
    images = write(root / "images", {f"plate/normal/{index}.png": index for index in range(3)})
    main(arguments(root, references=str(images / "plate/normal"), shots=2))
    chosen, store, kead = entry(root)["image_ids"], MapStore.open(root / "maps"), vision_teacher(root)
    assert sorted(chosen) == ["0.png", "1.png", "2.png"]
    for name in chosen:
        others = [images / "plate/normal" / other for other in chosen if other != name]
        expected = distance(kead, images / "plate/normal" / name, others)
        np.testing.assert_allclose(store[f"plate/normal/{name}"], expected, atol=2e-5)


def test_another_image_of_the_same_name_is_a_reference_like_any(root):
    images = write(root / "images", {"plate/a.png": 0, "plate/b.png": 1})
    sound = write(root / "sound", {"plate/a.png": 2, "plate/b.png": 3})
    main(arguments(root, references=str(sound), shots=2))
    store, kead = MapStore.open(root / "maps"), vision_teacher(root)
    for name in ("plate/a.png", "plate/b.png"):
        expected = distance(kead, images / name, [sound / "plate/a.png", sound / "plate/b.png"])
        np.testing.assert_allclose(store[name], expected, atol=2e-5)


@pytest.mark.parametrize("references", ["normal", "mutual"])
def test_a_copy_of_a_reference_is_not_compared_with_it(root, references):
    seeds = {f"plate/normal/{index}.png": index for index in range(3)} | {
        "plate/normal/copy.png": 0,
        "plate/again.png": 1,
    }
    images = write(root / "images", seeds)
    main(arguments(root, references=references, shots=3, reference_count=5))
    store, kead, chosen = MapStore.open(root / "maps"), vision_teacher(root), entry(root)
    assert len(chosen["sha256"]) == len(set(chosen["sha256"])) == 3
    assert sorted(seeds[name] for name in chosen["image_ids"]) == [0, 1, 2]
    for name, seed in seeds.items():
        others = [images / f"plate/normal/{other}.png" for other in range(3) if other != seed]
        if references == "normal":
            expected = distance(kead, images / name, others)
        else:  # the nearer one alone is 0.3 of two images
            expected = np.minimum(*(distance(kead, images / name, [other]) for other in others))
        np.testing.assert_allclose(store[name], expected, atol=2e-5)


def test_of_a_folder_with_several_categories_each_serves_its_own(root):
    write(root / "images", {"plate/a.png": 0})
    sound = write(
        root / "sound", {f"{name}/{index}.png": index for name in ("plate", "strip") for index in range(1, 4)}
    )
    main(arguments(root, references=str(sound), shots=3))
    assert sorted(entry(root)["image_ids"]) == ["plate/1.png", "plate/2.png", "plate/3.png"]
    shutil.move(sound / "plate", sound / "pipe")
    with pytest.raises(InputError, match=r"no images of plate in the folder .*there are pipe, strip"):
        main(arguments(root, "other", references=str(sound), shots=3))
    assert not (root / "other").exists()


def test_a_folder_of_one_category_serves_the_only_one_whatever_it_is_called(root):
    write(root / "images", {"plate/a.png": 0})
    main(arguments(root, references=str(write(root / "sound", {"1.png": 1, "2.png": 2})), shots=2))
    assert sorted(entry(root)["image_ids"]) == ["1.png", "2.png"]


def test_images_known_to_be_defective_are_no_references(root):
    write(root / "images", {"plate/a.png": 0})
    sound = write(root / "sound", {"plate/normal/1.png": 1, "plate/2.png": 2, "plate/defect/3.png": 3})
    with pytest.raises(InputError, match=r"in the folder .*: plate has 2"):
        main(arguments(root, references=str(sound), shots=3))
    main(arguments(root, references=str(sound), shots=2))
    assert sorted(entry(root)["image_ids"]) == ["plate/2.png", "plate/normal/1.png"]


def test_a_reference_that_was_changed_since_is_named(root):
    write(root / "images", {"plate/a.png": 0})
    sound = write(root / "sound", {"1.png": 1, "2.png": 2})
    main(arguments(root, references=str(sound), shots=2))
    (root / "maps/references.safetensors").unlink()
    main(arguments(root, references=str(sound), shots=2))
    (root / "maps/references.safetensors").unlink()
    write(sound, {"2.png": 3})
    with pytest.raises(InputError, match=r"2\.png: was chosen as a reference .* is gone or has changed"):
        main(arguments(root, references=str(sound), shots=2))
    (sound / "2.png").unlink()
    with pytest.raises(InputError, match=r"2\.png: was chosen as a reference .* is gone or has changed"):
        main(arguments(root, references=str(sound), shots=2))


def write_table(root, images, names, order=None):
    """The images as one Parquet file whose label has these names."""
    source = read_dataset(images)
    own = source.features["category"].names
    embedded = source.map(
        lambda row: {"image": {"bytes": open(row["image"]["path"], "rb").read(), "path": None}}  # noqa: SIM115, PTH123
    )
    labels = [names.index(own[label]) for label in embedded["category"]]
    embedded = embedded.remove_columns("category").add_column("category", labels, feature=ClassLabel(names=names))
    (root / "table").mkdir()
    (embedded if order is None else embedded.select(order)).to_parquet(root / "table/train-00000-of-00001.parquet")
    return str(root / "table")


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("references", ["normal", "mutual"])
def test_a_class_name_without_images_stops_nothing(root, references, streaming):
    images = write(root / "images", {f"plate/normal/{index}.png": index for index in range(3)})
    table = write_table(root, images, ["axle", "plate", "zinc"])
    text = write_clip(root)
    main(arguments(root, dataset=table, references=references, shots=2, streaming=streaming, **text))
    store = MapStore.open(root / "maps")
    assert list(store.manifest["references"]["chosen"]) == ["plate"]
    assert store.categories == ["axle", "plate", "zinc"]
    assert len(store) == 3


def test_a_stream_says_where_it_looked_for_references(root, monkeypatch):
    monkeypatch.setattr(map_drawing, "STREAM_HEAD", 4)
    images = write(root / "images", {f"plate/normal/{index}.png": index for index in range(4)})
    write(images, {f"strip/normal/{index}.png": 10 + index for index in range(3)})
    table = write_table(root, images, ["plate", "strip"])
    streamed = {"dataset": table, "streaming": True}
    with pytest.raises(InputError, match=r"rows of the stream, .*--references FOLDER.*: plate has 4"):
        main(arguments(root, references="normal", shots=5, **streamed))
    with pytest.raises(
        InputError, match=r"strip/normal/0\.png: is of the category 'strip', which has no references.*shuffle"
    ):
        main(arguments(root, references="normal", shots=2, **streamed))
    # What to do: a folder serves also the categories that come later.
    main(arguments(root, "folder", references=str(images), shots=2, **streamed))
    assert len(MapStore.open(root / "folder")) == 7
    assert list(MapStore.open(root / "folder").manifest["references"]["chosen"]) == ["plate", "strip"]


def test_rows_without_a_category_are_skipped(root):
    images = write(root / "images", {f"plate/normal/{index}.png": index for index in range(3)})
    rows = read_dataset(images)
    rows = rows.remove_columns("category").add_column("category", [0, None, 0], feature=ClassLabel(names=["plate"]))
    rows.save_to_disk(root / "saved")
    main(arguments(root, dataset=str(root / "saved"), references="normal", shots=1))
    assert [item["image_id"] for item in skipped(root)] == ["plate/normal/1.png"]
    assert "--category" in skipped(root)[0]["reason"]


def test_write_images_are_all_different(root):
    """The cases above and those of the command itself rest on it."""
    rows = read_dataset(write_images(root / "images", broken=None))
    from agssp.data.content import content_hash

    assert len({content_hash(row["image"]) for row in rows}) == len(rows) == 24
