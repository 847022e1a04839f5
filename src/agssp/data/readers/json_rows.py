"""JSON files that are too large to be held as Python's objects: their long lists are read a part at a time."""

import codecs
import json
import re
from array import array
from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from typing import Any, BinaryIO, overload

from agssp.errors import InputError
from agssp.faults import raise_storage_fault
from agssp.parsing import is_too_deep

PART = 64 * 1024
"""Bytes of rows that are held at once."""
_BOM = codecs.BOM_UTF8
_SPACE = re.compile(r"[ \t\n\r]*")
_BORDER = re.compile(r"\}[ \t\n\r]*,[ \t\n\r]*(?=\{)")
# Characters at the end of a part among which the last row's end is looked for.
_LONG_ROW = 4096
_AFTER_VALUE = re.compile(r"[ \t\n\r]*[,:\]}]")
_AFTER_ROW = re.compile(r"[ \t\n\r]*([,\]])[ \t\n\r]*")


class JsonRows(Sequence[Any]):
    """A list in a JSON file that was looked through once; its rows are made from the file each time they are asked for.

    Args:
        file: path of the file.
        starts: first byte of each part of the list, in order.
        ends: the byte behind each part, which holds whole rows and the commas between them.
        firsts: number of each part's first row, and behind the last one that of all rows.
    """

    def __init__(self, file: str, starts: Sequence[int], ends: Sequence[int], firsts: Sequence[int]) -> None:
        self.file = file
        self._starts, self._ends, self._firsts = starts, ends, firsts

    def __len__(self) -> int:
        return self._firsts[-1]

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        """A row, or a list of rows; an InputError where the file is no longer what it was."""
        chosen = range(len(self))[index]
        if isinstance(chosen, range):
            return [self[number] for number in chosen]
        part = bisect_right(self._firsts, chosen) - 1
        with self._opened() as file:
            return self._rows(file, part)[chosen - self._firsts[part]]

    def __iter__(self) -> Iterator[Any]:
        with self._opened() as file:
            for part in range(len(self._starts)):
                yield from self._rows(file, part)

    def _opened(self) -> BinaryIO:
        try:
            return open(self.file, "rb", buffering=0)  # noqa: PTH123 (a name as the listing has it)
        except OSError as error:
            raise_storage_fault(error, self.file)
            raise InputError(f"{self.file}: cannot be opened any more: {error.strerror}") from error

    def _rows(self, file: BinaryIO, part: int) -> list[Any]:
        file.seek(self._starts[part])
        content = file.read(self._ends[part] - self._starts[part])
        try:
            rows: list[Any] = json.loads(f"[{content.decode('utf-8', 'surrogatepass')}]")
        except (ValueError, RecursionError):
            rows = []
        if len(rows) != self._firsts[part + 1] - self._firsts[part]:
            raise InputError(f"{self.file}: was changed while it was read; leave it as it is, and read it again")
        return rows


def is_list(value: Any) -> bool:
    """Whether a value is a list of a JSON file, be its rows held or not."""
    return isinstance(value, (list, JsonRows))


def load_rows(file: str, keys: Collection[str], part: int = PART) -> Any:
    """What `json.load` gives of a file, but with `JsonRows` for some lists.

    Args:
        file: its path.
        keys: of the outermost object; lists that stand under them become `JsonRows`. Where the outermost value is none,
            or the file is not in UTF-8, all is held.
        part: bytes of rows that are held at once.

    Raises:
        ValueError: it is no JSON, or lists and objects lie in one another more than `agssp.parsing.MOST_DEPTH` deep.
        RecursionError: they do so far deeper.
    """
    with open(file, "rb", buffering=0) as opened:  # noqa: PTH123 (a name as the listing has it)
        scanner = None
        if json.detect_encoding(opened.read(4)) in ("utf-8", "utf-8-sig"):
            opened.seek(0)
            scanner = _Scanner(opened, part)
        if scanner is None or scanner.peek() != "{":
            opened.seek(0)
            return _checked(json.loads(opened.read()))
        return _object(file, scanner, keys)


def _object(file: str, scanner: "_Scanner", keys: Collection[str]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    symbol = scanner.symbol("{")
    if scanner.peek() == "}":
        symbol = scanner.symbol("}")
    while symbol != "}":
        if scanner.peek() != '"':
            raise ValueError("expected a name")
        key = scanner.value()
        scanner.symbol(":")
        if scanner.peek() == "[" and key in keys:
            content[key] = JsonRows(file, *scanner.rows())
        else:
            content[key] = _checked(scanner.value(), outer=1)
        symbol = scanner.symbol(",}")
    if scanner.peek():
        raise ValueError("extra data")
    return content


def _checked(value: Any, outer: int = 0) -> Any:
    """A value, unless it is too deep in so many lists."""
    held = value
    for _ in range(outer):
        held = [held]
    if is_too_deep(held):
        raise ValueError("nested too deeply")
    return value


class _Scanner:
    """Goes through the text of a JSON file, of which no more than a part is held.

    Args:
        file: open for reading, at its beginning, in UTF-8.
        part: bytes that are read at a time.
    """

    def __init__(self, file: BinaryIO, part: int) -> None:
        self._file, self._part = file, part
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogatepass")
        self._scan = json.JSONDecoder().raw_decode
        self._text = ""
        self._position = 0
        self._is_whole = False
        # The byte at which the text begins.
        self._start = len(_BOM) if file.read(len(_BOM)) == _BOM else 0
        file.seek(self._start)

    def peek(self) -> str:
        """The next character that is no white space; empty at the end of the file."""
        while True:
            found = _SPACE.match(self._text, self._position)
            self._position = found.end() if found else self._position
            if self._position < len(self._text):
                return self._text[self._position]
            if self._is_whole:
                return ""
            self._read_on()

    def symbol(self, expected: str) -> str:
        """Pass the next character, which must be one of those expected."""
        found = self.peek()
        if not found or found not in expected:
            raise ValueError(f"expected one of {expected}, got {found}")
        self._position += 1
        return found

    def value(self) -> Any:
        """The value that begins here."""
        while True:
            value, end = self._try_value(self._position)
            # A number may go on behind the text that is held.
            if end is not None and (self._is_whole or _AFTER_VALUE.match(self._text, end)):
                self._position = end
                return value
            self._read_on()

    def rows(self) -> tuple[array, array, array]:
        """Pass the list that begins here, and give the places of its parts as `JsonRows` takes them."""
        starts, ends, firsts = array("q"), array("q"), array("q", [0])
        symbol = self.symbol("[")
        if self.peek() == "]":
            symbol = self.symbol("]")
        while symbol != "]":
            start = self._place(self._position)
            count, end, symbol = self._part_of_rows(start)
            starts.append(start)
            ends.append(end)
            firsts.append(firsts[-1] + count)
        return starts, ends, firsts

    def _part_of_rows(self, start: int) -> tuple[int, int, str]:
        """Pass the rows from here to the first that ends a part; their number, the byte behind, and what follows."""
        if not self._is_whole and len(self._text) - self._position < self._part:
            self._read_on()
        return self._rows_at_once() or self._rows_one_by_one(start)

    def _rows_at_once(self) -> tuple[int, int, str] | None:
        """Pass the rows from here to the last that seems to end in the text that is held, which is three times as fast.

        Returns:
            As `_part_of_rows`; None where that was no end of a row, as within a row, or behind the list.
        """
        borders = list(_BORDER.finditer(self._text, max(self._position, len(self._text) - _LONG_ROW)))
        if not borders:
            return None
        end = borders[-1].start() + 1
        try:
            # Whatever is a list when it ends here is the beginning of this one.
            rows = json.loads(f"[{self._text[self._position : end]}]")
        except ValueError:
            return None
        _checked(rows, outer=1)
        place = self._place(end)
        self._position = borders[-1].end()
        return len(rows), place, ","

    def _rows_one_by_one(self, start: int) -> tuple[int, int, str]:
        rows: list[Any] = []
        while True:
            value, end = self._try_value(self._position)
            after = None if end is None else _AFTER_ROW.match(self._text, end)
            if end is None or after is None:
                self._read_on()
                # The white space before a row may be of both parts.
                self.peek()
                continue
            rows.append(value)
            self._position = after.end()
            if after[1] == "]" or self._start + end - start >= self._part:
                _checked(rows, outer=1)
                return len(rows), self._place(end), after[1]

    def _try_value(self, position: int) -> tuple[Any, int | None]:
        """The value at a position and where it ends; None where the text that is held ends before it.

        Raises:
            ValueError: there is none, and the file has no more.
        """
        try:
            return self._scan(self._text, position)
        except ValueError:
            if self._is_whole:
                raise
            return None, None

    def _read_on(self) -> None:
        """Hold the next part of the file in place of what lies behind; raise ValueError where there is no more."""
        if self._is_whole:
            raise ValueError("cut off")
        self._start = self._place(self._position)
        left = self._text[self._position :]
        # Twice as much each time, for a long value is begun anew.
        content = self._file.read(max(self._part, len(left)))
        self._is_whole = not content
        self._text = left + self._decoder.decode(content, final=not content)
        self._position = 0

    def _place(self, position: int) -> int:
        """The byte at which a character of the text stands."""
        before = self._text[:position]
        return self._start + (position if before.isascii() else len(before.encode("utf-8", "surrogatepass")))
