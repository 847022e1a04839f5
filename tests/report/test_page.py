"""A page is one file: it names nothing outside, escapes what it is given and shows every block."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from agssp.report import figures, page

PHOTO = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)


class Reader(HTMLParser):
    """Collects the tags and refuses a wrong nesting."""

    VOID = {"meta", "img", "br", "link", "path", "use", "rect", "image", "stop"}

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.attributes, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(path):
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    assert reader.open == []
    return reader


def test_a_page_without_sections_is_a_page(tmp_path):
    reader = read(page.write_page(tmp_path / "new" / "page.html", "Nothing yet", []))
    assert "Nothing yet" in reader.text
    assert "nav" not in reader.seen


def test_every_block_is_there_and_nothing_comes_from_outside(tmp_path):
    Image.fromarray(PHOTO).save(tmp_path / "photo.png")
    sheet = figures.contact_sheet([[(PHOTO, "caption of a tile")]])
    curve = figures.curves({"loss": ([1, 2, 3], [3, 2, 1])}, title="Loss")
    path = page.write_page(
        tmp_path / "page.html",
        "A <title> & more",
        [
            page.Section("One", ["plain `code` **bold** <script>", page.Text("careful", note=True)]),
            page.Section("Two", [page.Row([page.Picture(sheet, "maps"), page.Picture(curve)])]),
            page.Section("Three", [page.Picture(PHOTO), page.Picture(tmp_path / "photo.png", "a photo")]),
            page.Section(
                "Four", [page.Table(("name", "AP"), [("pit", 0.5), ("<b>", float("nan"))]), page.Code("a && b")]
            ),
        ],
    )
    reader = read(path)
    text = " ".join(reader.text)
    for words in ("plain ", "careful", "caption of a tile", "maps", "0.500", "<b>", "–", "a && b", "Loss"):
        assert words in text
    assert "script" not in reader.seen
    assert reader.seen.count("svg") == 2
    assert reader.seen.count("img") == 2
    links = [value for name, value in reader.attributes if name in ("src", "href", "xlink:href")]
    assert links
    assert all(value.startswith(("#", "data:image/")) for value in links)
    content = path.read_text(encoding="utf-8")
    assert not re.findall(r"@import|url\((?!#)", content)


def test_figures_take_the_colours_of_the_page_and_share_no_ids(tmp_path):
    first, second = (page.svg(figures.curves({"a": ([1, 2], [1, 2])}, title="t"), number) for number in (1, 2))
    assert "var(--ink)" in first
    assert figures.INK not in first
    assert not set(re.findall(r'id="([^"]+)"', first)) & set(re.findall(r'id="([^"]+)"', second))
    for svg in (first, second):
        ids = set(re.findall(r'id="([^"]+)"', svg))
        assert set(re.findall(r"url\(#([^)]+)\)", svg)) <= ids
        assert set(re.findall(r'href="#([^"]+)"', svg)) <= ids


def test_photographs_in_figures_become_small():
    noise = np.random.default_rng(0).integers(0, 255, (300, 300, 3), dtype=np.uint8)
    svg = page.svg(figures.contact_sheet([[noise]]), 1)
    assert "data:image/jpeg" in svg
    assert "data:image/png" not in svg


@pytest.mark.parametrize(
    ("value", "text", "number"),
    [(3, "3", True), (12000, "12,000", True), (0.12345, "0.123", True), ("12 s", "12 s", True),
     ("40.1 %", "40.1 %", True), ("0.3 ± 0.1", "0.3 ± 0.1", True), ("pit", "pit", False), (True, "True", False),
     (None, "–", False),
     (np.float32(0.5), "0.500", True), ("3 images of 7", "3 images of 7", False)],
)  # fmt: skip
def test_cells(value, text, number):
    assert page._cell(value) == {"text": text, "number": number, "strong": False}


@pytest.mark.parametrize(("value", "number"), [("**0.3 ± 0.1**", True), ("**pit**", False)])
def test_marked_cells_are_bold(tmp_path, value, number):
    text = value.strip("*")
    assert page._cell(value) == {"text": text, "number": number, "strong": True}
    written = page.write_page(tmp_path / "page.html", "page", [page.Section("s", [page.Table(["a"], [[value]])])])
    assert f"<strong>{text}</strong></td>" in written.read_text()
