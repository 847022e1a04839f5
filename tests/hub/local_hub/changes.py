"""What a client may change in a repository: a commit's lines of JSON, branches, tags, visibility."""

import base64
import json
from pathlib import PurePosixPath

from .access import Account
from .messages import Answer, Call, Refusal
from .store import Commit, Contents, File, Repository, is_large


def preupload(call: Call, repository: Repository, revision: str) -> Answer:
    """For each file that will come, whether it goes over LFS, and the id of what the branch has in its place."""
    present = repository.commit(revision).files

    def describe(entry: dict) -> dict:
        large = is_large(entry["path"], entry["size"], base64.b64decode(entry.get("sample", "")))
        old = present.get(entry["path"])
        return {
            "path": entry["path"],
            "uploadMode": "lfs" if large else "regular",
            "shouldIgnore": False,
            "oid": old.etag if old and old.lfs == large else None,
        }

    return Answer.of({"files": [describe(entry) for entry in call.json()["files"]]})


def read_lines(call: Call) -> list[dict]:
    """The lines of a commit: what is said of it, then its operations.

    Raises:
        Refusal: they are no lines of JSON, or ask for a pull request.
    """
    if call.flag("create_pr"):
        raise Refusal(501, "The local hub has no pull requests")
    try:
        lines = [json.loads(line) for line in call.body().splitlines() if line.strip()]
    except ValueError as error:
        raise Refusal(400, f"The commit is no lines of JSON: {error}") from error
    if not lines or lines[0]["key"] != "header":
        raise Refusal(400, "The commit does not begin with its header")
    return lines


def commit(lines: list[dict], repository: Repository, branch: str, account: Account, endpoint: str) -> Answer:
    """Make the operations of a commit one new revision of the branch, all of them or none.

    Raises:
        Refusal: there is no such branch, it has moved on from the parent that the client names, or an operation
            cannot be done.
    """
    header, *operations = lines
    branch = branch.removeprefix("refs/heads/")
    if branch not in repository.settings["branches"]:
        raise Refusal(404, f"Invalid rev id: {branch}", "RevisionNotFound")
    value, parent = header["value"], repository.commit(branch)
    expected = value.get("parentCommit")
    if expected and not parent.id.startswith(expected):
        raise Refusal(412, f"The branch has moved on: its head is {parent.id}, not {expected}. Please try again")
    files = dict(parent.files)
    for operation in operations:
        apply(files, operation["key"], operation["value"], repository.contents)
    made = repository.record(branch, files, value["summary"], value.get("description", ""), account.user)
    url = f"{endpoint}/{'' if repository.kind == 'models' else repository.kind + '/'}{repository.name}/commit/{made.id}"
    return Answer.of({"success": True, "commitOid": made.id, "commitUrl": url, "pullRequestUrl": None})


def apply(files: dict[str, File], kind: str, value: dict, contents: Contents) -> None:
    """Do one operation of a commit to the files of its revision."""
    path = value["path"].rstrip("/")
    if not path or path.startswith("/") or {"..", ".git", ""} & set(path.split("/")):
        raise Refusal(400, f"Invalid path {path!r}")
    if kind == "deletedFile":
        if path not in files:
            raise Refusal(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
        del files[path]
    elif kind == "deletedFolder":
        inside = [name for name in files if name.startswith(f"{path}/")]
        if not inside:
            raise Refusal(404, f"A folder with this name doesn't exist: {path}", "EntryNotFound")
        for name in inside:
            del files[name]
    elif kind in ("file", "lfsFile"):
        folders = map(str, PurePosixPath(path).parents)
        if any(folder in files for folder in folders) or any(name.startswith(f"{path}/") for name in files):
            raise Refusal(400, f"{path} would be a file and a folder at once")
        if kind == "file":
            files[path] = contents.file(path, contents.add(base64.b64decode(value["content"])), lfs=False)
            return
        stored = contents.path(value["oid"])
        if not stored.exists() or stored.stat().st_size != value.get("size", stored.stat().st_size):
            raise Refusal(400, f"Your push was rejected because an LFS pointer points to no uploaded file: {path}")
        files[path] = contents.file(path, value["oid"], lfs=True)
    else:
        raise Refusal(400, f"Unknown operation {kind!r}")


def name_revision(repository: Repository, group: str, name: str, target: Commit) -> Answer:
    """A new branch or tag; `group` is "branches" or "tags"."""
    if name in repository.settings[group]:
        raise Refusal(409, f"Reference already exists: {name}")
    repository.settings[group][name] = target.id
    repository.save()
    return Answer.of({})


def forget_name(repository: Repository, group: str, name: str) -> Answer:
    """Delete a branch or a tag; the revision stays."""
    if group == "branches" and name == "main":
        raise Refusal(403, "The branch main is protected")
    if name not in repository.settings[group]:
        raise Refusal(404, f"Invalid rev id: {name}", "RevisionNotFound")
    del repository.settings[group][name]
    repository.save()
    return Answer.of({})


def settings(call: Call, repository: Repository) -> Answer:
    """Change who may see a repository."""
    wanted = call.json()
    if "visibility" in wanted:
        wanted["private"] = wanted["visibility"] == "private"
    repository.settings.update({name: wanted[name] for name in ("private", "gated") if name in wanted})
    repository.save()
    return Answer.of({name: repository.settings[name] for name in ("private", "gated")})
