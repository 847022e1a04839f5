"""Repositories of other kinds than tables and pictures: nothing of them is fetched or decoded."""

import io
import tarfile

import pytest
from PIL import Image

READ = """
import json
import sys
from agssp.data.images import decode_image
from agssp.data.readers import read_dataset
from agssp.errors import InputError
name, streaming = sys.argv[1], sys.argv[2] == "True"
try:
    rows = list(read_dataset(name, streaming=streaming))
    found = [[row["image_id"], list(decode_image(row["image"], row["image_id"]).size)] for row in rows]
except InputError as error:
    found = str(error)
print(json.dumps(found))
"""


def picture():
    with io.BytesIO() as stream:
        Image.new("RGB", (40, 20), "gray").save(stream, "PNG")
        return stream.getvalue()


def tar_of(members):
    """A tar of these names and contents."""
    with io.BytesIO() as stream:
        with tarfile.open(fileobj=stream, mode="w") as archive:
            for name, content in members.items():
                about = tarfile.TarInfo(name)
                about.size = len(content)
                archive.addfile(about, io.BytesIO(content))
        return stream.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("streaming", [False, True])
def test_files_that_are_no_pictures_or_tables_are_refused_by_their_kind(hub, streaming):
    hub.publish("me/words", {"a.txt": "some words\n"}, repo_type="dataset")
    assert (
        "me/words: `datasets` takes its files for 'text', and only parquet, arrow"
        in hub.run(READ, "me/words", streaming).value
    )
    assert not hub.requested("GET", r"resolve/.*a\.txt")


@pytest.mark.slow
@pytest.mark.parametrize("streaming", [False, True])
def test_members_of_a_webdataset_are_not_decoded(hub, streaming):
    hub.publish("me/tarred", {"data.tar": tar_of({"a.png": picture()})}, repo_type="dataset")
    assert "me/tarred: `datasets` takes its files for 'webdataset'" in hub.run(READ, "me/tarred", streaming).value
    assert not hub.requested("GET", r"resolve/.*data\.tar")
