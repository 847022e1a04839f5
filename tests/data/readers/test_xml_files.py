"""XML files: what makes them dangerous is refused, whatever the encoding."""

import random
from xml.etree import ElementTree

import pytest

from agssp.data.readers import xml_files
from agssp.data.readers.xml_files import number_of, read_xml, root_tag, texts_below
from agssp.errors import InputError

ENTITY = '<!DOCTYPE a [<!ENTITY word "dent">]>'


def test_an_empty_file_is_no_xml(tmp_path):
    file = tmp_path / "a.xml"
    file.write_bytes(b"")
    assert root_tag(file) is None
    with pytest.raises(InputError, match=r"a\.xml: not valid XML"):
        read_xml(file)


def test_a_file_that_is_not_there_has_no_element(tmp_path):
    assert root_tag(tmp_path / "a.xml") is None


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1", "cp1252"])
def test_encodings(tmp_path, encoding):
    file = tmp_path / "a.xml"
    declared = encoding.removesuffix("-sig").removesuffix("-le")
    text = f'<?xml version="1.0" encoding="{declared}"?>\n<!-- a --><annotation><name>Stoß</name></annotation>'
    file.write_bytes(text.encode(encoding))
    assert root_tag(file) == "annotation"
    assert read_xml(file).findtext("name") == "Stoß"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("head", [ENTITY, '<!DOCTYPE a SYSTEM "other.dtd">'])
def test_document_types_are_refused(tmp_path, encoding, head):
    file = tmp_path / "a.xml"
    file.write_bytes(f"{head}<a>x</a>".encode(encoding))
    with pytest.raises(InputError, match=r"a\.xml: declares a document type or entities"):
        read_xml(file)


@pytest.mark.parametrize("encoding", ["cp037", "utf-7", "gb2312", "no-such", "hex"])
def test_encodings_in_which_a_document_type_could_hide_are_refused(tmp_path, encoding):
    file = tmp_path / "a.xml"
    content = f"{ENTITY}<a>&word;</a>".encode("cp037" if encoding == "cp037" else "ascii")
    content = content if encoding == "cp037" else b"<a>x</a>"
    file.write_bytes(f'<?xml version="1.0" encoding="{encoding}"?>'.encode() + content)
    with pytest.raises(InputError, match=r"a\.xml: expected XML in UTF-8"):
        read_xml(file)


@pytest.mark.parametrize("content", [b"<a>", b"<a></b>", b"{}", b"<a>&word;</a>", b"\0\0\0", b"<a>\xff</a>"])
def test_what_is_no_xml_is_named(tmp_path, content):
    file = tmp_path / "a.xml"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.xml"):
        read_xml(file)


def test_files_that_are_too_large_are_not_opened(tmp_path, monkeypatch):
    file = tmp_path / "a.xml"
    file.write_bytes(b"<a>1234567890</a>")
    monkeypatch.setattr(xml_files, "MOST_BYTES", 16)
    with pytest.raises(InputError, match=r"a\.xml: 17 bytes of XML; expected 16 at most"):
        read_xml(file)


@pytest.mark.parametrize("depth", [101, 200_000])
def test_elements_that_lie_too_deep_are_refused(tmp_path, depth):
    file = tmp_path / "a.xml"
    file.write_text("<a>" * depth + "</a>" * depth)
    with pytest.raises(InputError, match=r"a\.xml: XML that is nested too deeply, over 100 levels"):
        read_xml(file)
    file.write_text("<a>" * 100 + "</a>" * 100)
    assert read_xml(file).tag == "a"


def test_numbers():
    assert number_of(" 1.5 ", "xtl", "shape 1") == 1.5
    for text in (None, "", "wide"):
        with pytest.raises(InputError, match="shape 1: expected a number as xtl"):
            number_of(text, "xtl", "shape 1")


def test_texts_of_no_elements():
    assert texts_below(ElementTree.Element("object"), "bndbox") == {}


@pytest.mark.parametrize("seed", range(20))
def test_texts_below_are_those_of_paths(seed):
    generator = random.Random(seed)
    node = ElementTree.Element("object")
    for outer in generator.choices(["bndbox", "size", "part"], k=generator.randrange(6)):
        parent = ElementTree.SubElement(node, outer)
        for inner in generator.choices(["xmin", "xmax", "bndbox"], k=generator.randrange(4)):
            child = ElementTree.SubElement(parent, inner)
            child.text = generator.choice([None, "", " 1 ", "x"])
            ElementTree.SubElement(child, "xmin").text = "deeper"
    for outer in ("bndbox", "size", "gone"):
        found = texts_below(node, outer)
        assert {name: found.get(name) for name in ("xmin", "xmax", "bndbox", "gone")} == {
            name: node.findtext(f"{outer}/{name}") for name in ("xmin", "xmax", "bndbox", "gone")
        }
