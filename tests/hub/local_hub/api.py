"""The Hub's HTTP API: which call is answered by what, after who calls has been checked."""

import re
import threading
from pathlib import Path
from urllib.parse import parse_qs, unquote

from . import cards, changes, views
from .access import Account, caller, check_readable, check_visible, check_writable
from .lfs import Uploads
from .messages import Answer, Call, Refusal
from .store import Repository, Store

KINDS = {"model": "models", "dataset": "datasets", "space": "spaces"}
NAME = r"(?P<name>[^/]+/[^/]+?)"
OF_REPOSITORY = rf"/api/(?P<kind>models|datasets|spaces)/{NAME}"
RESOLVE = r"/(?:(?P<kind>datasets|spaces)/)?(?P<name>[^/]+(?:/[^/]+)?)/resolve/(?P<revision>[^/]+)/(?P<path>.+)"
LFS_BATCH = rf"/(?:(?P<kind>datasets|spaces)/)?{NAME}\.git/info/lfs/objects/batch"

# Method, path and the method of `Api` that answers; the first that matches. The groups of the path are its arguments.
ROUTES = [
    ("GET", r"/api/whoami-v2", "whoami"),
    ("POST", r"/api/validate-yaml", "validate_card"),
    ("POST", r"/api/repos/create", "create"),
    ("DELETE", r"/api/repos/delete", "delete"),
    ("GET", r"/api/(?P<kind>models|datasets|spaces)", "list"),
    ("GET", OF_REPOSITORY, "information"),
    ("GET", OF_REPOSITORY + r"/revision/(?P<revision>[^/]+)", "information"),
    ("GET", OF_REPOSITORY + r"/tree/(?P<revision>[^/]+)(?:/(?P<path>.+))?", "tree"),
    ("POST", OF_REPOSITORY + r"/paths-info/(?P<revision>[^/]+)", "paths_information"),
    ("GET", OF_REPOSITORY + r"/refs", "references"),
    ("GET", OF_REPOSITORY + r"/commits/(?P<revision>[^/]+)", "history"),
    ("GET", OF_REPOSITORY + r"/auth-check(?P<write>/write)?", "check_access"),
    ("PUT", OF_REPOSITORY + r"/settings", "settings"),
    ("POST", OF_REPOSITORY + r"/preupload/(?P<revision>[^/]+)", "preupload"),
    ("POST", OF_REPOSITORY + r"/commit/(?P<revision>[^/]+)", "commit"),
    ("POST", OF_REPOSITORY + r"/branch/(?P<branch>.+)", "create_branch"),
    ("DELETE", OF_REPOSITORY + r"/branch/(?P<branch>.+)", "delete_branch"),
    ("POST", OF_REPOSITORY + r"/tag/(?P<revision>[^/]+)", "create_tag"),
    ("DELETE", OF_REPOSITORY + r"/tag/(?P<tag>.+)", "delete_tag"),
    ("POST", LFS_BATCH, "lfs_batch"),
    ("PUT", r"/lfs/(?P<secret>\w+)", "lfs_receive"),
    ("PUT", r"/lfs/(?P<secret>\w+)/(?P<number>\d+)", "lfs_receive_part"),
    ("POST", r"/lfs/(?P<secret>\w+)", "lfs_complete"),
    ("POST", r"/lfs-verify", "lfs_verify"),
    ("GET", RESOLVE, "content"),
    ("GET", r"/(?:parquet|info|splits|size|is-valid|rows|first-rows|statistics)", "viewer"),
    ("GET", r"/api/(?:models|datasets|spaces)/[^/]+(?:/revision/[^/]+)?", "nameless"),
]


class Api:
    """Answers calls from what lies in one folder.

    Args:
        folder: where repositories are kept.
        accounts: who may call, by token.
    """

    def __init__(self, folder: Path, accounts: dict[str, Account]):
        self.store = Store(folder)
        self.accounts = accounts
        self.uploads = Uploads(self.store.contents)
        self.endpoint = ""
        self.changing = threading.RLock()

    def answer(self, call: Call) -> Answer:
        """The answer to one call; a HEAD is answered like its GET, whose body the caller leaves out."""
        method = "GET" if call.method == "HEAD" else call.method
        for expected, pattern, name in ROUTES:
            match = re.fullmatch(pattern, call.path)
            if match and expected == method:
                groups = {key: unquote(value) if value else value for key, value in match.groupdict().items()}
                try:
                    return getattr(self, name)(call, **groups)
                except Refusal as refusal:
                    return Answer.refusing(refusal)
        return Answer.refusing(Refusal(404, f"The local hub does not know {call.method} {call.path}"))

    # Who calls, and about what

    def account(self, call: Call) -> Account | None:
        return caller(call.headers, self.accounts)

    def visible(self, call: Call, kind: str | None, name: str) -> Repository:
        return check_visible(self.store.find(kind or "models", name), self.account(call))

    def readable(self, call: Call, kind: str | None, name: str) -> Repository:
        repository = self.visible(call, kind, name)
        check_readable(repository, self.account(call))
        return repository

    def writable(self, call: Call, kind: str | None, name: str) -> tuple[Repository, Account]:
        repository = self.visible(call, kind, name)
        return repository, check_writable(repository.owner, self.account(call))

    # Accounts, cards, repositories

    def whoami(self, call: Call) -> Answer:
        account = self.account(call)
        if account is None:
            raise Refusal(401, "Invalid username or password.")
        role = "write" if account.writes else "read"
        organisations = [{"type": "org", "name": name, "roleInOrg": role} for name in account.organisations]
        token = {"type": "access_token", "accessToken": {"displayName": "local", "role": role}}
        return Answer.of({"type": "user", "name": account.user, "orgs": organisations, "auth": token})

    def validate_card(self, call: Call) -> Answer:
        errors, warnings = cards.validate(call.json()["content"])
        lists = {
            "errors": [{"message": error} for error in errors],
            "warnings": [{"message": warning} for warning in warnings],
        }
        return Answer.of(lists | ({"error": "; ".join(errors)} if errors else {}), 400 if errors else 200)

    def create(self, call: Call) -> Answer:
        wanted, account = call.json(), self.account(call)
        namespace = wanted.get("organization") or (account.user if account else "")
        author = check_writable(namespace, account)
        kind, name = wanted.get("type") or "model", f"{namespace}/{wanted['name']}"
        if kind not in KINDS:
            raise Refusal(400, f"Invalid repository type {kind!r}")
        url = f"{self.endpoint}/{'' if kind == 'model' else kind + 's/'}{name}"
        with self.changing:
            if self.store.find(KINDS[kind], name):
                error = f"You already created this {kind} repo: {name}"
                return Answer.of({"error": error, "url": url}, 409, {"X-Error-Message": error})
            private = wanted.get("private") or wanted.get("visibility") == "private"
            self.store.create(KINDS[kind], name, author.user, private)
        return Answer.of({"url": url, "name": name, "private": private})

    def delete(self, call: Call) -> Answer:
        wanted, account = call.json(), self.account(call)
        namespace = wanted.get("organization") or (account.user if account else "")
        kind = KINDS.get(wanted.get("type") or "model")
        with self.changing:
            repository, _ = self.writable(call, kind, f"{namespace}/{wanted['name']}")
            self.store.delete(repository)
        return Answer.of({})

    def list(self, call: Call, kind: str) -> Answer:
        account = self.account(call)
        known = set(account.namespaces if account else ())
        seen = [found for found in self.store.list(kind) if not found.settings["private"] or found.owner in known]
        author, search = call.query.get("author", [None])[0], call.query.get("search", [""])[0]
        chosen = [found for found in seen if author in (None, found.owner) and search in found.name]
        return Answer.of([views.summary(found, found.commit()) for found in chosen])

    def nameless(self, call: Call) -> Answer:
        """No repository here is without an owner."""
        check_visible(None, self.account(call))
        raise AssertionError

    # What repositories contain

    def information(self, call: Call, kind: str, name: str, revision: str = "main") -> Answer:
        repository = self.visible(call, kind, name)
        return views.information(call, repository, repository.commit(revision))

    def tree(self, call: Call, kind: str, name: str, revision: str, path: str | None) -> Answer:
        repository = self.visible(call, kind, name)
        return views.tree(call, repository.commit(revision), path or "", self.endpoint)

    def paths_information(self, call: Call, kind: str, name: str, revision: str) -> Answer:
        repository = self.visible(call, kind, name)
        body = call.body().decode()
        form = parse_qs(body)
        expand = form.get("expand", ["false"])[0].lower() == "true"
        return views.paths_information(repository.commit(revision), form.get("paths", []), expand)

    def references(self, call: Call, kind: str, name: str) -> Answer:
        return views.references(self.visible(call, kind, name))

    def history(self, call: Call, kind: str, name: str, revision: str) -> Answer:
        return views.history(self.visible(call, kind, name), revision)

    def content(self, call: Call, kind: str | None, name: str, revision: str, path: str) -> Answer:
        repository = self.readable(call, kind, name)
        return views.content(call, repository, repository.commit(revision), path)

    def viewer(self, call: Call) -> Answer:
        raise Refusal(501, "The local hub has no dataset viewer")

    # What clients change

    def check_access(self, call: Call, kind: str, name: str, write: str | None) -> Answer:
        self.writable(call, kind, name) if write else self.readable(call, kind, name)
        return Answer.of({})

    def settings(self, call: Call, kind: str, name: str) -> Answer:
        with self.changing:
            return changes.settings(call, self.writable(call, kind, name)[0])

    def preupload(self, call: Call, kind: str, name: str, revision: str) -> Answer:
        return changes.preupload(call, self.writable(call, kind, name)[0], revision)

    def commit(self, call: Call, kind: str, name: str, revision: str) -> Answer:
        lines = changes.read_lines(call)
        with self.changing:
            repository, account = self.writable(call, kind, name)
            return changes.commit(lines, repository, revision, account, self.endpoint)

    def create_branch(self, call: Call, kind: str, name: str, branch: str) -> Answer:
        start = call.json().get("startingPoint") or "main"
        with self.changing:
            repository, _ = self.writable(call, kind, name)
            return changes.name_revision(repository, "branches", branch, repository.commit(start))

    def delete_branch(self, call: Call, kind: str, name: str, branch: str) -> Answer:
        with self.changing:
            return changes.forget_name(self.writable(call, kind, name)[0], "branches", branch)

    def create_tag(self, call: Call, kind: str, name: str, revision: str) -> Answer:
        tag = call.json()["tag"]
        with self.changing:
            repository, _ = self.writable(call, kind, name)
            return changes.name_revision(repository, "tags", tag, repository.commit(revision))

    def delete_tag(self, call: Call, kind: str, name: str, tag: str) -> Answer:
        with self.changing:
            return changes.forget_name(self.writable(call, kind, name)[0], "tags", tag)

    # Large files

    def lfs_batch(self, call: Call, kind: str | None, name: str) -> Answer:
        self.writable(call, kind, name)
        return self.uploads.batch(call, self.endpoint)

    def lfs_receive(self, call: Call, secret: str) -> Answer:
        return self.uploads.receive(call, secret)

    def lfs_receive_part(self, call: Call, secret: str, number: str) -> Answer:
        return self.uploads.receive_part(call, secret, number)

    def lfs_complete(self, call: Call, secret: str) -> Answer:
        return self.uploads.complete(call, secret)

    def lfs_verify(self, call: Call) -> Answer:
        return self.uploads.verify(call)
