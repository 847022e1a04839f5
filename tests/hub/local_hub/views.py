"""What a client may ask of a repository: information, lists of files, and the files themselves."""

import re

from .cards import metadata
from .messages import Answer, Call, Refusal
from .store import Commit, File, Repository, git_id, pointer

PAGE = 1000


def information(call: Call, repository: Repository, commit: Commit) -> Answer:
    """The repository at one revision, with what its card says."""
    return Answer.of(summary(repository, commit, call.flag("blobs")))


def summary(repository: Repository, commit: Commit, details: bool = False) -> dict:
    readme = commit.files.get("README.md")
    try:
        card = metadata(repository.contents.path(readme.sha256).read_text()) if readme else {}
    except ValueError:
        card = {}
    found = {
        "id": repository.name,
        "author": repository.owner,
        "sha": commit.id,
        "private": repository.settings["private"],
        "gated": repository.settings["gated"],
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": list(card.get("tags") or []),
        "createdAt": repository.settings["created"],
        "lastModified": commit.date,
        "siblings": [sibling(file, details) for file in commit.files.values()],
    }
    named = {name: card[name] for name in ("pipeline_tag", "library_name", "model-index") if card.get(name)}
    return found | named | ({"cardData": card} if card else {})


def sibling(file: File, details: bool) -> dict:
    entry: dict = {"rfilename": file.path}
    if details:
        entry |= {"size": file.size, "blobId": file.git_id}
        if file.lfs:
            entry["lfs"] = {"sha256": file.sha256, "size": file.size, "pointerSize": pointer_size(file)}
    return entry


def pointer_size(file: File) -> int:
    return len(pointer(file.sha256, file.size))


def entry_of(file: File, commit: Commit, expand: bool) -> dict:
    entry: dict = {"type": "file", "path": file.path, "size": file.size, "oid": file.git_id}
    if file.lfs:
        entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": pointer_size(file)}
    return entry | (last_commit(commit) if expand else {})


def folder_of(path: str, commit: Commit, expand: bool) -> dict:
    """A folder's entry; its id changes with what it contains."""
    inside = [file.git_id for name, file in commit.files.items() if name.startswith(f"{path}/")]
    entry = {"type": "directory", "path": path, "size": 0, "oid": git_id(b"tree", "".join(inside).encode())}
    return entry | (last_commit(commit) if expand else {})


def last_commit(commit: Commit) -> dict:
    return {"lastCommit": {"id": commit.id, "title": commit.title, "date": commit.date}}


def tree(call: Call, commit: Commit, path: str, endpoint: str) -> Answer:
    """Files and folders below a path, by name, a page at a time."""
    below = f"{path}/" if path else ""
    inside = [name for name in commit.files if name.startswith(below)]
    if path and not inside:
        raise Refusal(404, f"{path} does not exist on this revision", "EntryNotFound", commit.id)
    names: set[str] = set()
    for name in inside:
        parts = name.removeprefix(below).split("/")
        depth = len(parts) if call.flag("recursive") else 1
        names.update(below + "/".join(parts[: count + 1]) for count in range(depth))
    expand = call.flag("expand")
    entries = [
        entry_of(commit.files[name], commit, expand) if name in commit.files else folder_of(name, commit, expand)
        for name in sorted(names)
    ]
    start = int(call.query.get("cursor", ["0"])[0])
    headers = {}
    if start + PAGE < len(entries):
        flags = f"recursive={call.flag('recursive')}&expand={expand}&cursor={start + PAGE}"
        headers["Link"] = f'<{endpoint}{call.path}?{flags}>; rel="next"'
    return Answer.of(entries[start : start + PAGE], headers=headers)


def paths_information(commit: Commit, paths: list[str], expand: bool) -> Answer:
    """The entries of these paths; those that do not exist are left out."""
    found = []
    for path in paths:
        if path in commit.files:
            found.append(entry_of(commit.files[path], commit, expand))
        elif any(name.startswith(f"{path}/") for name in commit.files):
            found.append(folder_of(path, commit, expand))
    return Answer.of(found)


def references(repository: Repository) -> Answer:
    """All branches and tags."""
    lists = {
        group: [
            {"name": name, "ref": f"refs/{folder}/{name}", "targetCommit": target}
            for name, target in repository.settings[group].items()
        ]
        for group, folder in (("branches", "heads"), ("tags", "tags"))
    }
    return Answer.of(lists | {"converts": [], "pullRequests": []})


def history(repository: Repository, revision: str) -> Answer:
    """The commits that a revision comes from, newest first."""
    return Answer.of(
        [
            {
                "id": commit.id,
                "title": commit.title,
                "message": commit.message,
                "authors": [{"user": commit.author}],
                "date": commit.date,
            }
            for commit in repository.history(revision)
        ]
    )


def content(call: Call, repository: Repository, commit: Commit, path: str) -> Answer:
    """A file, or the range of its bytes that the call asks for.

    Raises:
        Refusal: the revision has no such file, or the file not so many bytes.
    """
    file = commit.files.get(path)
    if file is None:
        raise Refusal(404, f"Entry not found: {path}", "EntryNotFound", commit.id)
    headers = {
        "ETag": f'"{file.etag}"',
        "X-Repo-Commit": commit.id,
        "Accept-Ranges": "bytes",
        "Content-Type": "application/octet-stream" if file.lfs else "text/plain; charset=utf-8",
        "Content-Disposition": f'inline; filename="{path.split("/")[-1]}"',
    }
    if file.lfs:
        headers |= {"X-Linked-ETag": f'"{file.sha256}"', "X-Linked-Size": str(file.size)}
    stored = repository.contents.path(file.sha256)
    wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", call.headers.get("range", "").replace(" ", ""))
    if not wanted or wanted[0] == "bytes=-":
        return Answer(200, headers, stored)
    first, last = wanted.groups()
    start = int(first) if first else max(0, file.size - int(last))
    end = min(int(last), file.size - 1) if first and last else file.size - 1
    if start > end:
        headers = {"Content-Range": f"bytes */{file.size}"}
        return Answer.of({"error": "Requested range not satisfiable"}, 416, headers)
    headers["Content-Range"] = f"bytes {start}-{end}/{file.size}"
    return Answer(206, headers, stored, start, end - start + 1)
