"""XML files of labelling tools, opened without what makes XML dangerous: document types, entities, huge files."""

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from agssp.errors import InputError
from agssp.faults import raise_storage_fault
from agssp.parsing import MOST_DEPTH, check_size

MOST_BYTES = 256 * 1024**2
_SNIFFED = 4096
_ENCODING = re.compile(rb"""(?:\xef\xbb\xbf)?\s*<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9._-]+)""")
_FIRST_TAG = re.compile(rb"<([A-Za-z_][\w.-]*)")


def read_xml(file: Path) -> ElementTree.Element:
    """The outermost element of an XML file.

    Raises:
        InputError: it is no XML, in an encoding that is not read, larger than `MOST_BYTES`, too deep, or declares a
            document type, with which it could name other files or grow without bounds; the file is named.
    """
    check_size(file, MOST_BYTES, "XML")
    with open(file, "rb") as opened:  # noqa: PTH123 (as fast as can be, for each of many files)
        content = opened.read()
    # UTF-16 puts a zero beside each letter.
    plain = content.replace(b"\0", b"") if b"\0" in content else content
    if b"<!DOCTYPE" in plain or b"<!ENTITY" in plain:
        raise InputError(f"{file}: declares a document type or entities, which no labelling tool does; take them out")
    try:
        declared = _ENCODING.match(content)
        if declared and "<!DOCTYPE".encode(declared[1].decode()) != b"<!DOCTYPE" and b"\0" not in content:
            raise ValueError(declared[1].decode())
        root = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise InputError(f"{file}: not valid XML: {error}") from error
    except (ValueError, LookupError) as error:
        raise InputError(f"{file}: expected XML in UTF-8, got an encoding that cannot be read: {error}") from error
    if _is_too_deep(root):
        raise InputError(
            f"{file}: XML that is nested too deeply, over {MOST_DEPTH} levels, which no labelling tool does"
        )
    return root


def _is_too_deep(root: ElementTree.Element) -> bool:
    """Whether elements lie in one another to more than `MOST_DEPTH` levels."""
    level = [root]
    for _ in range(MOST_DEPTH):
        level = [inner for outer in level if len(outer) for inner in outer]
        if not level:
            return False
    return True


def root_tag(file: Path) -> str | None:
    """Name of the outermost element, told by the file's first bytes; None for what is no XML."""
    parser: ElementTree.XMLPullParser[Any] = ElementTree.XMLPullParser(("start",))
    try:
        with file.open("rb") as content:
            head = content.read(_SNIFFED)
    except OSError as error:
        raise_storage_fault(error, file)
        return None
    try:
        parser.feed(head)
        return next((event[1].tag for event in parser.read_events()), None)  # type: ignore[misc, union-attr]
    except ElementTree.ParseError:
        return None
    except (ValueError, LookupError):
        # An encoding that the parser lacks; names of elements are plain letters in all that are in use.
        found = _FIRST_TAG.search(head)
        return found[1].decode() if found else None


def texts_below(node: ElementTree.Element, outer: str) -> dict[str, str]:
    """`node.findtext("outer/inner")` for each inner element that there is, in a tenth of the time."""
    found: dict[str, str] = {}
    for each in node.findall(outer):
        for inner in each:
            found.setdefault(inner.tag, inner.text or "")
    return found


def number_of(text: str | None, what: str, where: str) -> float:
    """A number in an XML file.

    Raises:
        InputError: it is missing or none; `what` and `where` name it.
    """
    try:
        return float(text)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: expected a number as {what}, got {text!r}") from error
