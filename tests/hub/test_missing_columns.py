"""A data set on the Hub that lacks a column of the schema: made where that is possible, else named."""

import pytest
from test_streaming import publish_corpus

READ = """
    import json
    from agssp.data.readers import read_dataset
    from agssp.errors import InputError

    def read(column, streaming):
        try:
            dataset = read_dataset(f"me/no-{column}", streaming=streaming)
        except InputError as error:
            return str(error)
        rows = list(dataset)
        names = dataset.features["category"].names
        return [[row["image_id"], names[row["category"]], row["is_normal"]] for row in rows]

    columns = ("image", "image_id", "category", "is_normal")
    print(json.dumps({column: [read(column, streaming) for streaming in (False, True)] for column in columns}))
    """


@pytest.mark.slow
def test_what_can_be_made_is_made_and_what_cannot_is_named(hub, tmp_path):
    for column in ("image", "image_id", "category", "is_normal"):
        publish_corpus(hub, tmp_path, rows=4, shards=1, repository=f"me/no-{column}", leave_out=(column,))
    found = hub.run(READ).value
    for said in found["image"]:
        assert "me/no-image: lacks the column image; it has image_id, category" in said
    for rows in found["image_id"]:
        assert len({image_id for image_id, _, _ in rows}) == 4
        assert [category for _, category, _ in rows] == ["plate", "strip", "plate", "strip"]
    ids = ["00.png", "01.png", "02.png", "03.png"]
    assert found["category"][0] == [[image_id, "no-category", None] for image_id in ids]
    assert found["is_normal"][0] == [[image_id, ("plate", "strip")[int(image_id[:2]) % 2], None] for image_id in ids]
    for table, stream in found.values():
        assert table == stream, "streamed or not, the rows are the same"
