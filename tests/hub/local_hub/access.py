"""Who calls, and what they may see and change."""

from dataclasses import dataclass

from .messages import Refusal
from .store import Repository


@dataclass(frozen=True)
class Account:
    """A user, the organisations they write for, and whether this token of theirs may write."""

    user: str
    organisations: tuple[str, ...] = ()
    writes: bool = True

    @property
    def namespaces(self) -> tuple[str, ...]:
        return (self.user, *self.organisations)


def caller(headers: dict[str, str], accounts: dict[str, Account]) -> Account | None:
    """The account whose token the call brings, or None for a call without one.

    Raises:
        Refusal: the token is nobody's; the Hub then refuses even what is public.
    """
    token = headers.get("authorization", "").removeprefix("Bearer ").strip()
    if token and token not in accounts:
        raise Refusal(401, "Invalid credentials in Authorization header")
    return accounts.get(token)


def check_visible(repository: Repository | None, account: Account | None) -> Repository:
    """A repository the caller may know of; a private one of others is answered like one that does not exist.

    Raises:
        Refusal: there is none, or it is private.
    """
    members = repository is not None and account is not None and repository.owner in account.namespaces
    if repository is not None and (members or not repository.settings["private"]):
        return repository
    if account is None:
        raise Refusal(401, "Invalid username or password.", "RepoNotFound")
    raise Refusal(404, "Repository not found", "RepoNotFound")


def check_readable(repository: Repository, account: Account | None) -> None:
    """Files of a gated repository are for its members only.

    Raises:
        Refusal: the caller is none.
    """
    if repository.settings["gated"] and (account is None or repository.owner not in account.namespaces):
        status = 401 if account is None else 403
        raise Refusal(status, f"Access to {repository.name} is restricted. Ask for access.", "GatedRepo")


def check_writable(namespace: str, account: Account | None) -> Account:
    """The account, if it may write in this namespace.

    Raises:
        Refusal: it may not, or the call had no token.
    """
    if account is None:
        raise Refusal(401, "Invalid username or password.")
    if not account.writes:
        raise Refusal(403, "you must use a write token to upload to a repository")
    if namespace not in account.namespaces:
        raise Refusal(403, f"You don't have the rights to write under the namespace {namespace!r}")
    return account
