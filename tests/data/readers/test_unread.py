"""Labels in forms that are not read: each is named, with what to do; other files are none of them."""

import re

import pytest
from tool_files import read, write

from agssp.data.readers import unread
from agssp.data.readers.listing import Listing
from agssp.data.readers.unread import kind_of_json, unread_labels, what_lies_there
from agssp.data.reading import read_labelled
from agssp.errors import InputError

VIA = {"filename": "a.png", "size": 9, "regions": [{"shape_attributes": {"name": "rect"}, "region_attributes": {}}]}
CREATEML = [{"image": "a.png", "annotations": [{"label": "dent", "coordinates": {}}]}]


def test_an_empty_folder(tmp_path):
    assert unread_labels(Listing(tmp_path)) == []
    assert what_lies_there(Listing(tmp_path)) == ""


KINDS = [
    ("via_region_data.json", {"a.png9": VIA}, "VIA .*export `COCO format` from VIA"),
    ("via_project.json", {"_via_settings": {}, "_via_img_metadata": {"a.png9": VIA}}, "VIA .*export `COCO format`"),
    ("via3.json", {"project": {}, "config": {}, "attribute": {}, "file": {}, "metadata": {}}, "VIA .*export `COCO"),
    ("via.csv", "filename,file_size,region_shape_attributes\n", "VIA's CSV.*export `COCO format`"),
    ("annotations/default.json", {"info": {}, "categories": {"label": {}}, "items": []}, "Datumaro JSON.*to `coco`"),
    ("ds/ann/a.png.json", {"size": {"height": 64, "width": 96}, "objects": []}, "Supervisely .*export COCO"),
    ("meta.json", {"classes": [], "tags": []}, "Supervisely .*export COCO"),
    ("_annotations.createml.json", CREATEML, "CreateML JSON.*export COCO"),
    ("labelbox.json", [{"data_row": {"id": "x"}, "projects": {}}], "Labelbox JSON.*export COCO"),
    ("labelbox.json", [{"ID": "x", "External ID": "a.png", "Label": {}}], "Labelbox JSON.*export COCO"),
    ("bdd.json", [{"name": "a.png", "labels": []}], "Scalabel .*export COCO"),
    ("boxes.csv", "\ufefffilename,class,XMIN, ymin,xmax,ymax\n", "CSV of boxes.*metadata.jsonl"),
    ("train.csv", "image_id,width,height,bbox,source\n", "CSV of boxes.*metadata.jsonl"),
    ("train.csv", "ImageId,EncodedPixels\n", "CSV of run lengths.*convert it to COCO"),
    ("a.xml", "<doc/>", r"XML of a form that is not read \(`doc`\).*export COCO"),
    ("Annotations/a.xml", b"", r"XML of a form that is not read \(`no XML`\)"),
    ("train.tfrecord", b"\0", r"a \.tfrecord file.*export COCO"),
    ("export.NDJSON", "{}", r"a \.ndjson file.*export COCO"),
]


@pytest.mark.parametrize(
    ("name", "content", "message"), KINDS, ids=[f"{name}-{index}" for index, (name, _, _) in enumerate(KINDS)]
)
def test_each_kind_is_named_with_what_to_do(tmp_path, name, content, message):
    found = read(write(tmp_path, {"a.png": None, name: content}))
    assert found.boxes == {"a.png": None}
    assert found.report.count("unread_files") == 1
    with pytest.raises(InputError, match=rf"--dataset .*no label was found for any of its 1 images.*{name}.*{message}"):
        read_labelled(str(tmp_path))


def test_of_several_files_of_one_kind_the_first_is_named(tmp_path):
    content = {"size": {"height": 64, "width": 96}, "objects": []}
    write(tmp_path, {f"ann/{name}.json": content for name in "abc"} | {"meta.json": {"classes": []}})
    assert [name for name, _ in unread_labels(Listing(tmp_path))] == ["ann/a.json"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("camera.json", {"exposure": 3, "gain": {"red": 1}}),
        ("list.json", [1, 2, 3]),
        ("objects.json", {"objects": []}),
        ("empty.json", b""),
        ("null.json", "null"),
        ("meta.json", {"operator": "me"}),
        ("log.csv", "time,temperature\n1,2\n"),
        ("empty.csv", ""),
        ("bytes.csv", b"\xff\xfe\x00\x01"),
        ("zeros.csv", b"\0\0\0"),
        ("readme.txt", "0 0.5 0.5 0.1 0.1"),
        ("station.xml", "<station/>"),
    ],
)
def test_other_files_in_a_plain_folder_are_not_spoken_of(tmp_path, name, content):
    found = read(write(tmp_path, {"a.png": None, name: content}))
    assert found.boxes == {"a.png": None}
    assert found.report.lines() == []


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.xml", "<annotation/>", "is Pascal VOC; put it beside its image"),
        ("other/annotations.xml", "<annotations/>", "is CVAT's; give the file itself"),
        ("sub/obj.names", "dent\n", "YOLO 1.1 .*obj.data"),
        ("labels/a.txt", "0 0.5 0.5 0.1 0.1", "add a data.yaml with `names`, or a classes.txt"),
        ("x.yaml", "path: .\n", "needs `names`"),
        ("x.json", {"images": 3, "other": 4}, "is JSON with images, other; if it is COCO .* give the file itself"),
        ("x.json", [], "is JSON with list; if it is COCO"),
        ("x.json", {}, "is JSON with nothing in it"),
        ("x.json", b'{"a"', "is no valid JSON"),
        ("x.json", {"items": [], "categories": {}}, "is Datumaro JSON"),
    ],
)
def test_what_lies_there_and_how_to_give_it(tmp_path, name, content, message):
    told = what_lies_there(Listing(write(tmp_path, {"a.png": None, name: content})))
    assert re.search(f"^there lies {re.escape(str(tmp_path))}/{re.escape(name)}:? .*{message}", told), told


def test_large_files_are_not_looked_into_and_of_many_only_the_first(tmp_path, monkeypatch):
    files = {f"{index:03}.json": {"number": index} for index in range(100)}
    listing = Listing(write(tmp_path, files | {"z.json": CREATEML}))
    assert unread_labels(listing) == []
    assert len(listing._parsed) == 20
    monkeypatch.setattr(unread, "_MOST_BYTES", 30)
    listing = Listing(tmp_path)
    unread_labels(listing)
    assert len(listing._parsed) == 2


@pytest.mark.parametrize(
    "content",
    [None, 3, "text", [], [None], [[]], {}, {"a": None}, {"items": 3}, {"objects": None, "size": 3}, {"classes": 3}],
)
def test_content_of_other_forms_is_no_kind(content):
    assert kind_of_json(content, "meta.json") is None
