"""Write one HTML file that holds everything it shows and reads well in light and dark."""

import base64
import html
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure
from PIL import Image

from agssp.data.image_headers import open_picture
from agssp.files import write_text
from agssp.version import __version__

from .figures import GRID, INK, MUTED
from .pictures import to_pil

JPEG_QUALITY = 86


@dataclass(frozen=True)
class Text:
    """A paragraph of plain text; words between backticks become code, `**words**` bold."""

    text: str
    note: bool = False
    """True sets it apart as a caution."""


@dataclass(frozen=True)
class Picture:
    """A figure or a photograph with a caption.

    Attributes:
        content: a matplotlib figure (inlined as SVG in the page's own colours), an RGB image (PIL or uint8 (H, W, 3),
            inlined as JPEG), or the path of a PNG or JPEG file.
        caption: written below, and read aloud by screen readers.
    """

    content: Figure | Image.Image | np.ndarray | Path | str
    caption: str = ""


@dataclass(frozen=True)
class Row:
    """Pictures side by side, below each other where the page is narrow."""

    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Table:
    """A table; numbers are set right, floats with three digits unless already text; `**text**` is set in bold."""

    header: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    strong_row: int | None = None
    """Index of a row to set in bold."""


@dataclass(frozen=True)
class Code:
    """Commands or other text in a fixed-width font, to be copied."""

    text: str
    caption: str = ""


Block = Text | Picture | Row | Table | Code | str


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it; a plain string is a paragraph."""

    title: str
    blocks: Sequence[Block] = field(default_factory=list)


def write_page(path: str | Path, title: str, sections: Sequence[Section], subtitle: str = "") -> Path:
    """Write a page.

    Args:
        path: the HTML file to write; its folder is made.
        title: heading of the page.
        sections: what it holds, in order; with more than three, a list of links comes first.
        subtitle: a sentence below the heading.

    Returns:
        The path.
    """
    environment = Environment(
        loader=PackageLoader("agssp.report", "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    figures = count(1)
    rendered = [
        {
            "title": section.title,
            "anchor": f"section-{number}",
            "blocks": [_block(block, figures) for block in section.blocks],
        }
        for number, section in enumerate(sections, 1)
    ]
    page = environment.get_template("page.html.jinja").render(
        title=title, subtitle=_inline(subtitle), sections=rendered, version=__version__
    )
    write_text(path, page)
    return Path(path)


def svg(figure: Figure, number: int, dpi: int = 160) -> str:
    """A figure as an SVG element whose text, axes and grid take the page's colours; photographs in it become JPEG.

    Args:
        figure: of matplotlib.
        number: of the figure on its page; ids begin with it, so that no two figures of a page share one.
        dpi: dots an inch of what is no lines.
    """
    buffer = io.BytesIO()
    # Real text keeps the file small and lets a reader search and copy.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "agssp"}):
        figure.savefig(buffer, format="svg", dpi=dpi, transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue().decode()
    text = text[text.index("<svg") :]
    prefix = f"figure{number}-"
    text = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}\1)", text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}\1"', text)
    text = re.sub(r"data:image/png;base64,([A-Za-z0-9+/=\s]+)", _png_to_jpeg, text)
    for colour, name in ((INK, "ink"), (MUTED, "muted"), (GRID, "line")):
        text = text.replace(colour, f"var(--{name})")
    # The viewBox scales it; a fixed size in points would not follow the page's width.
    width = float(re.search(r'width="([\d.]+)pt"', text).group(1))  # type: ignore[union-attr]
    text = re.sub(r'(<svg[^>]*?) height="[\d.]+pt"', r"\1", text, count=1, flags=re.S)
    style = f'style="max-width:{width * 1.333:.0f}px"'
    return re.sub(r'(<svg[^>]*?) width="[\d.]+pt"', rf"\1 {style}", text, count=1, flags=re.S)


def jpeg_uri(image: Image.Image | np.ndarray, quality: int = JPEG_QUALITY) -> str:
    """An RGB image as the data URI of a JPEG."""
    buffer = io.BytesIO()
    to_pil(image).save(buffer, "JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _block(block: Block, figures: Iterator[int]) -> dict[str, Any]:
    """What the template needs of a block; `figures` numbers those of the page."""
    if isinstance(block, str):
        block = Text(block)
    match block:
        case Text():
            return {"kind": "text", "html": _inline(block.text), "note": block.note}
        case Picture():
            return {"kind": "row", "pictures": [_picture(block, figures)]}
        case Row():
            return {"kind": "row", "pictures": [_picture(picture, figures) for picture in block.pictures]}
        case Table():
            rows = [[_cell(value) for value in row] for row in block.rows]
            header = [
                {"text": str(name), "number": bool(rows) and rows[0][i]["number"]}
                for i, name in enumerate(block.header)
            ]
            return {
                "kind": "table",
                "header": header,
                "rows": rows,
                "caption": block.caption,
                "strong": block.strong_row,
            }
        case Code():
            return {"kind": "code", "text": block.text.strip("\n"), "caption": block.caption}
    raise TypeError(f"{type(block).__name__} is no block of a page")


def _picture(picture: Picture, figures: Iterator[int]) -> dict[str, Any]:
    content = picture.content
    if isinstance(content, Figure):
        return {"svg": svg(content, next(figures)), "uri": None, "caption": picture.caption}
    if isinstance(content, str | Path):
        path = Path(content)
        kind = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg"}[path.suffix.lower()]
        uri = f"data:image/{kind};base64," + base64.b64encode(path.read_bytes()).decode()
    else:
        uri = jpeg_uri(content)
    return {"svg": None, "uri": uri, "caption": picture.caption}


def _cell(value: Any) -> dict[str, Any]:
    if value is None:
        return {"text": "–", "number": False, "strong": False}
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if number and not np.isfinite(value):
        return {"text": "–", "number": True, "strong": False}
    text = f"{value:,}" if number and isinstance(value, int | np.integer) else f"{value:.3f}" if number else str(value)
    strong = len(text) > 4 and text.startswith("**") and text.endswith("**")
    text = text[2:-2] if strong else text
    # Numbers that come as text (percentages, "12 s") line up on the right as numbers do.
    number = number or bool(re.match(r"^[-+±]?\d[\d.,]*( ?(%|s|ms|min|px)|\s*±.*)?$", text))
    return {"text": text, "number": number, "strong": strong}


def _inline(text: str) -> str:
    escaped = html.escape(text)
    escaped = re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped)
    return re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", escaped)


def _png_to_jpeg(match: re.Match[str]) -> str:
    picture = open_picture(io.BytesIO(base64.b64decode(match.group(1))))
    if picture.mode == "RGBA" and np.asarray(picture.getchannel("A")).min() < 255:
        return match.group(0)
    return jpeg_uri(picture)
