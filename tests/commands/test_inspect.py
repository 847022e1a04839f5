"""`agssp inspect`: the numbers, and a page on which the oddest images come first."""

import json
import shlex

import numpy as np
import pytest
from PIL import Image

from agssp.arguments import parse_arguments
from agssp.commands import split
from agssp.commands.inspect import InspectArguments, main
from agssp.data.readers import ReadReport, read_dataset
from agssp.errors import InputError
from agssp.report.inspection import choose_shown, find_suspects


def write_labelled(root, rows):
    """metadata.jsonl with an image of 100 x 100 px for each row of boxes with classes; None: nothing is known."""
    lines = []
    for name, row in rows.items():
        root.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((100, 100, 3), 90, np.uint8)).save(root / name)
        objects = None if row is None else {"bbox": [box for box, _ in row], "category": [label for _, label in row]}
        lines.append(json.dumps({"file_name": name, "objects": objects}))
    (root / "metadata.jsonl").write_text("\n".join(lines))
    return root


def test_no_images(tmp_path):
    with pytest.raises(InputError, match="no images found"):
        main(InspectArguments(str(tmp_path), str(tmp_path / "page.html")))


def test_page_and_report(tmp_path, capsys):
    source = write_labelled(tmp_path / "set", {"a.png": [([10, 10, 20, 20], "pit")], "b.png": [], "c.png": None})
    (tmp_path / "set/b.png").write_bytes(b"no image")
    page = tmp_path / "out/page.html"
    main(InspectArguments(str(source), str(page), check_images=True))
    text = page.read_text(encoding="utf-8")
    assert "3 images, 1 with boxes, 1 known to be sound, 1 of which nothing is known" in text
    assert "3 of 3 images" in text
    report = json.loads((tmp_path / "out/page.html.json").read_text())
    assert (report["images"], report["boxes"], list(report["unreadable"])) == (3, {"pit": 1}, ["b.png"])
    out = capsys.readouterr().out
    assert "1 of 3 images cannot be decoded: b.png" in out
    assert "next: agssp split" in out
    main(InspectArguments(str(source), str(page)))  # a page of ours may be written again


def test_images_without_labels_go_on_to_maps(tmp_path, capsys):
    source = write_labelled(tmp_path / "set", {"a.png": None})
    main(InspectArguments(str(source), str(tmp_path / "page.html")))
    assert "next: agssp anomaly-maps" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("labels", "flags", "split_again"),
    [
        ([["pit"]], {"crowds": "objects"}, "--crowds objects --fraction 0.5"),
        (
            [["pit"], ["pit", "dent"], ["dent", "dent"], []],
            {"category": "my plate"},
            "--category 'my plate' --per-class 1",
        ),
        ([["pit"]] * 30, {}, "--per-class 10"),
    ],
)
def test_the_split_that_is_proposed_can_be_made(tmp_path, capsys, labels, flags, split_again):
    rows = {f"{n}.png": [([10 * k, 10, 20, 20], name) for k, name in enumerate(row)] for n, row in enumerate(labels)}
    source = write_labelled(tmp_path / "set", rows)
    main(InspectArguments(str(source), str(tmp_path / "page.html"), **flags))
    command = capsys.readouterr().out.splitlines()[-1].removeprefix("next: ")
    assert command == f"agssp split --dataset {source} {split_again} --output few"
    if len(rows) > 1:
        (parsed,) = parse_arguments("split", split.ARGUMENTS, shlex.split(command)[2:])
        parsed.output = str(tmp_path / "few")
        split.main(parsed)


@pytest.mark.parametrize(("name", "content"), [("page", None), ("notes.html", "mine")])
def test_pages_that_may_not_be_written(tmp_path, name, content):
    source = write_labelled(tmp_path / "set", {"a.png": None})
    if content:
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=f"--output .*{name}"):
        main(InspectArguments(str(source), str(tmp_path / name)))
    assert not content or (tmp_path / name).read_text() == content


def suspects(root, rows):
    report = ReadReport()
    dataset = read_dataset(write_labelled(root, rows), report=report)
    return dataset, find_suspects(dataset, ["dent", "pit"], report, image_size=100)


def test_what_is_odd(tmp_path):
    _, found = suspects(
        tmp_path / "set",
        {
            "clipped.png": [([90, 10, 20, 20], "pit")],
            "plain.png": [([10, 10, 20, 20], "pit")],
            "tiny.png": [([10, 10, 1.5, 20], "pit")],
            "twice.png": [([10, 10, 20, 20], "pit"), ([10, 10, 20, 20.5], "dent")],
            "unknown.png": None,
            "whole.png": [([0, 0, 100, 99], "pit")],
        },
    )
    reasons = {suspect.image_id: [reason for _, reason in suspect.reasons] for suspect in found}
    assert reasons["plain.png"] == []
    assert reasons["tiny.png"] == ["1 of 1 boxes under 2 px"]
    assert reasons["twice.png"] == ["two classes on one place"]
    assert reasons["unknown.png"] == ["nothing is known of it"]
    assert reasons["whole.png"] == ["a box covers nearly all of it"]


def test_the_oddest_come_first_and_no_image_twice(tmp_path):
    rows = {f"{index:02d}.png": [([10, 10, 20, 20], "pit")] for index in range(30)}
    rows |= {f"odd{index:02d}.png": [([10, 10, 1.5, 20], "pit")] for index in range(30)}
    dataset, found = suspects(tmp_path / "set", rows)
    shown = choose_shown(found, dataset)
    assert len({suspect.row for suspect in shown}) == len(shown) == 24
    assert all(suspect.weight > 0 for suspect in shown[:16])
    assert any(suspect.weight == 0 for suspect in shown[16:])
