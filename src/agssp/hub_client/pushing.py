"""`push_to_hub` of our model classes: the files and the card that `agssp push` would publish.

The classes know that they can be published, not how: `find_publisher` is set by `agssp.auto_classes`, which stands
above them and above the room that publishes.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from agssp.errors import InputError

_OPTIONS = ("repo_id", "private", "token", "revision", "commit_message", "replace")


def _nobody() -> Any:
    raise RuntimeError("agssp.auto_classes has not been imported, which says how models are published")


find_publisher: Callable[[], Any] = _nobody
"""Gives the module with `publish_model`, `collect` and `publish`; it is imported when something is published."""


def push_to_hub(model: Any, repo_id: str, **options: Any) -> str:
    """Publish the model in one commit, with its card.

    Where it was loaded from a folder and has the same weights still, the card tells what that folder records of its
    training.

    Args:
        model: an `AgsspBackbone`, a detector of any family, or a `KeAD`.
        repo_id: OWNER/NAME; made if it is not there.
        options: `private`, `token`, `revision`, `commit_message`, as transformers has them; and `replace`, to take the
            place of another model of this name.

    Returns:
        Address of the commit.

    Raises:
        InputError: it cannot be published; see `hub.publishing.publish`.
    """
    return find_publisher().publish_model(model, repo_id, **_checked(options))


class PushesWithCard:
    """Puts `push_to_hub` in the place of transformers' own, which knows no card and may commit in several steps."""

    push_to_hub: Any = push_to_hub


def pop_push(options: dict[str, Any]) -> dict[str, Any] | None:
    """Take `push_to_hub=True` and what belongs to it out of the keywords of `save_pretrained`; None without it."""
    asked = options.pop("push_to_hub", False)
    found = {name: options.pop(name) for name in _OPTIONS if name in options and (asked or name != "token")}
    if asked and "repo_id" not in found:
        raise InputError("save_pretrained(push_to_hub=True): give repo_id='OWNER/NAME' as well")
    return found if asked else None


def push_saved(folder: Any, options: dict[str, Any]) -> str:
    """Publish a folder that was saved just now; `options` are from `pop_push`."""
    repo_id = options.pop("repo_id")
    publisher = find_publisher()
    return publisher.publish(publisher.collect(Path(folder), repo_id), repo_id, **_checked(options))


def _checked(options: dict[str, Any]) -> dict[str, Any]:
    unknown = [name for name, value in options.items() if name not in _OPTIONS and value not in (None, False)]
    if unknown:
        raise InputError(f"push_to_hub: {', '.join(unknown)} is not offered; known are {', '.join(_OPTIONS[1:])}")
    names = {"commit_message": "message"}
    return {names.get(name, name): value for name, value in options.items() if name in _OPTIONS and value is not None}
