"""One repository, three loaders; pipelines and `agssp predict`; and what is refused when models are opened."""

import json

import numpy as np
import pytest
from model_cases import CLASSES, backbone_folder, detector_folder, make_images

BACKBONE = json.dumps({"model_type": "agssp_backbone", "architecture": "test_resnet"})

SWIN = {"img_size": 64, "window_size": 4, "embed_dim": 12, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 2],
        "strict_img_size": False}  # fmt: skip
"""Tiny, and built for another size than timm's weights of this name."""

PUSH = """
    import sys
    from agssp.cli import main

    for folder, name in zip(sys.argv[1::2], sys.argv[2::2]):
        main(["push", folder, name])
    """
OURS = """
    import sys
    import numpy as np, torch
    import agssp
    from agssp import AgsspBackbone
    from transformers import AutoBackbone, AutoModel

    online, *words = sys.argv[1:]
    for name, out in zip(words[::2], words[1::2]):
        pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        loaders = {"ours": AgsspBackbone, "model": AutoModel}
        if online == "online":
            loaders["backbone"] = AutoBackbone  # asks the Hub whatever is in the cache
        with torch.no_grad():
            found = {key: loader.from_pretrained(name).eval()(pixels).feature_maps for key, loader in loaders.items()}
        np.savez(out, **{f"{key}-{i}": value.numpy() for key, maps in found.items() for i, value in enumerate(maps)})
    """
TIMM = """
    import sys
    import numpy as np, timm, torch

    try:
        import agssp
    except ModuleNotFoundError:
        for name, out in zip(sys.argv[1::2], sys.argv[2::2]):
            pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
            network = timm.create_model(name, pretrained=True, features_only=True).eval()
            with torch.no_grad():
                np.savez(out, **{f"timm-{i}": maps.numpy() for i, maps in enumerate(network(pixels)[-3:])})
    """


@pytest.mark.slow
def test_one_repository_three_loaders_online_from_the_cache_and_from_a_folder(hub, tmp_path):
    backbone_folder(tmp_path / "resnet")
    backbone_folder(tmp_path / "swin", "swin_tiny_patch4_window7_224", model_args=SWIN)
    hub.run(PUSH, tmp_path / "resnet", "agssp/resnet", tmp_path / "swin", "agssp/swin")
    card = hub.files("agssp/swin")["README.md"].decode()
    assert "one (B, H, W, C) tensor a stage, of all" in card
    assert "one (B, C, H, W) tensor a stage, of all" in hub.files("agssp/resnet")["README.md"].decode()
    cache = tmp_path / "cache"
    for place, prefix, offline in (("online", "agssp", False), ("cache", "agssp", True), ("folder", tmp_path, True)):
        options = {"offline": offline, "cache": cache}
        ours = [word for name in ("resnet", "swin") for word in (f"{prefix}/{name}", tmp_path / f"{name}-ours.npz")]
        hub.run(OURS, place, *ours, **options)
        scheme = "local-dir" if place == "folder" else "hf-hub"
        theirs = [word for name in ("resnet", "swin")
                  for word in (f"{scheme}:{prefix}/{name}", tmp_path / f"{name}-timm.npz")]  # fmt: skip
        hub.run(TIMM, *theirs, without=("agssp",), **options)
        for name in ("resnet", "swin"):
            with np.load(tmp_path / f"{name}-ours.npz") as ours, np.load(tmp_path / f"{name}-timm.npz") as theirs:
                loaders = {key.split("-")[0] for key in ours}
                assert loaders == {"ours", "model"} | ({"backbone"} if place == "online" else set())
                for index in range(3):
                    expected = theirs[f"timm-{index}"]
                    expected = expected.transpose(0, 3, 1, 2) if name == "swin" else expected
                    for loader in loaders:
                        found = ours[f"{loader}-{index}"]
                        assert found.shape == expected.shape
                        assert np.abs(found - expected).max() <= 1e-6, (place, name, loader, index)


PIPELINE = """
    import json, sys
    import agssp
    from PIL import Image
    from transformers import AutoModelForObjectDetection, pipeline
    from agssp import YoloForObjectDetection
    from agssp.cli import main

    name, images = sys.argv[1:]
    detect = pipeline("object-detection", model=name, device="cpu")
    for loader in (AutoModelForObjectDetection, YoloForObjectDetection):
        loader.from_pretrained(name)
    main(["predict", name, images, "--output", "found", "--threshold", "0.05", "--no-pictures", "--device", "cpu"])
    predicted = [json.loads(line) for line in open("found/predictions.jsonl")]
    both = [[line, detect(Image.open(f"{images}/{line['image_id']}"), threshold=0.05)] for line in predicted]
    print(json.dumps(both))
    """


@pytest.mark.slow
def test_a_pipeline_gives_the_boxes_of_predict(hub, tmp_path):
    detector_folder(tmp_path / "mine")
    images = make_images(tmp_path / "images", 3, labelled=False)
    hub.agssp("push", tmp_path / "mine", "agssp/mine")
    cache = tmp_path / "cache"
    both = hub.run(PIPELINE, "agssp/mine", images, cache=cache).value
    assert hub.run(PIPELINE, "agssp/mine", images, cache=cache, offline=True).value == both
    assert sum(len(line["boxes"]) for line, _ in both) > 3
    for line, found in both:
        assert [CLASSES[label] for label in line["labels"]] == [each["label"] for each in found]
        np.testing.assert_allclose(line["scores"], [each["score"] for each in found], atol=1e-4)
        boxes = [[each["box"][key] for key in ("xmin", "ymin", "xmax", "ymax")] for each in found]
        # The pipeline cuts coordinates down to whole pixels.
        np.testing.assert_allclose(line["boxes"], boxes, atol=1.0)


OPEN = """
    import json, sys
    from agssp import AgsspBackbone, InputError, KeAD, YoloForObjectDetection
    from agssp.models.detection.catalogue import open_folder

    said = []
    for kind, name in json.loads(sys.argv[1]):
        opener = {"backbone": AgsspBackbone.from_pretrained, "yolo": YoloForObjectDetection.from_pretrained,
                  "any": open_folder, "kead": KeAD.from_pretrained}[kind]
        try:
            opener(name)
            said.append("opened")
        except InputError as error:
            said.append(str(error))
    print(json.dumps(said))
    """


def open_all(hub, *models, **options):
    return hub.run(OPEN, json.dumps(models), timeout=600, **options).value


@pytest.mark.slow
def test_another_type_a_pickle_and_a_missing_repository_are_refused(hub):
    hub.publish("agssp/bert", {"config.json": json.dumps({"model_type": "bert"})})
    hub.publish("agssp/pickled", {"config.json": BACKBONE, "pytorch_model.bin": "cos\nsystem\n"})
    hub.publish("agssp/secret", {"config.json": BACKBONE}, private=True)
    hub.publish("agssp/empty", {})
    for token in ("stranger", None):
        other, other_yolo, any_other, pickled, secret, missing, empty, words, no_kead = open_all(
            hub,
            ["backbone", "agssp/bert"], ["yolo", "agssp/bert"], ["any", "agssp/bert"], ["backbone", "agssp/pickled"],
            ["any", "agssp/secret"], ["backbone", "agssp/nothing"], ["backbone", "agssp/empty"], ["backbone", "a b/c"],
            ["kead", "agssp/bert"], token=token,
        )  # fmt: skip
        for said in (other, other_yolo, any_other, no_kead):
            assert "agssp/bert" in said
            assert "bert'" in said or "says bert" in said
        assert "pickled weights (.bin, .pt) run code" in pickled
        for said in (secret, missing):
            assert "no such repository, or a private one" in said
        assert "agssp/empty" in empty
        assert "a b/c" in words


@pytest.mark.slow
def test_a_wrong_token_a_failing_hub_and_a_full_disk_are_told_apart(hub, tmp_path):
    backbone_folder(tmp_path / "backbone")
    hub.publish("agssp/x", {name: (tmp_path / "backbone" / name).read_bytes()
                            for name in ("config.json", "model.safetensors")})  # fmt: skip
    assert "token" in open_all(hub, ["backbone", "agssp/x"], token="wrong")[0]
    cache = tmp_path / "cache"
    full = open_all(hub, ["backbone", "agssp/x"], largest_file=40_000, cache=cache)[0]
    assert "the disk is full" in full
    # What was begun does not pass for a model once there is room.
    assert open_all(hub, ["backbone", "agssp/x"], cache=cache) == ["opened"]
    assert open_all(hub, ["backbone", "agssp/x"], cache=cache, offline=True) == ["opened"]
    assert "not in the cache" in open_all(hub, ["backbone", "agssp/x"], offline=True)[0]
