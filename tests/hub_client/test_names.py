"""What may be a repository on the Hub, and what lies near a name that was not found."""

import pytest
from huggingface_hub import constants

from agssp.data.origin import describe_source
from agssp.data.readers import find_format, read_dataset
from agssp.errors import InputError
from agssp.hub.names import check_name
from agssp.hub_client.names import is_hub_id, near_hint, near_on_disk
from agssp.models.backbone.saved_detectors import saved_file
from agssp.models.detection.catalogue import model_type_at


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """An empty folder to be in, with `acme/notes` and `few/train` in it, and no Hub."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "acme/notes").mkdir(parents=True)
    (tmp_path / "few/train").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize("name", ["acme/steel", "o/n", "other/steel.v1.2", "A-b_c/d-e_f", "runs/0.1"])
def test_names_of_repositories(name):
    assert is_hub_id(name)
    check_name(name)


@pytest.mark.parametrize(
    "name",
    ["", "steel", "/steel", "acme/", "./steel", "../steel", "acme/steel/train", "acme/steel@v2", "acme/..", "a b/c",
     "acme/" + 100 * "x", "acme/steel.git", "acme//steel", "acme\\steel", "~/steel", "äcme/stahl"],
)  # fmt: skip
def test_other_names(name):
    assert not is_hub_id(name)
    with pytest.raises(InputError, match="expected OWNER/NAME"):
        check_name(name)


def test_what_lies_near(offline):
    assert near_on_disk("nothing/like/it") == near_on_disk("acme/steel") == []
    assert near_on_disk("acme/notse") == ["notes"]
    assert near_on_disk("fwe/train") == ["few/train"]
    assert near_on_disk(offline / "few/trian") == ["train"]
    assert near_hint("acme/notse") == "; near it are notes"
    assert near_hint("acme/steel") == ""


@pytest.mark.parametrize("name", ["acme/steel", "acme/notse", "other/steel.v1.2"])
def test_a_folder_called_like_the_owner_hides_no_data_set(offline, name):
    assert find_format(name) == "hub"
    assert describe_source(name) == {"name": name, "hub_id": name}


@pytest.mark.parametrize("name", ["other/x@v2", "./gone", "steel", "a/b/c"])
def test_what_cannot_be_on_the_hub_is_a_missing_file(offline, name):
    with pytest.raises(InputError, match=f"{name}: no such file or folder, and not a Hub id of the form owner/name"):
        find_format(name)
    assert "hub_id" not in describe_source(name)
    with pytest.raises(InputError, match=f"{name}: no such folder or file"):
        model_type_at(name, "a detector")


def test_a_mistyped_data_set_is_told_what_is_near_when_the_hub_is_not_asked(offline):
    message = (
        "few/trian: could not be read as a data set of the Hub, and no file or folder of this name is here; near it "
        "are train: HF_HUB_OFFLINE is set, so the Hub is not asked; unset it"
    )
    with pytest.raises(InputError, match=f"^{message}$"):
        read_dataset("few/trian")


@pytest.mark.parametrize("name", ["acme/notse", "acme/det.v1.2"])
def test_a_folder_called_like_the_owner_hides_no_model(offline, name):
    with pytest.raises(InputError, match="nothing on the Hub that opens") as told:
        model_type_at(name, "a detector")
    assert "the Hub cannot be reached" in str(told.value)
    assert ("near it are notes" in str(told.value)) == (name == "acme/notse")
    with pytest.raises(InputError, match="not in the cache, and the Hub cannot be reached"):
        saved_file(name, "model.safetensors")
