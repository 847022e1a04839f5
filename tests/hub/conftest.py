"""The fixture `hub`: an empty Hub on loopback that lasts one test.

The clients read their constants when they are imported, so real clients run in processes of their own:

    def test_push(hub, tmp_path):
        hub.run('''
            import sys
            from huggingface_hub import create_repo, upload_folder
            create_repo("agssp/x", exist_ok=True)
            upload_folder(repo_id="agssp/x", folder_path=sys.argv[1])
        ''', tmp_path / "model")
        assert hub.files("agssp/x")["config.json"] == (tmp_path / "model/config.json").read_bytes()

    hub.run(code_or_file_or_words, *arguments, token="write", offline=False, cache=None, environment=None, folder=None,
            without=(), largest_file=None, check=True, timeout=300)
        -> .returncode, .stdout, .stderr, .value (the last line printed, as JSON)
        without=("agssp",) hides packages; largest_file=4096 makes a disk that is full after so many bytes
    hub.agssp("push", DIR, "agssp/x", token=..., ...)   the command line, with the same options
    hub.environment(token, offline, cache)              the variables alone, for processes a test starts itself

`token` is a name in `hub.tokens` or a token: "write" and "read" are of the user "me" (`hub.user`), who belongs to the
organisation "agssp" (`hub.organisation`); "stranger" writes for the user "stranger" only; "wrong" is nobody's; None is
anonymous. `cache` is HF_HOME: a new and empty folder by default, so pass one folder twice for `offline=True`.

    hub.endpoint, hub.folder                            where it listens and keeps its files
    hub.publish("agssp/x", {"config.json": "{}"}, repo_type="model", private=False)   a revision without a client
    hub.files("agssp/x", repo_type, revision)           {path: bytes} of a revision, without .gitattributes
    hub.history("agssp/x", repo_type)                   titles of its commits, newest first
    hub.requests                                        every call: method, path, query, range, token, agent, status,
                                                        received and sent (bytes of bodies), fault
    hub.requested("GET", r"/resolve/")                  those that match
    hub.fail("POST", r"/commit/", status=500, calls=(1,))             the first such call from now on fails
    hub.fail("*", r"/preupload/", status=429, retry_after=0)          a client that obeys waits a second more
    hub.fail("GET", r"/resolve/.*safetensors", cut_after=1000)        the answer's body is cut
    hub.fail("PUT", r"/lfs/", cut_after=1000)                         the client's body is cut
    hub.fail("POST", r"/commit/", lose_answer=True)                   it is done, but the client does not hear of it
    hub.fail("PUT", r"/lfs/", status=507, calls=EVERY)                no space, ever (`from local_hub import EVERY`)
    hub.fail("GET", r"/resolve/", delay=2.0)                          slow
    hub.heal()                                                        no more faults
    hub.api.uploads.part_size = 1000                    larger contents are sent in parts

Tests in other folders put this folder on `sys.path` and say `with LocalHub(tmp_path / "hub") as hub`; to try by hand,
run `python -m local_hub --root DIR` in this folder.

What the clients of huggingface_hub 2.4 try again by themselves, after 1 s, 2 s, 4 s, 8 s and 8 s, on 408, 429, 500,
502, 503, 504 and lost connections (`Retry-After: N` makes it N + 1 s): preupload, the LFS batch, PUT and verify, lists
of files and commits, HEAD of a file that is not in the cache, ranges read while streaming. A download that is cut goes
on after each 10 MiB that came whole, within the same call only; its GET is tried again on 408 and 429, not on 500.
They do not try again: creating a repository, the commit, information on a repository.
"""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from local_hub import LocalHub


@pytest.fixture
def hub(tmp_path):
    with LocalHub(tmp_path / "hub") as hub:
        yield hub
