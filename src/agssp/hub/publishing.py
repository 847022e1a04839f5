"""Publishes a model's folder: what belongs to the model, with its card, in one commit."""

import filecmp
import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path
from typing import Any

from agssp.errors import InputError
from agssp.files import work_folder, write_bytes
from agssp.hub_client.errors import hub_errors
from agssp.hub_client.retries import with_retries
from agssp.maps.saving import REFERENCES
from agssp.models.detection import any_detector
from agssp.models.detection.catalogue import FAMILIES
from agssp.output_folder import claim_output
from agssp.parsing import read_json
from agssp.training.run import LOG_FILE, RUN_FILE

from .facts import KINDS, ModelFacts, read_facts
from .image_ids import IDS, published_id
from .machine_traces import check_no_traces
from .model_card import model_card
from .named_files import published_references, published_run
from .names import check_name
from .paths import without_paths
from .pictures import examples_picture, training_picture
from .results import eval_result_files
from .rights import check_may_write

logger = logging.getLogger(__name__)

PICTURE = "picture.png"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors")
# What is taken from a folder as it is; run.json, config.json and the card are written anew.
TAKEN = {
    "backbone": WEIGHTS,
    "detector": (*WEIGHTS, "preprocessor_config.json"),
    "kead": ("knowledge.yaml", "references.safetensors"),
}
PICKLES = (".bin", ".ckpt", ".pkl", ".pickle", ".pt", ".pth")
"""Suffixes of files that run code when they are opened; they are never pushed."""
OURS = (*TAKEN["detector"], *TAKEN["kead"], PICTURE, RUN_FILE, "pytorch_model*.bin", "pytorch_model.bin.index.json")
"""What an earlier push, or weights of the same model, may have left in a repository and a later push takes away."""
PUBLISHED = "published"
"""In a published run.json: the names of all files that went up with it."""
KEPT = (".gitattributes", "README.md", "LICENSE", "LICENSE.md")
"""Files that do not make a repository another model's."""


@dataclass(frozen=True)
class Publication:
    """What is to be published.

    Attributes:
        facts: of the model.
        files: path in the repository -> file on this machine, or content.
        left_out: names of files in the folder that are not published.
        named: path in the repository -> names of the user's images that it holds, as they are in their folder.
        ids: how these are published, one of `image_ids.IDS`.
    """

    facts: ModelFacts
    files: dict[str, Path | bytes]
    left_out: list[str]
    named: dict[str, list[str]] = field(default_factory=dict)
    ids: str = "path"


def collect(
    folder: str | Path,
    repo_id: str,
    *,
    evaluations: Sequence[str | Path] = (),
    examples: bool = False,
    ids: str = "path",
) -> Publication:
    """Choose a folder's files and write its card.

    Args:
        folder: of a backbone, a detector or KeAD.
        repo_id: OWNER/NAME, for the card.
        evaluations: outputs of `agssp evaluate` on this folder, whose results the card shows.
        examples: show held-out images of the corpus on a backbone's card; otherwise no image leaves the machine.
        ids: how images that were references, or were skipped, are named: `path`, or `hash`, a digest of that.

    Raises:
        InputError: no such `ids`, the folder holds no model, its weights are missing or pickled, a file would name this
            machine, or see `read_facts`.
    """
    check_name(repo_id)
    if ids not in IDS:
        raise InputError(f"--ids {ids}: expected {' or '.join(IDS)}")
    folder = Path(folder)
    facts = read_facts(folder, evaluations)
    files: dict[str, Path | bytes] = {}
    for pattern in TAKEN[facts.kind]:
        files |= {file.name: file for file in sorted(folder.glob(pattern)) if file.is_file()}
    pickled = sorted(entry.name for entry in folder.iterdir() if entry.suffix.lower() in PICKLES)
    if facts.kind != "kead" and not any(name.endswith(".safetensors") for name in files):
        raise InputError(
            f"{folder}: holds no model.safetensors"
            + (
                f"; pickled weights ({', '.join(pickled)}) are never published: save them as safetensors"
                * bool(pickled)
            )
        )
    named: dict[str, list[str]] = {}
    if REFERENCES in files:
        files[REFERENCES], named[REFERENCES] = published_references(folder / REFERENCES, ids)
    files["config.json"] = _json(_config(read_json(folder / "config.json"), facts))
    shown = (examples_picture(folder) if examples else None) or training_picture(facts)
    if shown is not None:
        files[PICTURE] = shown[0]
    card = model_card(facts, repo_id, picture=PICTURE if shown else None, about_picture=shown[1] if shown else "")
    files["README.md"] = card.encode()
    files |= {path: text.encode() for path, text in eval_result_files(facts).items()}
    if facts.run:
        run, named[RUN_FILE] = published_run(facts.run, ids)
        files[RUN_FILE] = _json(run | {PUBLISHED: sorted({*files, RUN_FILE})})
    for path, content in files.items():
        check_no_traces(content, path)
    return Publication(facts, files, pickled, {path: names for path, names in named.items() if names}, ids)


def say_names(publication: Publication) -> None:
    """Tell which names of the user's images a push publishes, file by file, with three of each."""
    for path, names in publication.named.items():
        shown = ", ".join(published_id(name, publication.ids) for name in names[:3])
        if publication.ids == "path":
            print(
                f"{path} names {len(names)} of your images, such as {shown}; --ids hash gives digests of them instead"
            )
        else:
            print(f"{path} names {len(names)} of your images by digests, such as {shown}")


def write_card(publication: Publication, repo_id: str, folder: str | Path) -> Path:
    """Write what a push would write anew into a folder: the card, its picture and results, but no weights.

    Args:
        publication: from `collect`.
        repo_id: OWNER/NAME that the card is for.
        folder: a new or empty one, or one that holds an earlier card for the same name.

    Returns:
        Path of the card.

    Raises:
        InputError: the folder holds anything but an earlier card of this model, the model itself for instance, whose
            records would be overwritten.
    """
    folder = Path(folder)
    claim_output(folder, "push", {"repo_id": repo_id}, flag="--card-only")
    for name, content in publication.files.items():
        if isinstance(content, bytes) and name != "config.json":
            write_bytes(folder / name, content)
    return folder / "README.md"


def publish(
    publication: Publication,
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    message: str | None = None,
    token: str | bool | None = None,
    replace: bool = False,
) -> str:
    """Push in one commit, so that no half of it is ever visible.

    Faults of the Hub or the line are waited for; a push that was cut is simply done again, and weights that arrived
    already are not sent twice.

    Args:
        publication: from `collect`.
        repo_id: OWNER/NAME; made if it is not there.
        private: whether a new repository is visible to its owner alone.
        revision: branch; made if it is not there.
        message: of the commit.
        token: default: the one that the machine is logged in with.
        replace: take the place of another model or of other files there.

    Returns:
        Address of the commit.

    Raises:
        InputError: there is no such owner, no right to write, something else of this name, or the Hub cannot be
            reached; the message says what to do.
    """
    from huggingface_hub import HfApi

    say_names(publication)
    api = HfApi(token=token)
    model_type = publication.facts.config["model_type"]
    with hub_errors(repo_id):
        check_target(repo_id, model_type, private=private, token=token, replace=replace, revision=revision)
        with_retries(lambda: api.create_repo(repo_id, private=private or None, exist_ok=True))
        if revision is not None:
            with_retries(lambda: api.create_branch(repo_id, branch=revision, exist_ok=True))
        title = message or f"Upload {publication.facts.kind}"
        # Each attempt looks at the repository anew: one whose answer was lost may have done the work.
        done = with_retries(lambda: _commit(api, publication, repo_id, revision, title, replace))
    return str(done.commit_url)


def publish_model(model: Any, repo_id: str, **options: Any) -> str:
    """Publish a model that is in memory.

    Args:
        model: an `AgsspBackbone`, a detector of any family, or a `KeAD`.
        repo_id: OWNER/NAME.
        options: see `publish`.

    Returns:
        Address of the commit.

    Raises:
        InputError: see `publish`.
    """
    with work_folder("push") as folder:
        if getattr(getattr(model, "config", None), "model_type", None) in FAMILIES:
            any_detector.save(model, folder)
        else:
            model.save_pretrained(folder)
        _copy_records(Path(str(getattr(model, "name_or_path", None) or "nowhere")), folder)
        return publish(collect(folder, repo_id), repo_id, **options)


def _copy_records(source: Path, folder: Path) -> None:
    """Take over what a model's folder records, if these are the weights that it records it of."""
    before, now = source / WEIGHTS[0], folder / WEIGHTS[0]
    if before.is_file() and now.is_file() and filecmp.cmp(before, now, shallow=False):
        for name in (RUN_FILE, LOG_FILE, "settings.json"):
            if (source / name).is_file():
                shutil.copyfile(source / name, folder / name)


def check_target(
    repo_id: str,
    model_type: str | None = None,
    *,
    private: bool = False,
    token: str | bool | None = None,
    replace: bool = False,
    revision: str | None = None,
) -> None:
    """Find out what can be found out before anything is trained or sent: the token, and what is there already.

    Args:
        repo_id: OWNER/NAME.
        model_type: of the model that is to go there; None where it is not known yet.
        private: whether it must not be visible to others.
        token: default: the one that the machine is logged in with.
        replace: do not mind what is there.
        revision: branch.

    Raises:
        InputError: no token, an unknown one or one that may not write there, a public repository where a private one is
            asked for, or another model or other files under this name.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    check_name(repo_id)
    api = HfApi(token=token)
    with hub_errors(repo_id):
        check_may_write(api, repo_id)
        try:
            there = with_retries(lambda: api.model_info(repo_id, revision=revision))
        except RepositoryNotFoundError:
            return
        except RevisionNotFoundError:
            # A new branch begins as a copy of the main one, and is as public as the repository.
            there = with_retries(lambda: api.model_info(repo_id))
        if private and not there.private:
            raise InputError(f"{repo_id}: is public already; take another name for what must stay private")
        if not replace:
            _check_is_ours(api, there, model_type)


def _check_is_ours(api: Any, there: Any, model_type: str | None) -> None:
    names = [sibling.rfilename for sibling in there.siblings or []]
    others = [name for name in names if name not in KEPT]
    if not others:
        return
    found = "no config.json"
    if "config.json" in names:
        file = api.hf_hub_download(there.id, "config.json", revision=there.sha)
        found = read_json(file).get("model_type", "a model of no known type")
    if found != model_type if model_type is not None else found not in KINDS:
        raise InputError(
            f"{there.id}: holds another model already ({found}; files {', '.join(others[:5])}), "
            f"this one is {model_type or 'another'}; choose another name, or --replace what is there"
        )


def _commit(api: Any, publication: Publication, repo_id: str, revision: str | None, title: str, replace: bool) -> Any:
    from fnmatch import fnmatch

    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    there = api.model_info(repo_id, revision=revision)
    names = [sibling.rfilename for sibling in there.siblings or []]
    ours = [*OURS, *_published_before(api, there)] if RUN_FILE in names else list(OURS)
    stale = [
        name
        for name in names
        if name not in publication.files
        and name not in KEPT
        and (replace or any(fnmatch(name, pattern) for pattern in ours))
    ]
    if stale:
        logger.info(f"taken away, as no part of this model: {', '.join(stale)}")
    operations: list[Any] = [CommitOperationDelete(name) for name in stale]
    operations += [CommitOperationAdd(name, content) for name, content in publication.files.items()]
    return api.create_commit(repo_id, operations, commit_message=title, revision=revision, parent_commit=there.sha)


def _published_before(api: Any, there: Any) -> list[str]:
    """What the run.json of an earlier push says went up with it."""
    try:
        file = api.hf_hub_download(there.id, RUN_FILE, revision=there.sha)
        names = read_json(file)[PUBLISHED]
    except (InputError, KeyError):
        return []
    return [escape(name) for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _config(config: dict[str, Any], facts: ModelFacts) -> dict[str, Any]:
    """config.json as it is published: models say nowhere from which folder they came."""
    if facts.kind == "kead":
        return without_paths(config)
    return {
        name: _config(value, facts) if isinstance(value, dict) else value
        for name, value in config.items()
        if name != "_name_or_path"
    }


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
