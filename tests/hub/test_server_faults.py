"""What the real clients make of a hub that fails: which calls they try again, and that nothing half-done is seen."""

import hashlib
import io

import pyarrow
import pytest
from local_hub import EVERY
from pyarrow import parquet

DATA = bytes(range(256)) * 400
LOST = ("ReadError", "RemoteProtocolError", "WriteError")  # by whether the client was still sending
UPLOAD = """
    import json, sys
    from huggingface_hub import create_repo, upload_folder
    from huggingface_hub.errors import HfHubHTTPError

    create_repo("agssp/x", exist_ok=True)
    try:
        upload_folder(repo_id="agssp/x", folder_path=sys.argv[1])
        print(json.dumps("done"))
    except Exception as error:
        error = error.__cause__ if type(error) is RuntimeError else error
        print(json.dumps(error.response.status_code if isinstance(error, HfHubHTTPError) else type(error).__name__))
    """


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(DATA)
    return folder


@pytest.mark.slow
def test_an_upload_goes_on_after_passing_faults(hub, folder):
    hub.fail("POST", "/preupload/", status=500)
    hub.fail("POST", "/objects/batch", status=429, retry_after=0)
    hub.fail("PUT", "/lfs/", cut_after=len(DATA) // 2)
    hub.fail("POST", "/lfs-verify", lose_answer=True)
    assert hub.run(UPLOAD, folder).value == "done"
    assert hub.files("agssp/x") == {"config.json": b"{}", "model.safetensors": DATA}
    assert [request.received for request in hub.requested("PUT", "/lfs/")] == [len(DATA) // 2, len(DATA)]
    for pattern in ("/preupload/", "/objects/batch", "/lfs-verify"):
        assert len(hub.requested("POST", pattern)) == 2
    assert len(hub.history("agssp/x")) == 1


@pytest.mark.slow
def test_faults_that_a_client_does_not_try_again_leave_the_old_revision(hub, folder):
    before = {"config.json": b"old"}
    hub.publish("agssp/x", before)
    for method, pattern, effect, expected in (
        ("PUT", "/lfs/", {"status": 507}, [507]),
        ("POST", "/commit/", {"status": 500}, [500]),
        ("POST", "/commit/", {"cut_after": 20}, LOST),
    ):
        hub.fail(method, pattern, **effect)
        assert hub.run(UPLOAD, folder).value in expected
        assert hub.files("agssp/x") == before
    sent = len(hub.requested("PUT", "/lfs/"))
    hub.fail("POST", "/commit/", lose_answer=True)
    assert hub.run(UPLOAD, folder).value in LOST
    assert len(hub.requested("PUT", "/lfs/")) == sent, "what had come was not sent again"
    assert hub.files("agssp/x") == {"config.json": b"{}", "model.safetensors": DATA}, "done, though the answer was lost"


@pytest.mark.slow
def test_a_download_that_is_cut_goes_on(hub):
    large = DATA * 110
    assert len(large) > 11_000_000
    hub.publish("agssp/x", {"model.safetensors": large, "config.json": "{}"})
    hub.fail("GET", "safetensors", cut_after=11_000_000)
    hub.fail("GET", "config.json", status=429, retry_after=0)
    value = hub.run(
        """
        import hashlib, json
        from pathlib import Path
        from huggingface_hub import hf_hub_download

        hf_hub_download("agssp/x", "config.json")
        data = Path(hf_hub_download("agssp/x", "model.safetensors")).read_bytes()
        print(json.dumps(hashlib.sha256(data).hexdigest()))
        """
    ).value
    assert value == hashlib.sha256(large).hexdigest()
    gets = hub.requested("GET", r"/resolve/.*safetensors")
    assert [request.range for request in gets] == [None, f"bytes={10 * 2**20}-"], "the client keeps whole pieces"
    assert gets[1].sent == len(large) - 10 * 2**20
    assert len(hub.requested("GET", "config.json")) == 2


@pytest.mark.slow
def test_downloads_that_fail_leave_nothing_and_finished_files_stay(hub, tmp_path):
    hub.publish("agssp/x", {"a.txt": "a", "model.safetensors": DATA})
    pull = """
        import json
        from pathlib import Path
        from huggingface_hub import snapshot_download
        from huggingface_hub.constants import HF_HUB_CACHE

        try:
            snapshot_download("agssp/x", max_workers=1)
            outcome = "done"
        except Exception as error:
            outcome = [type(error).__name__, getattr(error, "errno", None)]
        blobs = [path for path in Path(HF_HUB_CACHE).rglob("blobs/*") if path.stat().st_size >= 100_000]
        print(json.dumps([outcome, len(blobs), len(list(Path(HF_HUB_CACHE).rglob("*.incomplete")))]))
        """
    cache = tmp_path / "cache"
    hub.fail("GET", "/resolve/.*safetensors", status=507)
    assert hub.run(pull, cache=cache).value == [["HfHubHTTPError", None], 0, 0]
    full = hub.run(pull, cache=cache, largest_file=50_000).value
    assert full == [["OSError", 27], 0, 0], "EFBIG"
    assert hub.run(pull, cache=cache).value == ["done", 1, 0]
    assert len(hub.requested("GET", "/resolve/.*a.txt")) == 1, "a.txt was there already"


@pytest.mark.slow
def test_streaming_goes_on_after_faults(hub):
    for number in range(2):
        table = pyarrow.table({"number": list(range(number * 50, number * 50 + 50))})
        parquet.write_table(table, shard := io.BytesIO())
        hub.publish("agssp/d", {f"data/train-0000{number}-of-00002.parquet": shard.getvalue()}, "dataset")
    hub.fail("GET", "train-00000", status=503)
    hub.fail("GET", "train-00001", cut_after=10)
    value = hub.run(
        """
        import json
        from datasets import load_dataset

        print(json.dumps([row["number"] for row in load_dataset("agssp/d", split="train", streaming=True)]))
        """
    ).value
    assert value == list(range(100))
    assert [request.status for request in hub.requested("GET", "train-00000")][:2] == [503, 206]


@pytest.mark.slow
def test_a_client_asks_a_late_hub_again_with_more_patience(hub):
    hub.publish("agssp/x", {"a.txt": "a"})
    hub.fail("HEAD", "/resolve/", delay=1.5, calls=EVERY)
    hub.run(
        "from huggingface_hub import hf_hub_download; hf_hub_download('agssp/x', 'a.txt')",
        environment={"HF_HUB_ETAG_TIMEOUT": "1"},
    )
    assert len(hub.requested("HEAD", "/resolve/")) == 2
