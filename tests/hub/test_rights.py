"""What `whoami` tells of a token, as the Hub writes it, and whether that is enough to publish."""

import pytest

from agssp.hub.rights import reason_against


def account(role="write", scoped=None, in_org="write", **organisation):
    token = {"displayName": "laptop", "role": role}
    if scoped is not None:
        token["fineGrained"] = {"canReadGatedRepos": False, "global": ["discussion.write"], "scoped": scoped}
    organisations = [{"type": "org", "name": "agssp", "roleInOrg": in_org, **organisation}]
    return {"type": "user", "name": "me", "orgs": organisations, "auth": {"accessToken": token}}


def scope(kind, name, *permissions):
    return {"entity": {"_id": "6", "type": kind, "name": name}, "permissions": list(permissions)}


@pytest.mark.parametrize("told", [{}, {"name": "agssp"}, {"name": "AGSSP", "auth": None, "orgs": None}])
def test_what_the_hub_does_not_say_is_left_to_the_attempt(told):
    assert reason_against({"name": "agssp"} | told, "agssp/x") is None


@pytest.mark.parametrize(
    ("told", "repo_id"),
    [
        (account(), "me/x"),
        (account(), "agssp/x"),
        (account(), "Agssp/x"),
        (account(in_org="contributor"), "agssp/x"),
        (account(in_org="read"), "me/x"),
        (account(in_org="read", resourceGroups=[{"name": "vision", "role": "write"}]), "agssp/x"),
        (account("fineGrained"), "me/x"),
        (account("fineGrained", [scope("user", "me", "repo.content.read", "repo.write")]), "me/x"),
        (account("fineGrained", [scope("org", "agssp", "repo.write")]), "agssp/x"),
        (account("fineGrained", [scope("user", "me"), scope("model", "agssp/x", "repo.write")]), "agssp/x"),
    ],
)
def test_who_may_write(told, repo_id):
    assert reason_against(told, repo_id) is None


@pytest.mark.parametrize(
    ("told", "repo_id", "reason"),
    [
        (account("read"), "me/x", "reading alone"),
        (account(), "others/x", "that of me, who does not belong to others"),
        (account(in_org="read"), "agssp/x", "me, whose token this is, only reads there"),
        (account("fineGrained", []), "me/x", "fine-grained, with no rights there"),
        (account("fineGrained", [scope("user", "me", "repo.content.read")]), "me/x", "with repo.content.read there"),
        (account("fineGrained", [scope("org", "agssp", "repo.write")]), "me/x", "with no rights there"),
        (account("fineGrained", [scope("model", "me/other", "repo.write")]), "me/x", "with no rights there"),
        (account("fineGrained", [scope("user", "me", "discussion.write")]), "me/x", "with discussion.write there"),
    ],
)
def test_who_may_not(told, repo_id, reason):
    assert reason in reason_against(told, repo_id)
