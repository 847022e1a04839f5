"""`agssp push` and `.push_to_hub()` against the Hub on loopback: what goes up, in how many commits, what stays."""

import json
import re

import pytest
from huggingface_hub import ModelCard
from local_hub import EVERY
from model_cases import backbone_folder, detector_folder

from agssp import InputError
from agssp.hub.publishing import collect, write_card

COMMANDS = """
    import contextlib, io, json, os, sys
    from agssp.cli import main

    said = []
    for words, token in zip(*map(json.loads, sys.argv[1:])):
        if token is not None:
            os.environ["HF_TOKEN"] = token
        out = io.StringIO()
        with contextlib.redirect_stderr(out), contextlib.redirect_stdout(out):
            try:
                status = main(words) or 0
            except SystemExit as stop:
                status = stop.code
        said.append([status, out.getvalue()])
    print(json.dumps(said))
    """
"""Several command lines in one process, for the clients take long to import."""
BACKBONE = {"README.md", "config.json", "model.safetensors", "picture.png", "run.json"}


def run_all(hub, *commands, tokens=None, **options):
    """Status and words of each command; `tokens` are their own."""
    words = json.dumps([list(map(str, each)) for each in commands])
    return hub.run(COMMANDS, words, json.dumps(tokens or [None] * len(commands)), timeout=600, **options).value


@pytest.fixture
def backbone(tmp_path):
    backbone_folder(tmp_path / "backbone")
    return tmp_path / "backbone"


@pytest.mark.slow
def test_a_backbone_goes_up_in_one_commit_and_again_only_what_changed(hub, backbone):
    (backbone / "training_args.bin").write_bytes(b"pickle")
    first, again = run_all(hub, ["push", backbone, "agssp/swin-base"], ["push", backbone, "agssp/swin-base"])
    assert first[0] == again[0] == 0
    assert "left out, as pickles run code when they are opened: training_args.bin" in first[1]
    files = hub.files("agssp/swin-base")
    assert set(files) == BACKBONE
    assert files["model.safetensors"] == (backbone / "model.safetensors").read_bytes()
    for name, content in files.items():
        assert str(backbone.parent).encode() not in content, name
    assert ModelCard(files["README.md"].decode()).data.license == "apache-2.0"
    assert len(hub.history("agssp/swin-base")) == 1
    assert len(hub.requested("PUT", "/lfs/")) == len({"model.safetensors", "picture.png"})


@pytest.mark.slow
def test_what_an_earlier_push_left_is_taken_away_and_other_files_stay(hub, backbone):
    ours = {"model-00001-of-00002.safetensors": "old", "pytorch_model.bin": "old", ".eval_results/me-old.yaml": "[]"}
    ours["run.json"] = json.dumps({"published": ["run.json", ".eval_results/me-old.yaml", "LICENSE"]})
    kept = {"LICENSE": "mine", "notes.txt": "mine", "prompts.pt": "mine", ".eval_results/ann.yaml": "[]"}
    hub.publish("agssp/x", ours | kept | {"config.json": json.dumps({"model_type": "agssp_backbone"})})
    status, said = run_all(hub, ["push", backbone, "agssp/x", "--message", "Better"])[0]
    assert status == 0
    assert set(hub.files("agssp/x")) == BACKBONE | set(kept)
    line = next(line for line in said.splitlines() if line.startswith("taken away"))
    assert set(line.partition(": ")[2].split(", ")) == set(ours) - {"run.json"}
    assert hub.history("agssp/x")[0] == "Better"


@pytest.mark.slow
def test_what_is_there_already_is_not_overwritten_unasked(hub, backbone):
    hub.publish("agssp/bert", {"config.json": json.dumps({"model_type": "bert"}), "vocab.txt": "x"})
    hub.publish("agssp/files", {"data.csv": "1"})
    hub.publish("agssp/public", {})
    hub.publish("agssp/empty", {"README.md": "soon", "LICENSE": "mine"})
    other, files, private, *on_new_branches, new, branch, empty, replaced = run_all(
        hub,
        ["push", backbone, "agssp/bert"],
        ["push", backbone, "agssp/files"],
        ["push", backbone, "agssp/public", "--private"],
        ["push", backbone, "agssp/public", "--private", "--revision", "draft"],
        ["push", backbone, "agssp/bert", "--revision", "draft"],
        ["push", backbone, "agssp/secret", "--private"],
        ["push", backbone, "agssp/branch", "--revision", "draft"],
        ["push", backbone, "agssp/empty"],
        ["push", backbone, "agssp/bert", "--replace"],
    )
    assert [other[0], files[0], private[0]] == [2, 2, 2]
    assert "agssp/bert: holds another model already (bert" in other[1]
    assert "agssp/files: holds another model already (no config.json" in files[1]
    assert "is public already" in private[1]
    assert [status for status, _ in on_new_branches] == [2, 2]
    assert "is public already" in on_new_branches[0][1]
    assert "agssp/bert: holds another model already (bert" in on_new_branches[1][1]
    assert [new[0], branch[0], empty[0], replaced[0]] == [0, 0, 0, 0]
    assert set(hub.files("agssp/bert")) == BACKBONE
    assert set(hub.files("agssp/empty")) == BACKBONE | {"LICENSE"}
    assert set(hub.files("agssp/branch", revision="draft")) == BACKBONE
    assert 'next: AgsspBackbone.from_pretrained("agssp/branch", revision="draft")' in branch[1]
    assert hub.files("agssp/branch") == {}
    looked = hub.run("""
        import json
        from huggingface_hub import HfApi
        print(json.dumps(HfApi().model_info("agssp/secret").private))
        """)
    assert looked.value is True


@pytest.mark.slow
def test_faults_that_pass_are_waited_for_and_nothing_is_sent_or_committed_twice(hub, backbone):
    hub.fail("POST", "/api/repos/create", status=500)
    hub.fail("GET", "/api/models/agssp/x", status=503)
    hub.fail("PUT", "/lfs/", cut_after=100)
    hub.fail("POST", "/commit/", lose_answer=True)
    status, said = run_all(hub, ["push", backbone, "agssp/x"])[0]
    assert status == 0, said
    assert said.count("trying again") == 3
    assert set(hub.files("agssp/x")) == BACKBONE
    assert len(hub.history("agssp/x")) == 1


@pytest.mark.slow
def test_a_push_that_was_cut_shows_nothing_and_goes_on(hub, backbone):
    weights = len((backbone / "model.safetensors").read_bytes())
    hub.publish("agssp/x", {"config.json": json.dumps({"model_type": "agssp_backbone"})})
    before = hub.files("agssp/x")
    hub.fail("PUT", "/lfs/", status=507)
    hub.fail("POST", "/commit/", status=507, calls=EVERY)
    for status, said in run_all(hub, *[["push", backbone, "agssp/x"]] * 2):
        assert (status, "there is no room for it on the Hub" in said) == (2, True)
    assert hub.files("agssp/x") == before
    hub.heal()
    assert run_all(hub, ["push", backbone, "agssp/x"])[0][0] == 0
    assert set(hub.files("agssp/x")) == BACKBONE
    taken = [call for call in hub.requested("PUT", "/lfs/") if call.received >= weights and call.status == 200]
    assert len(taken) == 1


@pytest.mark.slow
def test_without_the_right_token_nothing_happens(hub, backbone):
    tokens = {
        "wrong": "does not know this token",
        "": "there is no token",
        "stranger": "needs the right to write to agssp",
        "read": "needs the right to write to agssp",
    }
    said = run_all(hub, *[["push", backbone, "agssp/x"]] * 4, tokens=[hub.tokens.get(name, name) for name in tokens])
    for (status, words), expected in zip(said, tokens.values(), strict=True):
        assert status == 2
        assert expected in words
    assert not hub.requested("PUT", "")
    assert not hub.requested("POST", "/commit/")


@pytest.mark.slow
def test_offline_the_card_alone_can_be_written(hub, backbone):
    pushed, written = run_all(
        hub,
        ["push", backbone, "agssp/x"],
        ["push", backbone, "agssp/x", "--card-only", backbone.parent / "card"],
        offline=True,
    )
    assert "HF_HUB_OFFLINE is set" in pushed[1]
    assert written[0] == 0
    names = {file.name for file in (backbone.parent / "card").iterdir()}
    assert names == BACKBONE - {"config.json", "model.safetensors"} | {"settings.json"}


@pytest.mark.parametrize("written_by", ["training", "save_pretrained"])
def test_a_card_is_not_written_over_the_records_of_a_model(backbone, written_by):
    if written_by == "save_pretrained":
        (backbone / "settings.json").unlink()
    else:
        (backbone / "settings.json").write_text('{"command": "pretrain-backbone", "settings": {}}')
    before = {file.name: file.read_bytes() for file in backbone.iterdir() if file.is_file()}
    publication = collect(backbone, "agssp/x")
    with pytest.raises(InputError, match="--card-only"):
        write_card(publication, "agssp/x", backbone)
    assert {file.name: file.read_bytes() for file in backbone.iterdir() if file.is_file()} == before
    written = write_card(publication, "agssp/x", backbone.parent / "card")
    assert write_card(publication, "agssp/x", backbone.parent / "card") == written


@pytest.mark.slow
def test_push_to_hub_of_the_classes_gives_the_same_files_and_card(hub, tmp_path, backbone):
    import timm
    from safetensors.torch import save_file

    detector_folder(tmp_path / "mine")
    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "teacher.safetensors")
    hub.run(
        """
        import sys
        from agssp import AgsspBackbone, InputError, KeAD, YoloForObjectDetection
        from agssp.cli import main
        from agssp.hub.publishing import publish_model
        from agssp.models.detection import catalogue

        backbone, detector, teacher = sys.argv[1:]
        main(["push", backbone, "agssp/cli-backbone"])
        main(["push", detector, "agssp/cli-detector"])
        AgsspBackbone.from_pretrained(backbone).push_to_hub("agssp/backbone", commit_message="Mine", private=True)
        YoloForObjectDetection.from_pretrained(detector).push_to_hub("agssp/detector")
        model = AgsspBackbone.from_pretrained(backbone)
        next(model.parameters()).data += 1
        model.push_to_hub("agssp/changed")
        yolo = YoloForObjectDetection.from_pretrained(detector)
        yolo.save_pretrained("saved", push_to_hub=True, repo_id="agssp/saved")
        publish_model(catalogue.build("dfine_s", None, {0: "pit"}, 64), "agssp/dfine")
        kead = KeAD.from_teacher("timm:test_resnet", weights=teacher, image_size=64, dtype="float32", device="cpu")
        kead.push_to_hub("agssp/kead")
        KeAD.from_pretrained("agssp/kead", weights=teacher, device="cpu")
        try:
            model.push_to_hub("agssp/pull-request", create_pr=True)
        except InputError as error:
            print(error)
        """,
        backbone, tmp_path / "mine", tmp_path / "teacher.safetensors", folder=tmp_path,
    )  # fmt: skip
    for name in ("backbone", "detector"):
        theirs, ours = hub.files(f"agssp/cli-{name}"), hub.files(f"agssp/{name}")
        assert set(ours) == set(theirs)
        assert ours["model.safetensors"] == theirs["model.safetensors"]
        plain = re.sub(rb"cli-(backbone|detector)", rb"\1", theirs["README.md"])
        assert ours["README.md"] == plain
        assert json.loads(ours["run.json"]) == json.loads(theirs["run.json"])
        assert len(hub.history(f"agssp/{name}")) == 1
    assert hub.history("agssp/backbone") == ["Mine"]
    assert ".eval_results/me-defects.yaml" in hub.files("agssp/detector")
    # Weights that were changed since are not those that the record is about.
    assert set(hub.files("agssp/changed")) == BACKBONE - {"run.json", "picture.png"}
    assert set(hub.files("agssp/saved")) == {
        "README.md",
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    }
    assert len(hub.history("agssp/saved")) == 1
    assert set(hub.files("agssp/dfine")) == set(hub.files("agssp/saved"))
    assert set(hub.files("agssp/kead")) == {"README.md", "config.json", "references.safetensors"}
