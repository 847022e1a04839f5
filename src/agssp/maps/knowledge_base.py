"""What is known about each object's defects, in words, read from YAML."""

import difflib
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from agssp.errors import InputError
from agssp.maps.prompts import TEMPLATES, Knowledge, anomalous_states, normal_states
from agssp.parsing import parse_yaml, read_yaml

KEYS = {"object", "normal", "defects"}
# Brackets of a template, or what people write where words are still to come.
UNFILLED = re.compile(r"[{}<>\[\]]|\.\.\.|…|\?\?|\b(to-?do|tbd|tba|fixme|x{3,})\b", re.IGNORECASE)


@dataclass(frozen=True)
class KnowledgeBase:
    """Knowledge for a number of categories."""

    categories: Mapping[str, Knowledge]

    @classmethod
    def load(cls, source: str | Path) -> "KnowledgeBase":
        """Read a YAML file, a packaged file by its name (`steel`), or all packaged ones together (`metal`).

        The file maps category -> {object: WORDS, normal: [PHRASE, ...], defects: {TYPE: APPEARANCE}}.

        Raises:
            InputError: no such file, not of that form, unknown keys, a key given twice, or a placeholder left in a
                phrase.
        """
        path = Path(source)
        if path.is_file():
            return cls(_entries(read_yaml(path, loader=_UniqueKeyLoader, name=f"knowledge {source}"), str(source)))
        packaged = packaged_files()
        if str(source) == "metal":
            merged: dict[str, Knowledge] = {}
            for name, text in packaged.items():
                merged.update(_parse(text, name))
            return cls(merged)
        if str(source) in packaged:
            return cls(_parse(packaged[str(source)], str(source)))
        raise InputError(f"knowledge {source}: no such file, nor one of the packaged: metal, {', '.join(packaged)}")

    def for_category(self, category: str) -> Knowledge:
        """Knowledge about one category.

        Raises:
            InputError: it is not described; near names are shown.
        """
        if category in self.categories:
            return self.categories[category]
        near = difflib.get_close_matches(category, self.categories, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"described are {', '.join(self.categories)}"
        raise InputError(f"category {category!r} is not described in the knowledge: {hint}")

    @property
    def hash(self) -> str:
        """16 hexadecimal digits that change with any word."""
        content = {
            name: [entry.object, list(entry.normal), dict(entry.defects)] for name, entry in self.categories.items()
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def check_length(self, count_tokens: Callable[[str], int], limit: int) -> int:
        """Raise for the first prompt that does not fit the teacher's context.

        Args:
            count_tokens: number of tokens of a text, start and end included.
            limit: the teacher's context length, 77 for CLIP.

        Returns:
            Tokens of the longest prompt.

        Raises:
            InputError: a prompt is too long; the category and phrase are named.
        """
        longest = max(TEMPLATES, key=lambda template: count_tokens(template.format("")))
        most = 0
        for name, entry in self.categories.items():
            for state in [*normal_states(entry), *anomalous_states(entry)]:
                tokens = count_tokens(longest.format(state))
                if tokens > limit:
                    raise InputError(
                        f"knowledge of {name!r}: {state!r} takes {tokens} tokens with the longest template, the "
                        f"teacher reads {limit}; shorten it by about {tokens - limit} words"
                    )
                most = max(most, tokens)
        return most


def packaged_files() -> dict[str, str]:
    """The packaged knowledge: name -> YAML text."""
    folder = resources.files("agssp.maps.knowledge")
    files = sorted((item for item in folder.iterdir() if item.name.endswith(".yaml")), key=lambda item: item.name)
    return {item.name.removesuffix(".yaml"): item.read_text(encoding="utf-8") for item in files}


class _UniqueKeyLoader(yaml.SafeLoader):
    """Of PyYAML's safe kind, which keeps the last of two equal keys without a word; here the second one is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode) and key_node.tag != "tag:yaml.org,2002:merge":
                if (key_node.tag, key_node.value) in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"{key_node.value!r} is given twice", key_node.start_mark
                    )
                seen.add((key_node.tag, key_node.value))
        return super().construct_mapping(node, deep)


def _parse(text: str, source: str) -> dict[str, Knowledge]:
    return _entries(parse_yaml(text, f"knowledge {source}", loader=_UniqueKeyLoader), source)


def _entries(content: Any, source: str) -> dict[str, Knowledge]:
    if not content:
        raise InputError(f"knowledge {source}: is empty; expected category -> object, normal, defects")
    if not isinstance(content, dict):
        raise InputError(f"knowledge {source}: expected a table of categories, got {type(content).__name__}")
    return {str(name): _parse_entry(entry, f"knowledge {source}, category {name!r}") for name, entry in content.items()}


def _parse_entry(entry: Any, where: str) -> Knowledge:
    if not isinstance(entry, dict):
        raise InputError(f"{where}: expected a table with {', '.join(sorted(KEYS))}, got {type(entry).__name__}")
    unknown = sorted(set(map(str, entry)) - KEYS)
    if unknown:
        near = difflib.get_close_matches(unknown[0], KEYS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InputError(f"{where}: unknown key {unknown[0]!r}, expected {', '.join(sorted(KEYS))}{hint}")
    word, normal, defects = entry.get("object"), entry.get("normal") or [], entry.get("defects") or {}
    if not isinstance(word, str) or not word.strip():
        raise InputError(f"{where}: `object` must be the words for the object, got {word!r}")
    if not isinstance(normal, list) or not all(isinstance(phrase, str) and phrase.strip() for phrase in normal):
        raise InputError(f"{where}: `normal` must be a list of phrases, got {normal!r}")
    if not isinstance(defects, dict) or not all(isinstance(text, str) and text.strip() for text in defects.values()):
        raise InputError(f"{where}: `defects` must map each defect type to how it appears, got {defects!r}")
    for phrase in [word, *normal, *map(str, defects), *defects.values()]:
        if UNFILLED.search(phrase):
            raise InputError(f"{where}: {phrase!r} still holds a placeholder; write the words themselves")
    return Knowledge(
        word.strip(), tuple(map(str.strip, normal)), {str(key): text.strip() for key, text in defects.items()}
    )
