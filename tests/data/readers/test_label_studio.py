"""Label Studio's JSON, whole and short: regions, which annotation counts, which image is meant, what is refused."""

import pytest
from tool_files import read, turned_exif, write

from agssp.data.reading import read_labelled
from agssp.errors import InputError

DENT = ("dent", [24, 16, 24, 16])
PERCENT = {"x": 25, "y": 25, "width": 25, "height": 25}


def region(value=None, kind="rectanglelabels", names=("dent",), size=(96, 64), **others):
    key = kind if kind.endswith("labels") else f"{kind}labels"
    labels = {key: list(names)} if names else {}
    about = {"type": kind, "original_width": size[0], "original_height": size[1], "image_rotation": 0}
    return about | {"value": PERCENT | {"rotation": 0} | labels if value is None else value | labels} | others


def task(*annotations, image="/data/upload/7/1a2b3c4d-a.png", number=1, **others):
    return {"id": number, "data": {"image": image}, "annotations": list(annotations), "predictions": []} | others


def drawn(*regions, **others):
    return {"id": 5, "was_cancelled": False, "result": list(regions), "updated_at": "2026-01-01"} | others


def one(tmp_path, *regions, **others):
    """What is read of one image with these regions."""
    return read(write(tmp_path, {"images/a.png": None, "tasks.json": [task(drawn(*regions), **others)]}))


def test_an_empty_annotation_says_that_the_image_is_sound(tmp_path):
    found = one(tmp_path, image="images/a.png")
    assert found.boxes == {"images/a.png": []}
    assert (found.report.layout, found.report.labels_from, found.report.sound) == ("label_studio", "tasks.json", 1)
    assert found.report.lines() == []


def test_of_a_task_without_annotation_nothing_is_known(tmp_path):
    tasks = [task(drawn(region())), task(image="b.png", number=2), task(image="c.png", number=3, predictions=[drawn()])]
    files = {f"images/{name}.png": None for name in "abcd"}
    found = read(write(tmp_path, files | {"tasks.json": tasks}))
    assert found.boxes == {"images/a.png": [DENT], "images/b.png": None, "images/c.png": None}
    assert found.report.examples("unannotated") == [f"{tmp_path / 'tasks.json'} task 2"]
    assert found.report.examples("predictions") == [f"{tmp_path / 'tasks.json'} task 3"]
    assert found.report.examples("unlisted") == ["images/d.png"]


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (PERCENT, "rectanglelabels", [24, 16, 24, 16]),
        (PERCENT | {"rotation": 360}, "rectanglelabels", [24, 16, 24, 16]),
        # Turned by a right angle about its upper left corner, (48, 16): 24 x 16 px become 16 x 24 left of it.
        (PERCENT | {"x": 50, "rotation": 90}, "rectanglelabels", [32, 16, 16, 24]),
        # By 180 degrees it lies left of and above that corner.
        (PERCENT | {"x": 50, "y": 50, "rotation": 180}, "rectanglelabels", [24, 16, 24, 16]),
        (PERCENT | {"x": 50, "y": 50, "rotation": -90}, "rectanglelabels", [48, 8, 16, 24]),
        ({"points": [[25, 25], [50, 30], [30, 50]]}, "polygonlabels", [24, 16, 24, 16]),
        ({"x": 50, "y": 50, "radiusX": 25, "radiusY": 12.5}, "ellipselabels", [24, 24, 48, 16]),
        # Turned about its centre, (48, 32): 24 and 8 px change places.
        ({"x": 50, "y": 50, "radiusX": 25, "radiusY": 12.5, "rotation": 90}, "ellipselabels", [40, 8, 16, 48]),
        ({"x": "25", "y": "25", "width": "25", "height": "25"}, "rectanglelabels", [24, 16, 24, 16]),
    ],
)
def test_the_box_around_each_kind_of_region(tmp_path, value, kind, expected):
    assert one(tmp_path, region(value, kind)).boxes == {"images/a.png": [("dent", expected)]}


def test_labels_of_a_region_that_stand_in_another_of_its_id(tmp_path):
    rectangle = region(kind="rectangle", names=(), id="r1")
    found = one(tmp_path, rectangle, region(kind="labels", id="r1"), region(PERCENT | {"x": 0}, names=["pit"], id="r2"))
    assert found.boxes == {"images/a.png": [DENT, ("pit", [0, 16, 24, 16])]}
    assert found.report.count("duplicates") == 0


@pytest.mark.parametrize(
    ("other", "cause"),
    [
        (region({"x": 10, "y": 10, "width": 0.5}, "keypointlabels"), "not_boxes"),
        (region({"x": 10, "y": 10, "width": 0.5}, ""), "not_boxes"),
        ({"type": "choices", "value": {"choices": ["bad"]}}, "not_boxes"),
        ({"type": "relation", "from_id": "a", "to_id": "b"}, "not_boxes"),
        (region({"format": "rle", "rle": [1, 2, 3]}, "brushlabels"), "unread_masks"),
        (region({"imageDataURL": "data:image/png;base64,AA"}, "bitmasklabels"), "unread_masks"),
    ],
)
def test_what_has_no_box_is_told_and_makes_no_image_sound(tmp_path, other, cause):
    found = one(tmp_path, region(), other)
    assert found.boxes == {"images/a.png": [DENT]}
    assert found.report.count(cause) == 1
    found = one(tmp_path, other)
    assert found.boxes == {"images/a.png": None}
    assert found.report.examples("all_dropped") == ["images/a.png"]


def test_where_all_are_brush_masks_the_error_names_the_file_and_what_to_export(tmp_path):
    tasks = [task(drawn(region({"format": "rle", "rle": [1, 2, 3]}, "brushlabels")))]
    write(tmp_path, {"images/a.png": None, "project-8.json": tasks})
    with pytest.raises(InputError, match=r"brush masks are not read .*; export them as COCO.*project-8\.json"):
        read_labelled(str(tmp_path))


def test_of_several_annotations_the_ground_truth_counts_else_the_newest(tmp_path):
    old = drawn(region(names=["old"]), updated_at="2025-01-01T00:00:00Z")
    new = drawn(region(names=["new"]), updated_at="2026-01-01T00:00:00Z")
    cancelled = drawn(region(names=["cancelled"]), updated_at="2027-01-01T00:00:00Z", was_cancelled=True)
    for annotations, expected in (
        ([new, old, cancelled], "new"),
        ([new, old | {"ground_truth": True}], "old"),
        ([old | {"updated_at": None}, new | {"updated_at": None}], "new"),
        ([new | {"updated_at": None, "id": 6}, old | {"updated_at": None}], "new"),
    ):
        found = read(write(tmp_path, {"images/a.png": None, "tasks.json": [task(*annotations)]}))
        assert found.boxes == {"images/a.png": [(expected, DENT[1])]}
        assert found.report.count("other_annotations") == 1
    write(tmp_path, {"tasks.json": [task(cancelled)]})
    assert read(tmp_path).boxes == {"images/a.png": None}


def short(number=1, image="/data/upload/1a2b3c4d-a.png", **others):
    about = {"annotator": 1, "annotation_id": 9, "created_at": "2026", "updated_at": "2026", "lead_time": 3.1}
    return {"id": number, "image": image} | about | others


def min_region(**value):
    return value | {"original_width": 96, "original_height": 64}


def test_the_short_form(tmp_path):
    tasks = [
        short(label=[min_region(**PERCENT, rotation=0, rectanglelabels=["dent"])]),
        short(2, "b.png"),
        short(3, "c.png", outline=[min_region(points=[[25, 25], [50, 30], [30, 50]], polygonlabels=["dent"])]),
        short(4, "d.png", spot=[min_region(x=1, y=2, width=0.3, keypointlabels=["dent"])]),
        short(5, "e.png", brush=[min_region(format="rle", rle=[1, 2], brushlabels=["dent"])]),
    ]
    found = read(write(tmp_path, {f"{name}.png": None for name in "abcde"} | {"min.json": tasks}))
    assert found.boxes == {"a.png": [DENT], "b.png": [], "c.png": [DENT], "d.png": None, "e.png": None}


def test_the_short_form_of_old_without_times(tmp_path):
    tasks = [{"id": 1, "image": "a.png", "bbox": [min_region(**PERCENT, rectanglelabels=["dent"])]}]
    found = read(write(tmp_path, {"a.png": None, "min.json": [*tasks, {"id": 2, "image": "b.png"}], "b.png": None}))
    assert found.boxes == {"a.png": [DENT], "b.png": None}


@pytest.mark.parametrize("words", [{"quality": "bad"}, {"kinds": {"choices": ["bad", "worn"]}}, {"notes": ["bad"]}])
def test_an_image_of_which_the_short_form_has_words_alone_is_not_taken_as_sound(tmp_path, words):
    found = read(write(tmp_path, {"a.png": None, "b.png": None, "min.json": [short(**words), short(2, "b.png")]}))
    assert found.boxes == {"a.png": None, "b.png": []}
    assert found.report.count("not_boxes") == 1


def test_of_several_images_of_a_task_the_one_that_is_drawn_on_counts(tmp_path):
    data = {"before": "a.png", "after": "b.png"}
    on = {"id": 1, "data": data, "annotations": [drawn(region(to_name="after"))]}
    write(tmp_path, {"a.png": None, "b.png": None, "tasks.json": [on, task(drawn(), image="c.png")], "c.png": None})
    assert read(tmp_path).boxes == {"b.png": [DENT], "c.png": []}
    write(tmp_path, {"tasks.json": [on | {"annotations": [drawn(region(to_name="img"))]}]})
    with pytest.raises(InputError, match="task 1: which of before, after is its image cannot be told"):
        read(tmp_path)
    both = drawn(region(to_name="after"), region(to_name="before"))
    write(tmp_path, {"tasks.json": [on | {"annotations": [both]}]})
    with pytest.raises(InputError, match="task 1: has regions on after, before; expected one image"):
        read(tmp_path)


def test_of_two_rows_of_one_task_in_the_short_form_the_newest_counts(tmp_path):
    box = {"label": [min_region(**PERCENT, rectanglelabels=["dent"])]}
    tasks = [short(updated_at="2026-02", **box), short(updated_at="2026-01")]
    found = read(write(tmp_path, {"a.png": None, "min.json": tasks}))
    assert found.boxes == {"a.png": [DENT]}
    assert found.report.count("other_annotations") == 1


@pytest.mark.parametrize(
    "data",
    [
        {"image": "a.png"},
        {"image": "/data/upload/7/1a2b3c4d-a.png"},
        {"image": "/data/local-files/?d=line%207/a.png"},
        {"image": "/data/local-files/?d=line 7\\a.png"},
        {"image": "s3://bucket/line/a.png"},
        {"image": "https://host:8080/some/a.png?X-Amz-Signature=abc"},
        {"scan": "gs://bucket/a.png", "text": "a word"},
        {"text": "http://host/page", "scan": "x/a.PNG"},
        {"url": "http://host/a.png", "image": ""},
        {"url": "http://host/page", "scan": "x/a.png"},
        {"page": "other.png", "image": "a.png"},
        {"where": "http://host/data/local-files/?d=a.png"},
    ],
)
@pytest.mark.parametrize("folder", ["", "images/"])
def test_which_image_a_task_is_of(tmp_path, data, folder):
    tasks = [{"id": 1, "data": data, "annotations": [drawn(region())]}, task(drawn(), image="zz.png", number=2)]
    write(tmp_path, {f"{folder}a.png": None, f"{folder}zz.png": None, "tasks.json": tasks})
    assert read(tmp_path).boxes == {f"{folder}a.png": [DENT], f"{folder}zz.png": []}


@pytest.mark.parametrize("text", ["/data/upload/7/1a2b3c4d-a.png", "s3://bucket/a.png", "/data/local-files/?d=x/a.png"])
def test_the_only_task_may_be_of_an_image_that_was_served(tmp_path, text):
    assert one(tmp_path, region(), image=text).boxes == {"images/a.png": [DENT]}


def test_a_task_that_names_its_image_as_it_was_uploaded_alone(tmp_path):
    assert one(tmp_path, region(), image="", file_upload="1a2b3c4d-a.png").boxes == {"images/a.png": [DENT]}


@pytest.mark.parametrize("itself", [False, True])
@pytest.mark.parametrize("name", ["tasks.json", "annotations/tasks.JSON"])
def test_where_the_file_lies(tmp_path, name, itself):
    write(tmp_path, {"images/a.png": None, name: [task(drawn(region()))]})
    assert list(read(tmp_path / name if itself else tmp_path).boxes.values()) == [[DENT]]


def test_several_files_are_named(tmp_path):
    write(tmp_path, {"images/a.png": None, "p1.json": [task(drawn())], "p2.json": [task(drawn())]})
    with pytest.raises(InputError, match=r"expected one JSON file of Label Studio, found p1\.json, p2\.json"):
        read(tmp_path)
    assert read(tmp_path / "p1.json").boxes == {"images/a.png": []}


def test_a_size_of_the_same_proportions_scales(tmp_path):
    found = one(tmp_path, region(size=(960, 640)))
    assert found.boxes == {"images/a.png": [DENT]}
    assert found.report.count("scaled") == 1


def test_regions_for_images_of_two_sizes_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"task 1: its regions are for images of other sizes"):
        one(tmp_path, region(), region(size=(960, 640)))


def test_turned_photos_by_their_stated_size(tmp_path):
    # Shown upright, 64 x 96: a quarter of each side.
    tasks = [task(drawn(region(size=(64, 96))), image="a.jpg")]
    found = read(write(tmp_path, {"a.jpg": turned_exif(), "tasks.json": tasks}))
    assert found.boxes == {"a.jpg": [("dent", [16, 24, 16, 24])]}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (region(names=()), "has no label"),
        (region(names=("dent", "pit")), "has the labels dent, pit; expected one"),
        (region(size=(None, None)), "expected original_width and original_height"),
        (region(size=(0, 64)), "expected original_width and original_height"),
        (region(PERCENT | {"x": "left"}), "expected numbers"),
        (region(PERCENT | {"x": None}), "expected numbers"),
        (region(PERCENT | {"x": 10**400}), "expected numbers"),
        (region(PERCENT | {"rotation": "left"}), "expected numbers"),
        (region({"x": 1, "y": 2, "height": 3}), "expected numbers"),
        (region({"points": []}, "polygonlabels"), "expected numbers"),
        (region({"points": [[1, 2, 3]]}, "polygonlabels"), "expected numbers"),
        (region({"points": None}, "polygonlabels"), "expected numbers"),
        (region({"x": 1, "y": 2, "radiusX": 3}, "ellipselabels"), "expected numbers"),
        (region(image_rotation=90), "on an image turned by 90 degrees"),
        (region(PERCENT | {"x": "left"}, id=["r1"], to_name=[]), "expected numbers"),
        ("dent", "expected an object"),
        (None, "expected an object"),
    ],
)
def test_bad_regions_are_named(tmp_path, bad, message):
    with pytest.raises(InputError, match=rf"tasks\.json task 1 region 1: .*{message}"):
        one(tmp_path, region(), bad)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"id": 2, "data": {}, "annotations": []}, "names no image in its data"),
        ({"id": 2, "data": {"image": ["a.png"]}, "annotations": []}, "names no image in its data"),
        ({"id": 2, "data": {"image": "data:image/png;base64,AAAA"}, "annotations": []}, "holds its image itself"),
        (task(drawn(), number=2, image="zz.png"), "names 'zz.png'"),
        (task(drawn(), number=2), "is the image of another task"),
        (task(number=2, image="b.png") | {"annotations": 3}, "a list of annotations"),
        (task({"id": 1}, number=2, image="b.png"), "a list `result`"),
        (task(drawn(), number=2, image="b.png") | {"annotations": [{"result": {}}]}, "a list `result`"),
        ([], "expected an object"),
        (None, "expected an object"),
    ],
)
def test_bad_tasks_are_named(tmp_path, bad, message):
    write(tmp_path, {"images/a.png": None, "images/b.png": None, "tasks.json": [task(drawn(region())), bad]})
    with pytest.raises(InputError, match=rf"tasks\.json task [12]: .*{message}"):
        read(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e308])
def test_boxes_that_are_nowhere_are_dropped_with_a_word(tmp_path, value):
    found = one(tmp_path, region(PERCENT | {"x": value}), region(PERCENT | {"x": value, "rotation": 30}), region())
    assert found.boxes == {"images/a.png": [DENT]}
    assert found.report.count("no_area") == 2


@pytest.mark.parametrize("content", [b"", b'[{"id": 1, "data": {', [], [3], {}, [[]], "null"])
def test_a_file_that_is_none_of_label_studio_is_named(tmp_path, content):
    write(tmp_path, {"images/a.png": None, "tasks.json": content})
    for options in ({}, {"format": "label_studio"}):
        with pytest.raises(InputError, match=r"tasks\.json"):
            read(tmp_path / "tasks.json", **options)
    with pytest.raises(InputError, match=r"tasks\.json"):
        read_labelled(str(tmp_path))
