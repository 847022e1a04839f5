"""Images named in a file are left out, of tables and of streams; a file that fits nothing is an error."""

import pytest
from datasets import Dataset

from agssp.data.exclusion import without_excluded
from agssp.errors import InputError

ROWS = Dataset.from_dict({"image_id": ["a/1.png", "a/2.png", "b/1.png"]})


def test_nothing_to_leave_out(tmp_path):
    empty = tmp_path / "empty.txt"
    empty.write_text("\n")
    assert without_excluded(ROWS, None) is ROWS
    assert without_excluded(ROWS, str(empty))["image_id"] == ROWS["image_id"]


@pytest.mark.parametrize("streamed", [False, True])
def test_named_images_are_left_out(tmp_path, streamed):
    file = tmp_path / "leave_out.txt"
    file.write_text("a/2.png\nelsewhere.png\n")
    rows = ROWS.to_iterable_dataset(num_shards=2) if streamed else ROWS
    assert [row["image_id"] for row in without_excluded(rows, str(file))] == ["a/1.png", "b/1.png"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        ("c.png\n", "none of its 1 ids is among the 3 images; ids there look like 'c.png', here like 'a/1.png'"),
        ("a/1.png\na/2.png\nb/1.png\n", "leaves out all 3 images"),
    ],
)
def test_files_that_do_not_fit(tmp_path, content, message):
    file = tmp_path / "leave_out.txt"
    if content is not None:
        file.write_text(content)
    with pytest.raises(InputError, match=message):
        without_excluded(ROWS, str(file))
