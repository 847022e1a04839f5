"""Lists of JSON files that are read a part at a time, held against what `json.loads` gives of the whole file."""

import json
import random
import tracemalloc

import pytest

from agssp.data.readers.json_rows import JsonRows, is_list, load_rows
from agssp.errors import InputError
from agssp.parsing import MOST_DEPTH, is_too_deep

KEYS = ("images", "annotations")
PARTS = (1, 2, 3, 7, 50, 64 * 1024)


def held(content):
    """A file's content with all of its rows."""
    if not isinstance(content, dict):
        return content
    return {key: list(value) if isinstance(value, JsonRows) else value for key, value in content.items()}


def both(path, raw):
    """What the file holds by `json.loads`, and by each size of parts; ValueError where it is no JSON."""
    path.write_bytes(raw)
    found = []
    for load in (
        lambda: json.loads(raw),
        *(lambda part=part: held(load_rows(str(path), KEYS, part)) for part in PARTS),
    ):
        try:
            found.append(load())
        except ValueError:
            found.append(ValueError)
    return found[0], found[1:]


def rows_of(path, text, part=3):
    path.write_text(text)
    return load_rows(str(path), KEYS, part)["images"]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b" { } ",
        b'{"images": []}',
        b'{"images": [ ], "annotations": [[], {}, [[]]]}',
        b'{"images": [1]}',
        b'{"images": {"a": [1]}, "annotations": "text", "x": [1, 2]}',
        b'{"images": [1, 2.5e3, -0, "},{", null, true, NaN]}',
        b'{"images": [{"a": 1}], "images": [{"b": 2}, 3], "x": 1, "x": 2}',
        b'\xef\xbb\xbf{"images": [1, 2]}',
        '{"images": ["\u00e4", "\u20ac", "\U0001f600"], "annotations": ["\u00df"]}'.encode(),
        b'{"images": ["\\u00e4\\ud83d\\ude00", "\\ud800", "\\"\\\\"]}',
        '{"images": [1, "\u20ac"]}'.encode("utf-16"),
        '{"images": [1, "\u20ac"]}'.encode("utf-32-le"),
        '{"images": ["\ud800"]}'.encode("utf-8", "surrogatepass"),
        b"[1, 2]",
        b"7",
        b'\r\n\t{ "images"\n:\t[ {"a" : 1 } , {"b":2}\n,{"c":[ {"d":1},{"e":2} ]} ] }\n',
        b'{"images": [{"a": {"b": 1}, "c": {"d": 2}}, {"e": [{"f": 1}, {"g": 2}]}]}',
        b'{"images": [1, 2], "annotations": [3',
        b'{"images": [1, 2',
        b'{"images": [1, 2}',
        b'{"images": [1,, 2]}',
        b'{"images": [1, 2,]}',
        b'{"images": [,]}',
        b'{"images": [1 2]}',
        b'{"images": [1]} x',
        b'{"images": [1]}}',
        b'{"images": [1],}',
        b'{"images" [1]}',
        b"{1: 2}",
        b'{"images": [1], "x": nothing}',
        b'{"images": ["\xff"]}',
        b'{"images": ["\xc3',
        b'{"images": [{"a": 1}, {"b": 2}, {"c": }, {"d": 4}]}',
        b'{"images": [' + b"9" * 5000 + b"]}",
    ],
)
def test_as_json_reads_it(tmp_path, raw):
    expected, found = both(tmp_path / "a.json", raw)
    # NaN is not equal to itself.
    assert [repr(one) for one in found] == [repr(expected)] * len(PARTS)


def value(generator, depth):
    """Any JSON value."""
    kind = generator.random()
    if depth == 0 or kind < 0.5:
        return generator.choice([1, -2.5e10, True, None, 'a"},{\u00e9\U0001f600', "", 10**20, 1e-5, [], {}])
    if kind < 0.75:
        return [value(generator, depth - 1) for _ in range(generator.randrange(4))]
    return {generator.choice("abc"): value(generator, depth - 1) for _ in range(generator.randrange(4))}


@pytest.mark.parametrize("seed", range(100))
def test_any_file_whole_or_damaged(tmp_path, seed):
    generator = random.Random(seed)
    content = {
        key: [value(generator, 3) for _ in range(generator.randrange(6))]
        for key in (*KEYS, "x")
        if generator.random() < 0.8
    }
    separators = generator.choice([None, (",", ":"), (" , ", " : ")])
    indent = generator.choice([None, 2])
    raw = json.dumps(content, ensure_ascii=generator.random() < 0.5, indent=indent, separators=separators).encode()
    place = generator.randrange(len(raw))
    cuts = [raw, raw[:place], raw[:place] + generator.choice([b",", b"}", b'"', b"1"]) + raw[place:]]
    for text in (*cuts, raw[:place] + raw[place + 1 :]):
        expected, found = both(tmp_path / "a.json", text)
        assert [repr(one) for one in found] == [repr(expected)] * len(PARTS)


@pytest.mark.parametrize("part", PARTS)
def test_rows_one_by_one(tmp_path, part):
    table = [{"id": number, "name": "\u00e4" * number} for number in range(40)]
    rows = rows_of(tmp_path / "a.json", json.dumps({"images": table, "x": 1}, ensure_ascii=False), part)
    assert isinstance(rows, JsonRows)
    assert len(rows) == 40
    assert [rows[number] for number in range(-40, 40)] == table + table
    assert (rows[:0], rows[3:5], rows[::-7]) == (table[:0], table[3:5], table[::-7])
    assert list(rows) == list(rows) == table
    assert table[5] in rows
    with pytest.raises(IndexError):
        rows[40]


def test_what_is_a_list(tmp_path):
    assert is_list([])
    assert is_list(rows_of(tmp_path / "a.json", '{"images": []}'))
    assert not any(map(is_list, ({}, "", (), None)))


def test_no_rows(tmp_path):
    rows = rows_of(tmp_path / "a.json", '{"images": []}')
    assert (len(rows), list(rows), rows[:3]) == (0, [], [])
    with pytest.raises(IndexError):
        rows[0]


@pytest.mark.parametrize("key", ["images", "x"])
@pytest.mark.parametrize("part", PARTS)
def test_depth_is_that_of_the_whole_file(tmp_path, key, part):
    # The outermost object counts, too.
    whole, deeper = (f'{{"{key}": {"[" * lists}1{"]" * lists}}}' for lists in (MOST_DEPTH - 1, MOST_DEPTH))
    assert [is_too_deep(json.loads(text)) for text in (whole, deeper)] == [False, True]
    path = tmp_path / "a.json"
    path.write_text(whole)
    assert held(load_rows(str(path), KEYS, part)) == json.loads(whole)
    path.write_text(deeper)
    with pytest.raises(ValueError, match="nested too deeply"):
        load_rows(str(path), KEYS, part)


def test_a_row_far_deeper_than_pythons_stack(tmp_path):
    (tmp_path / "a.json").write_text('{"images": [' + "[" * 100_000)
    with pytest.raises(RecursionError):
        load_rows(str(tmp_path / "a.json"), KEYS)


@pytest.mark.parametrize("text", ['{"images": [{"a": 1}]}', '{"images": [[[[[[[[[[[[[[[[[[[[[[[[[[[', ""])
def test_a_file_that_changes_while_it_is_read(tmp_path, text):
    path = tmp_path / "a.json"
    rows = rows_of(path, json.dumps({"images": [{"id": number} for number in range(9)]}), 40)
    path.write_text(text)
    for read in (lambda: list(rows), lambda: rows[8]):
        with pytest.raises(InputError, match=r"a\.json: was changed while it was read; leave it as it is"):
            read()


def test_a_file_that_is_taken_away_while_it_is_read(tmp_path):
    rows = rows_of(tmp_path / "a.json", '{"images": [1]}')
    (tmp_path / "a.json").unlink()
    with pytest.raises(InputError, match=r"a\.json: cannot be opened any more: No such file"):
        list(rows)


def test_no_more_than_a_part_is_held(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"images": [{"id": number, "name": "x" * 80} for number in range(50_000)]}))
    tracemalloc.start()
    try:
        rows = load_rows(str(path), KEYS)["images"]
        assert sum(row["id"] for row in rows) == 49_999 * 25_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert path.stat().st_size > 5_000_000
    assert peak < 1_500_000
