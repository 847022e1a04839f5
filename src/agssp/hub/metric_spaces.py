"""Publishes the metrics as Spaces, where `evaluate.load("OWNER/agssp_detection")` looks for them."""

from agssp.evaluation import MODULES, module_path
from agssp.hub_client.errors import hub_errors
from agssp.hub_client.retries import with_retries

from .names import check_name
from .templates import render


def publish_metric(name: str, owner: str, *, token: str | bool | None = None) -> str:
    """Push one metric in one commit.

    Args:
        name: of a metric, see `agssp.evaluation.module_path`.
        owner: user or organisation on the Hub.
        token: default: the one that the machine is logged in with.

    Returns:
        Address of the commit.

    Raises:
        InputError: no such metric or owner, no right to write, or the Hub cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    repo_id = f"{owner}/{name}"
    module = (MODULES / module_path(name) / f"{name}.py").read_text(encoding="utf-8")
    check_name(repo_id)
    purpose = module.split('"""')[1].split("\n")[0]
    files = {f"{name}.py": module, "README.md": render("metric.md.jinja", {"repo_id": repo_id, "purpose": purpose})}
    operations = [CommitOperationAdd(path, text.encode()) for path, text in files.items()]
    api = HfApi(token=token)
    with hub_errors(repo_id):
        # A static Space shows its card; `evaluate` reads the module beside it.
        with_retries(lambda: api.create_repo(repo_id, repo_type="space", space_sdk="static", exist_ok=True))
        done = with_retries(
            lambda: api.create_commit(repo_id, operations, repo_type="space", commit_message=f"Upload {name}")
        )
    return str(done.commit_url)
