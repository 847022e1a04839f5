import pytest

from agssp.data.readers import ReadReport
from agssp.data.readers.json_rows import JsonRows
from agssp.data.readers.listing import Listing, find_images, read_text
from agssp.errors import InputError


def listing(tmp_path, *names):
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return Listing(tmp_path)


def find(files, name, **options):
    """The file found, and how often it was told."""
    report = ReadReport()
    return files.find(name, "row 1", report, **options), report.count("found_by_name")


def test_empty_folder(tmp_path):
    files = Listing(tmp_path)
    assert (files.files, files.images, files.folders, files.in_folder("")) == ([], [], set(), [])
    with pytest.raises(InputError, match=r"row 1: names 'a\.png', but there is no such file in"):
        find(files, "a.png")


def test_files_are_told_by_suffix_in_any_case_and_hidden_ones_left_out(tmp_path):
    files = listing(tmp_path, "b.PNG", "a.jpg", "x/y/c.Tif", "x/d.XML", ".hidden/e.png", ".f.png", "notes.txt")
    assert files.images == ["a.jpg", "b.PNG", "x/y/c.Tif"]
    assert files.with_suffix(".xml", ".txt") == ["notes.txt", "x/d.XML"]
    assert files.folders == {"x", "x/y"}
    assert files.in_folder("x") == ["x/d.XML"]
    assert "x/d.XML" in files
    assert "x" not in files
    assert find_images(tmp_path) == [tmp_path / name for name in files.images]


def test_listing_of_a_folder_below(tmp_path):
    below = listing(tmp_path, "x/y/c.png", "xy/d.png", "x/e.png").below("x")
    assert (below.root, below.files) == (tmp_path / "x", ["e.png", "y/c.png"])
    assert below.path("e.png").is_file()
    assert below.below("") is below


def test_json_is_parsed_once_and_none_where_it_is_none(tmp_path):
    files = listing(tmp_path, "a.json", "b.json", "deep.json")
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"x": 1}')
    (tmp_path / "deep.json").write_text("[" * 100_000)
    assert files.json("a.json") == {"x": 1}
    assert files.json("a.json") is files.json("a.json")
    assert files.json("b.json") is None
    assert files.json("deep.json") is None


def test_forgotten_json_is_parsed_anew(tmp_path):
    files = listing(tmp_path, "x/a.json")
    files.forget_json()
    (tmp_path / "x/a.json").write_text("1")
    assert (files.json("x/a.json"), files.below("x").json("a.json")) == (1, 1)
    (tmp_path / "x/a.json").write_text("2")
    # A listing below shares what is parsed, and what is forgotten.
    assert files.below("x").json("a.json") == 1
    files.below("x").forget_json()
    assert files.json("x/a.json") == 2


def test_files_named_like_images_come_first(tmp_path):
    assert listing(tmp_path, "a.png").named_like_images_first(".json") == []
    files = listing(tmp_path, "x/a.json", "b.JSON", "c.json", "x/d.json", "c.png", "x/d.jpg", "e.png")
    assert files.named_like_images_first(".json") == ["c.json", "x/d.json", "b.JSON", "x/a.json"]


@pytest.mark.parametrize("text", ['{"images": [1, {}], "x": [2]}', "[1]", "7", "{", '{"images": [1]', "[" * 100_000])
def test_large_json_is_that_of_a_small_file(tmp_path, monkeypatch, text):
    files = listing(tmp_path, "a.json")
    (tmp_path / "a.json").write_text(text)
    small = files.json("a.json")
    files.forget_json()
    monkeypatch.setattr("agssp.data.readers.listing.MOST_HELD", 0)
    large = files.json("a.json")
    if isinstance(small, dict):
        assert isinstance(large["images"], JsonRows)
        large = large | {"images": list(large["images"])}
    assert large == small


def test_what_is_found_in_a_listing_is_found_once(tmp_path):
    files, calls = listing(tmp_path, "a.png"), []

    def find_names(files):
        calls.append(files)
        return list(files.files)

    assert files.once(find_names) is files.once(find_names)
    assert calls == [files]
    assert Listing(tmp_path, []).once(find_names) == []


FILES = ("a.png", "images/b c.png", "images/train/d.png", "images/val/e.png", "Caps/F.JPG", "per%20cent.png")


@pytest.mark.parametrize(
    ("name", "found", "told"),
    [
        ("a.png", "a.png", 0),
        ("./a.png", "a.png", 0),
        ("images/train/../../a.png", "a.png", 0),
        ("images\\train\\d.png", "images/train/d.png", 0),
        ("images/b%20c.png", "images/b c.png", 0),
        ("per%20cent.png", "per%20cent.png", 0),
        (" a.png ", "a.png", 0),
        ("{root}/images/val/e.png", "images/val/e.png", 0),
        ("file://{root}/images/b%20c.png", "images/b c.png", 0),
        ("/data/local-files/?d=images/train/d.png", "images/train/d.png", 0),
        ("http://tool/data/local-files/?d=images%5Ctrain%5Cd.png", "images/train/d.png", 0),
        # What follows is found by its own name, which is told.
        ("d.png", "images/train/d.png", 1),
        ("/home/somebody/set/images/train/d.png", "images/train/d.png", 1),
        ("C:\\Users\\me\\train\\d.png", "images/train/d.png", 1),
        ("../elsewhere/d.png", "images/train/d.png", 1),
        ("https://host/bucket/d.png?version=3", "images/train/d.png", 1),
        ("s3://bucket/b%20c.png", "images/b c.png", 1),
        ("f.jpg", "Caps/F.JPG", 1),
        ("/data/upload/1/0a1b2c3d-d.png", "images/train/d.png", 1),
    ],
)
def test_every_form_of_a_path(tmp_path, name, found, told):
    files = listing(tmp_path, *FILES)
    assert find(files, name.format(root=tmp_path)) == (found, told)


def test_folders_that_a_name_may_be_relative_to(tmp_path):
    files = listing(tmp_path, "train/a.png", "val/a.png")
    assert find(files, "a.png", folders=("val", "train")) == ("val/a.png", 0)
    assert find(files, "../train/a.png", folders=("val",)) == ("train/a.png", 0)


def test_several_files_of_one_name_are_told_apart_by_their_folders(tmp_path):
    files = listing(tmp_path, "train/good/1.png", "test/good/1.png", "test/bad/1.png")
    assert find(files, "/mnt/data/test/good/1.png") == ("test/good/1.png", 1)
    assert find(files, "/mnt/Bad/1.png") == ("test/bad/1.png", 1)
    for name in ("1.png", "/mnt/good/1.png", "/mnt/other/1.png"):
        with pytest.raises(InputError, match=r"row 1: names '.*1\.png', which is not there, and several files of"):
            find(files, name)


@pytest.mark.parametrize("name", ["../gone.png", "/etc/gone.png", "C:\\gone.png", "images/../../gone.png"])
def test_names_that_lead_out_of_the_folder(tmp_path, name):
    (tmp_path / "gone.png").write_bytes(b"")
    with pytest.raises(InputError, match="the name points outside of that folder, and no file of its own name lies in"):
        find(listing(tmp_path / "set", *FILES), name)


@pytest.mark.parametrize("name", ["", " ", ".", "..", "/", "images", "images/", "http://[", "\0"])
def test_names_that_are_none(tmp_path, name):
    with pytest.raises(InputError, match=r"row 1: names .*, but there is no such file"):
        find(listing(tmp_path, *FILES), name)


def test_a_folder_whose_name_only_begins_like_this_one_is_outside(tmp_path):
    files = listing(tmp_path / "set", "a.png")
    listing(tmp_path / "set2", "b.png")
    with pytest.raises(InputError, match="no such file"):
        find(files, f"{tmp_path}/set2/b.png")


def test_the_only_image_of_a_table_needs_a_folder_that_agrees(tmp_path):
    files = listing(tmp_path, "images/a.png", "b.png")
    assert find(files, "b.png", alone=True) == ("b.png", 0)
    assert find(files, "/mnt/images/a.png", alone=True) == ("images/a.png", 1)
    for name in ("/etc/a.png", "../b.png", "a.png"):
        with pytest.raises(InputError, match="for the only image of a table that is no proof"):
            find(files, name, alone=True)


def test_text_with_and_without_a_byte_order_mark(tmp_path):
    for content in (
        b"\xef\xbb\xbfgr\xc3\xbcn",
        b"gr\xc3\xbcn",
        "grün".encode("utf-16"),
        b"\xfe\xff" + "grün".encode("utf-16-be"),
    ):
        (tmp_path / "a.txt").write_bytes(content)
        assert read_text(tmp_path / "a.txt") == "grün"
    (tmp_path / "a.txt").write_bytes(b"gr\xfcn")
    with pytest.raises(InputError, match=r"a\.txt: expected UTF-8 text, .*position 2.*; save it in UTF-8"):
        read_text(tmp_path / "a.txt")
