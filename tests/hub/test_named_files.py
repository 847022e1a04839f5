"""Names of a user's own files in what `agssp push` uploads: told before, left out, or published as digests."""

import json

import pytest
import timm
import torch
from model_cases import backbone_folder
from PIL import Image
from safetensors.torch import load_file, save_file

from agssp import KeAD
from agssp.cli import main
from agssp.errors import InputError
from agssp.hub.image_ids import hashed_id
from agssp.hub.named_files import published_references, published_run
from agssp.hub.publishing import collect
from agssp.maps.references import load_banks

NAMES = ["line7/acme/good_1.png", "line7/acme/good_2.png"]
READING = {
    "layout": "coco",
    "labels_from": "line7/acme.json",
    "changes": {"clipped": {"kind": "changed", "count": 2, "examples": ["line7/acme.json annotation 3"]}},
    "image_notes": {"turned": {"count": 1, "examples": ["line7/acme/a.png"]}},
}


@pytest.fixture
def kead(tmp_path):
    """A folder with two references that their user has named, and one without a name."""
    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "teacher.safetensors")
    made = KeAD.from_teacher(
        "timm:test_resnet", weights=tmp_path / "teacher.safetensors", image_size=64, dtype="float32", device="cpu"
    )
    pictures = [Image.new("RGB", (64, 64), colour) for colour in ("red", "green")]
    made.set_references({"plate": pictures}, {"plate": NAMES})
    made.save_pretrained(tmp_path / "kead")
    return tmp_path / "kead"


def test_a_record_without_names_stays_as_it_is():
    assert published_run({}, "hash") == ({}, [])
    run = {"seed": 1, "skipped": {}, "results": {"last": [1, {"a": None}]}}
    assert published_run(run, "hash") == (run, [])


def test_examples_of_reading_are_left_out_and_skipped_images_named_as_asked():
    run = {"dataset": {"reading": READING}, "origins": [{"dataset": {"reading": READING}}],
           "skipped": {NAMES[0]: f"{NAMES[0]}: cannot be decoded"}}  # fmt: skip
    plain, names = published_run(run, "path")
    assert names == [NAMES[0]]
    assert plain["skipped"] == run["skipped"]
    assert "acme" not in json.dumps(plain["dataset"]) + json.dumps(plain["origins"])
    assert plain["dataset"]["reading"]["changes"]["clipped"] == {"kind": "changed", "count": 2, "examples": []}
    hashed, names = published_run(run, "hash")
    assert names == [NAMES[0]]
    digest = hashed_id(NAMES[0])
    assert hashed["skipped"] == {digest: f"{digest}: cannot be decoded"}


def test_references_are_the_same_but_for_their_names(kead, tmp_path):
    file = kead / "references.safetensors"
    assert published_references(file, "path") == (file, NAMES)
    content, names = published_references(file, "hash")
    assert names == NAMES
    assert b"acme" in file.read_bytes()
    assert b"acme" not in content
    (tmp_path / "again.safetensors").write_bytes(content)
    before, after = load_file(file), load_file(tmp_path / "again.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    banks, _ = load_banks(tmp_path / "again.safetensors")
    assert list(banks["plate"].image_ids) == [hashed_id(name) for name in NAMES]


def test_references_without_names_of_files_have_nothing_to_tell(kead):
    made = KeAD.from_pretrained(kead, device="cpu")
    pictures = [Image.new("RGB", (64, 64), "red")] * 2
    made.set_references({"plate": pictures}, {"plate": ["0" * 64, "1" * 64]})
    made.set_references({"strip": pictures})
    made.save_pretrained(kead)
    file = kead / "references.safetensors"
    assert published_references(file, "hash") == (file, [])


def test_a_push_tells_what_it_names_and_names_it_as_asked(kead, tmp_path, capsys):
    main(["push", str(kead), "me/kead", "--card-only", str(tmp_path / "card")])
    assert (
        "references.safetensors names 2 of your images, such as line7/acme/good_1.png, line7/acme/good_2.png; "
        "--ids hash gives digests of them instead"
    ) in capsys.readouterr().out
    main(["push", str(kead), "me/kead", "--ids", "hash", "--card-only", str(tmp_path / "card")])
    said = capsys.readouterr().out
    assert f"names 2 of your images by digests, such as {hashed_id(NAMES[0])}" in said
    assert "acme" not in said
    with pytest.raises(InputError, match="--ids other: expected path or hash"):
        collect(kead, "me/kead", ids="other")


def test_no_file_of_a_push_with_digests_holds_a_name(kead, tmp_path):
    folder = tmp_path / "backbone"
    backbone_folder(folder)
    run = json.loads((folder / "run.json").read_text()) | {"skipped": {NAMES[0]: "cannot be read"}}
    run["dataset"]["reading"] = READING
    (folder / "run.json").write_text(json.dumps(run))
    for each in (folder, kead):
        publication = collect(each, "me/model", ids="hash")
        for path, content in publication.files.items():
            assert b"acme" not in (content if isinstance(content, bytes) else content.read_bytes()), path
    assert collect(folder, "me/model").named == {"run.json": [NAMES[0]]}


@pytest.mark.slow
def test_before_anything_goes_up_it_is_told(hub, kead):
    code = 'import sys\nfrom agssp.cli import main\nmain(["push", sys.argv[1], "agssp/kead", "--ids", "hash"])\n'
    said = hub.run(code, kead, timeout=600).stdout
    assert said.index("by digests, such as") < said.index("published: ")
    assert b"acme" not in hub.files("agssp/kead")["references.safetensors"]
