"""Finds out whether a token may write under a name, as far as the Hub tells before anything is written."""

from typing import Any

from agssp.errors import InputError
from agssp.hub_client.errors import LOG_IN
from agssp.hub_client.retries import with_retries


def check_may_write(api: Any, repo_id: str) -> None:
    """Refuse a token that cannot publish there, for instance before hours of training.

    Args:
        api: an `HfApi`.
        repo_id: OWNER/NAME, which need not be there yet.

    Raises:
        InputError: the token is for reading alone, is its user's who does not belong to OWNER or only reads there, or
            is fine-grained and lacks the right to write.
        Exception: what the client raises where there is no token, an unknown one, or no answer.
    """
    reason = reason_against(with_retries(api.whoami), repo_id)
    if reason is not None:
        raise InputError(
            f"{repo_id}: {reason}; it needs the right to write to {repo_id.split('/')[0]}. Make such a token on "
            f"{api.endpoint}/settings/tokens and {LOG_IN}"
        )


def reason_against(account: dict[str, Any], repo_id: str) -> str | None:
    """Why an account's token cannot write under a name; None where it can, or where the Hub does not say.

    Args:
        account: what `HfApi.whoami` gives: `name`, `orgs`, and under `auth` the role and the rights of the token.
        repo_id: OWNER/NAME.
    """
    token = (account.get("auth") or {}).get("accessToken") or {}
    if token.get("role") == "read":
        return "this token is for reading alone"
    name = repo_id.split("/")[0]
    owner = name.lower()
    organisations = {str(entry.get("name")).lower(): entry for entry in account.get("orgs") or []}
    if owner != str(account.get("name")).lower():
        if owner not in organisations:
            return f"this token is that of {account.get('name')}, who does not belong to {name}"
        membership = organisations[owner]
        # In a group of repositories somebody may write who only reads elsewhere.
        if membership.get("roleInOrg") == "read" and not membership.get("resourceGroups"):
            return f"{account.get('name')}, whose token this is, only reads there"
    scopes = (token.get("fineGrained") or {}).get("scoped")
    if token.get("role") == "fineGrained" and isinstance(scopes, list):
        places = (owner, repo_id.lower())
        rights = [
            right
            for scope in scopes
            if str((scope.get("entity") or {}).get("name")).lower() in places
            for right in scope.get("permissions") or []
        ]
        # `repo.write` today; the parts of a repository may get rights of their own.
        if not any(right.startswith("repo.") and right.endswith(".write") for right in rights):
            return f"this token is fine-grained, with {', '.join(sorted(set(rights))) or 'no rights'} there"
    return None
