"""Says what a repository may be called, before anything heavy is imported."""

from agssp.errors import InputError
from agssp.hub_client.names import is_hub_id


def check_name(repo_id: str) -> None:
    """Refuse what is no name of a repository.

    Raises:
        InputError: for anything but OWNER/NAME.
    """
    if not is_hub_id(repo_id):
        raise InputError(f"{repo_id!r}: not a repository's name; expected OWNER/NAME, such as me/my-detector")
