"""YOLO's label lines as boxes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agssp.data.readers.listing import decode_text, read_text
from agssp.data.readers.records import Label
from agssp.data.readers.report import ReadReport
from agssp.data.readers.shapes import box_of_outline
from agssp.data.readers.yolo_table import spell_classes
from agssp.errors import InputError
from agssp.faults import raise_storage_fault

MOST_BYTES = 32 * 1024**2
"""Of the labels of one image: a million boxes, or a thousand outlines of a thousand corners."""
_LARGER = "it holds the labels of one image; take it away if it is another kind of text"
_FIRST_BYTES = 4096


@dataclass(frozen=True)
class Classes:
    """Names of the classes by their number, the table they stand in, and how many numbers of keypoints follow a box."""

    names: Mapping[int, str]
    table: str
    keypoints: int = 0


def read_labels(files: Iterable[Path | None], classes: Classes, report: ReadReport) -> list[list[Label]]:
    """Read the label files of a data set.

    A line is `class cx cy w h`, fractions of the image; with more numbers, in pairs, the corners of a polygon or of a
    rotated rectangle, around which the upright box is taken; or, where the table says so, a box and keypoints. A number
    after a box is a track where it is whole in every row of the data set that has one, and not always 0 or 1; a score
    where it is always within 0..1.

    Args:
        files: one an image; None where it has none.
        classes: of the table.
        report: gets a note of keypoints, polygons, tracks and scores.

    Returns:
        The labels of each file as xywh fractions of the image.

    Raises:
        InputError: a file of more than `MOST_BYTES` or that is no UTF-8 text, a malformed line, a class without a name,
            boxes in px, or rows whose last numbers contradict each other; file and line are named.
    """
    sixth: list[tuple[Label, float]] = []
    labels = [[] if file is None else _read_file(str(file), classes, sixth, report) for file in files]
    _settle_sixth(sixth, report)
    return labels


def looks_like_labels(file: Path) -> bool | None:
    """Whether the first line of a text file that is not blank is a number of a class and four numbers or more.

    Numbers with a decimal comma, and commas between them, count: such a file is meant as one of labels, and reading it
    tells what is wrong. None: the file is empty, or cannot be opened.
    """
    try:
        with file.open("rb") as opened:
            start = opened.read(_FIRST_BYTES)
    except OSError as error:
        raise_storage_fault(error, file)
        return None
    lines = [line.split() for line in decode_text(start, "replace").splitlines() if line.strip()]
    if not lines:
        return None
    first = lines[0][:-1] if len(lines) == 1 and len(start) == _FIRST_BYTES else lines[0]
    words = first[0].split(",") if len(first) == 1 else [word.replace(",", ".") for word in first]
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        return False
    return len(numbers) >= 5 and numbers[0].is_integer()


def _read_file(file: str, classes: Classes, sixth: list[tuple[Label, float]], report: ReadReport) -> list[Label]:
    labels = []
    for number, line in enumerate(read_text(file, MOST_BYTES, _LARGER).splitlines(), 1):
        words = line.split()
        if not words:
            continue
        where = f"{file}:{number}"
        try:
            label, *values = map(float, words)
        except ValueError as error:
            raise InputError(f"{where}: {_not_numbers(line, words)}") from error
        name = classes.names.get(int(label)) if label.is_integer() else None
        if name is None:
            raise InputError(f"{where}: {_unknown_class(words[0], label, classes)}")
        count = len(values)
        is_outline = not classes.keypoints and count > 5 and count % 2 == 0
        if not (count in (4, 5) or is_outline or (classes.keypoints and count == 4 + classes.keypoints)):
            raise InputError(f"{where}: {_wrong_count(line, count, classes)}")
        if is_outline:
            in_range = all(-1 <= value < 2 for value in values)
            bbox = box_of_outline(values)
            report.note("outlines", where)
        else:
            cx, cy, w, h = values[:4]
            in_range = -1 <= cx <= 2 and -1 <= cy <= 2 and -1 <= w <= 2 and -1 <= h <= 2
            bbox = (cx - w / 2, cy - h / 2, w, h)
        if not in_range:
            told = ", or keypoints, for which the table must have a `kpt_shape`" if is_outline else ""
            raise InputError(
                f"{where}: expected fractions of the image, 0 to 1, got {' '.join(words[1:])[:80]}; are these "
                f"pixels{told}?"
            )
        labels.append(Label(bbox, name, where))
        if count == 5:
            sixth.append((labels[-1], values[4]))
        elif count > 5 and not is_outline:
            report.note("keypoints", where)
    return labels


def _settle_sixth(sixth: Sequence[tuple[Label, float]], report: ReadReport) -> None:
    """Decide what the number after each box is, for the whole data set."""
    part = next(((label.where, value) for label, value in sixth if not value.is_integer()), None)
    beyond = next(((label.where, value) for label, value in sixth if not 0 <= value <= 1), None)
    if part is not None and beyond is not None:
        raise InputError(
            f"{beyond[0]}: ends with {beyond[1]:g}, so the sixth number is no score (0 to 1), and {part[0]} ends with "
            f"{part[1]:g}, so it is no track's number (whole); it must be one of the two in all rows of a data set"
        )
    for label, value in sixth:
        if beyond is None:
            label.score = value
        report.note("scores" if beyond is None else "track_ids", label.where)


def _not_numbers(line: str, words: Sequence[str]) -> str:
    hint = ""
    if any("," in word for word in words):
        hint = "; numbers are written with a point, and blanks between them"
    return f"expected `class cx cy w h`, all of them numbers, got {line.strip()[:80]!r}{hint}"


def _unknown_class(word: str, label: float, classes: Classes) -> str:
    names = dict(classes.names)
    if label.is_integer() and 0 <= label < max(names, default=-1):
        return f"class id {word} has no name in {classes.table}, which names {spell_classes(names)}"
    return f"class id {word} is beyond the list of {len(names)} classes ({spell_classes(names)})"


def _wrong_count(line: str, count: int, classes: Classes) -> str:
    more = "a polygon (6 or more, in pairs)"
    if classes.keypoints:
        more = f"these and {classes.keypoints} of keypoints (`kpt_shape`)"
    return (
        f"expected `class cx cy w h` (4 numbers, or 5 with a score or track) or {more}, "
        f"got {count} numbers: {line.strip()[:80]!r}"
    )
