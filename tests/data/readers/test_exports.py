"""Real exports of labelling tools, made by scripts/make_exports.py, give the boxes that the tools themselves see."""

import json
from pathlib import Path

import pytest

from agssp.data.images import image_size
from agssp.data.readers import read_dataset
from agssp.data.reading import read_labelled
from agssp.data.schema import defect_names
from agssp.errors import InputError

EXPORTS = Path(__file__).parents[1] / "exports"
EXPECTED = {
    file.name.removesuffix(".expected.json"): json.loads(file.read_text())
    for file in sorted(EXPORTS.glob("*.expected.json"))
}
READ = [(name, split) for name, expected in EXPECTED.items() for split in expected.get("splits", [])]
REFUSED = [name for name, expected in EXPECTED.items() if "refused" in expected]
MOST_BYTES = 30_000


def objects_of(row, names):
    """(class, bbox, iscrowd) of an image, sorted; none where nothing is known of it."""
    objects = row["objects"] or {"bbox": [], "category": []}
    crowds = objects.get("iscrowd") or [False] * len(objects["bbox"])
    labels = [names[label] for label in objects["category"]]
    return sorted(zip(labels, objects["bbox"], map(int, crowds), strict=True))


def close(found, wanted, tolerance):
    """Whether two lists of objects have the same classes and flags, and boxes that differ by no more than this."""
    same = [(label, crowd) for label, _, crowd in found] == [(label, crowd) for label, _, crowd in wanted]
    boxes = zip(found, wanted, strict=False)
    return same and all(box == pytest.approx(other, abs=tolerance) for (_, box, _), (_, other, _) in boxes)


def test_every_export_has_what_is_expected_of_it_and_is_small():
    folders = {path.name: path for path in EXPORTS.iterdir() if path.is_dir()}
    assert EXPECTED
    assert folders.keys() == EXPECTED.keys()
    sizes = {
        name: sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) for name, path in folders.items()
    }
    assert {name: size for name, size in sizes.items() if size > MOST_BYTES} == {}


@pytest.mark.parametrize(("name", "split"), READ, ids=lambda value: value or "all")
def test_the_boxes_are_those_that_the_tool_reads(name, split):
    expected, folder = EXPECTED[name], EXPORTS / name
    wanted = expected["splits"][split]
    # A tool that marks every object as a crowd does not mean regions to ignore.
    regions = not all(
        row[2] for images in expected["splits"].values() for image in images.values() for row in image["objects"]
    )

    dataset = read_dataset(folder, split=split or None)

    names = defect_names(dataset)
    assert set(names) == set(expected["classes"])
    rows = {Path(row["image"]["path"]).relative_to(folder.absolute()).as_posix(): row for row in dataset}
    assert rows.keys() == wanted.keys()
    for path, image in wanted.items():
        assert image_size(folder / path, path) == tuple(image["size"])
        found = objects_of(rows[path], names)
        known = sorted((label, box, crowd and regions) for label, box, crowd in image["objects"])
        assert close(found, known, expected["tolerance"]), f"{path}: {found}, but the tool says {known}"


@pytest.mark.parametrize("name", REFUSED)
def test_a_form_that_is_not_read_is_named_with_what_to_export_instead(name):
    file = EXPECTED[name]["refused"].replace(".", r"\.")
    with pytest.raises(InputError, match=rf"{file}.*(export|convert)"):
        read_labelled(str(EXPORTS / name))
