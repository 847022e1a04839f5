"""The files of a map store: whole or absent, and the first of two writers wins."""

import os

import pytest

from agssp.data import map_store
from agssp.data.map_store import MapStore, write_once
from agssp.errors import InputError


def test_the_first_writer_wins(tmp_path):
    file = tmp_path / "new" / "references"
    assert write_once(file, lambda part: part.write_bytes(b""))
    assert not write_once(file, lambda part: part.write_bytes(b"second"))
    assert file.read_bytes() == b""
    assert list(file.parent.iterdir()) == [file]


def test_the_first_writer_wins_where_there_are_no_links(tmp_path, monkeypatch):
    def link(source, target):
        raise PermissionError("no links on this file system")

    monkeypatch.setattr(os, "link", link)
    assert write_once(tmp_path / "file", lambda part: part.write_bytes(b"first"))
    assert not write_once(tmp_path / "file", lambda part: part.write_bytes(b"second"))
    assert (tmp_path / "file").read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_writer_that_fails_leaves_nothing(tmp_path):
    def fail(part):
        part.write_bytes(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_once(tmp_path / "file", fail)
    assert list(tmp_path.iterdir()) == []


def test_parts_of_two_machines_or_processes_have_other_names(tmp_path, monkeypatch):
    names = []
    for host, process in (("one", 7), ("two", 7), ("one", 8)):
        monkeypatch.setattr(map_store.socket, "gethostname", lambda host=host: host)
        monkeypatch.setattr(os, "getpid", lambda process=process: process)
        write_once(tmp_path / "file", lambda part: (names.append(part.name), part.write_bytes(b"")))
    assert len(set(names)) == 3


def test_a_store_begun_in_another_way_at_the_same_moment_is_refused(tmp_path, monkeypatch):
    def slower(path, write):
        # Another process begins the store after this one has looked.
        path.parent.mkdir()
        path.write_text('{"categories": [], "grid_size": 4, "teacher": "first"}')
        return write_once(path, write)

    monkeypatch.setattr(map_store, "write_once", slower)
    with pytest.raises(InputError, match="made in another way"):
        MapStore.create(tmp_path / "maps", {"categories": [], "grid_size": 4, "teacher": "second"})
    assert MapStore.open(tmp_path / "maps").manifest["teacher"] == "first"
