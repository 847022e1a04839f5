"""`agssp dataset verify`: every row, file and count that is wrong is named."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from source_fakes import write_fake

from agssp.commands.dataset_build import DatasetBuildArguments
from agssp.commands.dataset_build import main as build_main
from agssp.commands.dataset_verify import DatasetVerifyArguments, main
from agssp.errors import InputError


def build(name, root, output):
    build_main(DatasetBuildArguments(name=name, root=str(root), output=str(output)))


def verify(output, **changes):
    main(DatasetVerifyArguments(dataset=str(output), **changes))


def test_a_folder_without_a_manifest_is_no_data_set(tmp_path):
    with pytest.raises(InputError, match=r"has no dataset\.json"):
        verify(tmp_path)
    (tmp_path / "dataset.json").write_text("{}")
    with pytest.raises(InputError, match="lacks name, sources, counts, columns, splits"):
        verify(tmp_path)


def test_verify_names_every_row_that_is_wrong(tmp_path, capsys):
    write_fake("rsdds", tmp_path)
    output = tmp_path / "output"
    build("rsdds", tmp_path, output)
    with pytest.raises(InputError, match="1 problem"):
        verify(output)
    assert "source rsdds: 2 images, its owner gives 195" in capsys.readouterr().out
    path = output / "data/train-00000-of-00001.parquet"
    table = pq.read_table(path)
    row = table.to_pylist()[0]
    small = io.BytesIO()
    Image.new("L", (5, 5), 255).save(small, "png")
    objects = row["objects"]
    spoilt = {
        "outside": {"objects": {**objects, "bbox": [[20, 2, 5, 4], [12, 8, 6, 9]]}},
        "flat": {"objects": {**objects, "bbox": [[3, 2, 0, 4], [12, 8, 6, 5]]}},
        "class": {"objects": {**objects, "category": [0, 4]}},
        "uneven": {"objects": {**objects, "score": [1.0]}},
        "damaged": {"image": {"bytes": row["image"]["bytes"][:90], "path": "x.png"}},
        "mask": {"mask": {"bytes": small.getvalue(), "path": "m.png"}},
        "nomask": {"mask": {"bytes": b"no picture", "path": "m.png"}},
        "category": {"category": None},
        "normal": {"is_normal": True},
        "twice": {},
        "": {},
    }
    rows = [{**row, **changes, "image_id": name} for name, changes in spoilt.items()]
    rows.append({**row, "image_id": "twice"})
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)
    with pytest.raises(InputError, match="output: 13 problems; they are named above"):
        verify(output, partial=True)
    said = capsys.readouterr().out
    for words in (
        "outside: box 0: 20 2 5 4 reaches beyond the image of 24 x 16 px",
        "outside: box 1: 12 8 6 9 reaches beyond",
        "flat: box 0: has no area",
        "class: box 1: class 4 is none of the 1 classes",
        "uneven: 2 boxes, 2 classes, 1 scores and 2 iscrowd",
        "damaged: the image: the image is damaged",
        "mask: the mask is 5 x 5 px, the image 24 x 16",
        "nomask: the mask: expected an image file",
        "category: category None is none of the 1 categories",
        "normal: is said to be normal",
        "twice: the id occurs twice",
        "row 11 has no image_id",
        "split train: holds 12 rows, dataset.json says 2",
    ):
        assert words in said, words
    assert "outside: the" not in said


def test_verify_notes_missing_damaged_and_foreign_shards_and_columns(tmp_path, capsys):
    write_fake("kolektorsdd2", tmp_path)
    output = tmp_path / "output"
    build("kolektorsdd2", tmp_path, output)
    train, test = output / "data/train-00000-of-00001.parquet", output / "data/test-00000-of-00001.parquet"
    content = test.read_bytes()
    test.write_bytes(content[: len(content) // 2])
    train.rename(output / "data/other-00000-of-00001.parquet")
    with pytest.raises(InputError, match="output: 6 problems; they are named above"):
        verify(output, partial=True)
    said = capsys.readouterr().out
    assert "train-00000-of-00001.parquet: the file is missing" in said
    assert "other-00000-of-00001.parquet: the file is not in dataset.json" in said
    assert "test-00000-of-00001.parquet: cannot be read" in said
    test.write_bytes(content)
    pq.write_table(pq.read_table(test).drop_columns("is_normal"), test)
    with pytest.raises(InputError, match="output: 6 problems; they are named above"):
        verify(output, partial=True)
    assert "has the columns image, image_id, category, mask, objects" in capsys.readouterr().out
