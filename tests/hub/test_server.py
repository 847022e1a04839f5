"""The local hub's HTTP itself, spoken by hand: ranges, uploads that are not what they claim, atomic commits, faults."""

import base64
import hashlib
import http.client
import json
import re
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from local_hub import EVERY, LocalHub, cards, views

DATA = bytes(range(256)) * 40


def ask(hub, method, path, body=None, token="write", **headers):
    """One call: its status, headers and body."""
    connection = http.client.HTTPConnection(hub.endpoint.removeprefix("http://"), timeout=20)
    if token:
        headers["Authorization"] = f"Bearer {hub.tokens[token]}"
    body = json.dumps(body) if isinstance(body, dict) else body
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return found


def commit_lines(*operations, parent=None):
    header = {"summary": "by hand"} | ({"parentCommit": parent} if parent else {})
    lines = [{"key": "header", "value": header}, *({"key": key, "value": value} for key, value in operations)]
    return "\n".join(map(json.dumps, lines))


def text_file(path, content="x"):
    return "file", {"path": path, "content": base64.b64encode(content.encode()).decode(), "encoding": "base64"}


def large_file(path, data, size=None):
    return "lfsFile", {"path": path, "oid": hashlib.sha256(data).hexdigest(), "size": size or len(data)}


def announce(hub, data, size=None, transfers=("basic",)):
    """What the hub wants done for this content."""
    entry = {"oid": hashlib.sha256(data).hexdigest(), "size": size or len(data)}
    body = {"operation": "upload", "transfers": transfers, "objects": [entry]}
    status, _, answer = ask(hub, "POST", "/agssp/x.git/info/lfs/objects/batch", body)
    assert status == 200
    return json.loads(answer)["objects"][0].get("actions")


def path_of(hub, address):
    return address.removeprefix(hub.endpoint)


def test_empty_hub(hub):
    assert ask(hub, "GET", "/api/models")[::2] == (200, b"[]")
    assert ask(hub, "GET", "/api/models/agssp/x")[1]["X-Error-Code"] == "RepoNotFound"
    assert ask(hub, "GET", "/agssp/x/resolve/main/a")[0] == 404
    assert ask(hub, "GET", "/agssp/x/resolve/main/a", token=None)[0] == 401
    assert ask(hub, "GET", "/nothing/here")[0] == 404
    assert ask(hub, "GET", "/parquet?dataset=agssp/x")[0] == 501
    assert [request.status for request in hub.requests] == [200, 404, 404, 401, 404, 501]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("bytes=0-0", DATA[:1]),
        ("bytes=10-19", DATA[10:20]),
        ("bytes=10000-", DATA[10000:]),
        ("bytes=-7", DATA[-7:]),
        ("bytes=10000-99999", DATA[10000:]),
        ("bytes=-99999", DATA),
    ],
)
def test_ranges_are_slices(hub, wanted, expected):
    hub.publish("agssp/x", {"a.bin": DATA})
    status, headers, body = ask(hub, "GET", "/agssp/x/resolve/main/a.bin", Range=wanted)
    assert (status, body) == (206, expected)
    start, end, size = map(int, re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", headers["Content-Range"]).groups())
    assert (DATA[start : end + 1], size) == (expected, len(DATA))
    assert (hub.requests[-1].range, hub.requests[-1].sent) == (wanted, len(expected))


def test_whole_file_head_and_range_behind_the_end(hub):
    revision = hub.publish("agssp/x", {"a.bin": DATA, "a.txt": "text"})
    status, headers, body = ask(hub, "HEAD", "/agssp/x/resolve/main/a.bin")
    assert (status, body, int(headers["Content-Length"])) == (200, b"", len(DATA))
    assert headers["ETag"] == f'"{hashlib.sha256(DATA).hexdigest()}"'
    assert headers["X-Repo-Commit"] == revision
    assert ask(hub, "GET", f"/agssp/x/resolve/{revision}/a.bin")[2] == DATA
    git = hashlib.sha1(b"blob 4\0text").hexdigest()
    assert ask(hub, "GET", "/agssp/x/resolve/main/a.txt")[1]["ETag"] == f'"{git}"'
    assert ask(hub, "GET", "/agssp/x/resolve/main/a.bin", Range=f"bytes={len(DATA)}-")[0] == 416
    missing = ask(hub, "GET", "/agssp/x/resolve/main/b.bin")[1]
    assert (missing["X-Error-Code"], missing["X-Repo-Commit"]) == ("EntryNotFound", revision)
    assert ask(hub, "GET", "/agssp/x/resolve/other/a.bin")[1]["X-Error-Code"] == "RevisionNotFound"


def test_contents_that_are_not_what_was_announced_are_refused(hub):
    hub.publish("agssp/x", {"README.md": ""})
    address = path_of(hub, announce(hub, DATA)["upload"]["href"])
    assert ask(hub, "PUT", address, DATA[::-1])[0] == 400
    assert ask(hub, "PUT", address, DATA[:-1])[0] == 400
    assert ask(hub, "PUT", "/lfs/abc", DATA)[0] == 403
    assert ask(hub, "POST", "/lfs-verify", {"oid": hashlib.sha256(DATA).hexdigest(), "size": len(DATA)})[0] == 404
    refused = ask(hub, "POST", "/api/models/agssp/x/commit/main", commit_lines(large_file("a.bin", DATA)))
    assert refused[0] == 400
    assert ask(hub, "PUT", address, DATA)[0] == 200
    wrong_size = commit_lines(text_file("b.txt"), large_file("a.bin", DATA, size=7))
    assert ask(hub, "POST", "/api/models/agssp/x/commit/main", wrong_size)[0] == 400
    assert hub.files("agssp/x") == {"README.md": b""}
    assert ask(hub, "POST", "/api/models/agssp/x/commit/main", commit_lines(large_file("a.bin", DATA)))[0] == 200
    assert hub.files("agssp/x") == {"README.md": b"", "a.bin": DATA}
    assert announce(hub, DATA) is None, "what is here is not asked for again"


def test_parts_are_put_together_in_their_order(hub):
    hub.publish("agssp/x", {})
    hub.api.uploads.part_size = 3000
    assert "header" not in announce(hub, DATA[:3000], transfers=["basic", "multipart"])["upload"]
    upload = announce(hub, DATA, transfers=["basic", "multipart"])["upload"]
    parts = {int(name): path_of(hub, address) for name, address in upload["header"].items() if name.isdigit()}
    assert len(parts) == 4
    etags = {}
    for number in (2, 1, 4, 3):
        piece = DATA[(number - 1) * 3000 : number * 3000]
        etags[number] = ask(hub, "PUT", parts[number], piece)[1]["ETag"]
    named = [{"partNumber": number, "etag": etag} for number, etag in etags.items()]
    address = path_of(hub, upload["href"])
    assert ask(hub, "POST", address, {"parts": named[:3]})[0] == 400
    assert ask(hub, "POST", address, {"parts": named})[0] == 200
    assert hub.api.store.contents.path(hashlib.sha256(DATA).hexdigest()).read_bytes() == DATA


@pytest.mark.parametrize(
    ("operation", "status"),
    [
        (("deletedFile", {"path": "missing"}), 404),
        (("deletedFolder", {"path": "a.txt/"}), 404),
        (text_file("../a"), 400),
        (text_file("a.txt/b"), 400),
        (text_file(".git/config"), 400),
        (large_file("b.bin", b"never uploaded"), 400),
        (("copiedFile", {"path": "c"}), 400),
    ],
)
def test_a_commit_is_all_or_nothing(hub, operation, status):
    before = hub.publish("agssp/x", {"a.txt": "a"})
    lines = commit_lines(text_file("new.txt"), operation)
    assert ask(hub, "POST", "/api/models/agssp/x/commit/main", lines)[0] == status
    assert hub.files("agssp/x") == {"a.txt": b"a"}
    assert json.loads(ask(hub, "GET", "/api/models/agssp/x")[2])["sha"] == before


def test_a_commit_that_is_cut_is_none(hub):
    hub.publish("agssp/x", {"a.txt": "a"})
    lines = commit_lines(text_file("b.txt", "b" * 5000), text_file("c.txt"))
    hub.fail("POST", "/commit/", cut_after=len(lines) - 10)
    with pytest.raises(ConnectionError, match=r"closed connection without response|reset by peer|Broken pipe"):
        ask(hub, "POST", "/api/models/agssp/x/commit/main", lines)
    assert (hub.requests[-1].status, hub.requests[-1].received) == (0, len(lines) - 10)
    assert hub.files("agssp/x") == {"a.txt": b"a"}


def test_commits_at_the_same_time_all_count_unless_they_name_their_parent(hub):
    parent = hub.publish("agssp/x", {})

    def commit(number, parent=None):
        lines = commit_lines(text_file(f"{number}.txt"), parent=parent)
        return ask(hub, "POST", "/api/models/agssp/x/commit/main", lines)[0]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(commit, range(16))) == [200] * 16
        assert sorted(hub.files("agssp/x")) == sorted(f"{number}.txt" for number in range(16))
        parent = json.loads(ask(hub, "GET", "/api/models/agssp/x")[2])["sha"]
        statuses = list(pool.map(lambda number: commit(number, parent), range(16, 24)))
    assert sorted(statuses) == [200] + [412] * 7


def test_lists_come_in_pages(hub, monkeypatch):
    monkeypatch.setattr(views, "PAGE", 2)
    paths = {"a/b/1.txt", "a/2.txt", "3.txt", "a/b/4.txt"}
    hub.publish("agssp/x", dict.fromkeys(paths, "x"))
    expected = paths | {"a", "a/b", ".gitattributes"}
    address, found, pages = "/api/models/agssp/x/tree/main?recursive=true", [], 0
    while address:
        _, headers, body = ask(hub, "GET", address)
        found += [entry["path"] for entry in json.loads(body)]
        link = re.match(r'<(.+)>; rel="next"', headers.get("Link", ""))
        address, pages = link and path_of(hub, link[1]), pages + 1
    assert (sorted(found), pages) == (sorted(expected), 4)
    top = json.loads(ask(hub, "GET", "/api/models/agssp/x/tree/main/a")[2])
    assert [(entry["path"], entry["type"]) for entry in top] == [("a/2.txt", "file"), ("a/b", "directory")]


def test_faults_strike_the_calls_they_name(hub):
    hub.publish("agssp/x", {"a.bin": DATA})
    with pytest.raises(ValueError, match="needs one of"):
        hub.fail("GET", "/resolve/")
    fault = hub.fail("GET", r"/resolve/.*\.bin", status=429, retry_after=3, calls=(2, 3))
    answers = [ask(hub, "GET", "/agssp/x/resolve/main/a.bin") for _ in range(4)]
    assert [answer[0] for answer in answers] == [200, 429, 429, 200]
    assert answers[1][1]["Retry-After"] == "3"
    assert [request.fault for request in hub.requests] == [None, fault, fault, None]
    assert ask(hub, "HEAD", "/agssp/x/resolve/main/a.bin")[0] == 200
    hub.fail("*", "/resolve/", status=507, calls=EVERY)
    assert ask(hub, "HEAD", "/agssp/x/resolve/main/a.bin")[0] == 507
    hub.heal()
    hub.fail("GET", "/resolve/", delay=0.2)
    start = time.monotonic()
    assert ask(hub, "GET", "/agssp/x/resolve/main/a.bin")[2] == DATA
    assert time.monotonic() - start >= 0.2
    hub.fail("GET", "/resolve/", cut_after=100)
    with pytest.raises(http.client.IncompleteRead, match="100 bytes read") as cut:
        ask(hub, "GET", "/agssp/x/resolve/main/a.bin")
    assert cut.value.partial == DATA[:100]
    assert hub.requests[-1].sent == 100
    hub.fail("POST", "/branch/", lose_answer=True)
    with pytest.raises(http.client.RemoteDisconnected, match="closed connection without response"):
        ask(hub, "POST", "/api/models/agssp/x/branch/other")
    assert ask(hub, "GET", "/agssp/x/resolve/other/a.bin")[2] == DATA


def test_cards_are_read_as_the_hub_reads_them():
    assert cards.metadata("") == {}
    assert cards.validate("# no metadata")[1] == ["empty or missing yaml metadata in repo card"]
    assert cards.metadata("---\nlicense: mit\ntags: [a]\n---\n# x\n---\n") == {"license": "mit", "tags": ["a"]}
    assert cards.validate("---\nlicense: [mit, agpl-3.0]\n---\n") == ([], [])
    for wrong in ("license: CC BY 4.0", "tags: a", "a: [", "- a", "model-index: [{name: x}]"):
        assert cards.validate(f"---\n{wrong}\n---\n")[0], wrong


def test_a_bug_of_the_hub_fails_the_test(tmp_path):
    with pytest.raises(AssertionError, match=r"the local hub has bugs(.|\n)*KeyError"), LocalHub(tmp_path) as hub:
        assert ask(hub, "POST", "/api/validate-yaml", {})[0] == 500


def test_what_was_published_is_there_after_a_restart(tmp_path):
    with LocalHub(tmp_path) as hub:
        first = hub.publish("agssp/x", {"a.txt": "1"})
        hub.publish("agssp/x", {"a.txt": "2"})
    with LocalHub(tmp_path) as hub:
        assert hub.files("agssp/x") == {"a.txt": b"2"}
        assert hub.files("agssp/x", revision=first) == {"a.txt": b"1"}


def test_by_hand(tmp_path):
    command = [sys.executable, "-m", "local_hub", "--root", str(tmp_path)]
    process = subprocess.Popen(
        command, cwd=Path(__file__).parent, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        printed = process.stdout.readline()
        endpoint = re.search(r"HF_ENDPOINT=(\S+)", printed)[1]
        with urllib.request.urlopen(f"{endpoint}/api/models", timeout=10) as answer:
            assert json.load(answer) == []
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()
