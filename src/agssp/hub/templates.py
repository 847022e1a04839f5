"""Fills the cards' Jinja templates, which lie in `hub_cards/` of the checkout and inside the installed package."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDERS = (Path(__file__).parents[1] / "hub_cards", Path(__file__).parents[3] / "hub_cards")
"""In an installed wheel, and in a checkout."""


def render(template: str, values: Mapping[str, Any]) -> str:
    """Fill a template.

    Args:
        template: file name in `hub_cards/`.
        values: what it names; a name that is missing is an error, so that no card is ever silently half empty.

    Returns:
        The text, without runs of empty lines, ending in one line break.
    """
    import re

    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(FOLDERS), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text = environment.get_template(template).render(values)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
