"""The real clients, in processes of their own, against the local hub."""

import json

import huggingface_hub
import pytest


@pytest.mark.slow
def test_an_empty_hub_knows_nothing_and_the_clients_say_so(hub):
    value = hub.run(
        """
        import json
        from huggingface_hub import HfApi, file_exists, hf_hub_download, repo_exists
        from huggingface_hub.errors import RepositoryNotFoundError

        api = HfApi()
        seen = {"models": len(list(api.list_models())), "exists": repo_exists("agssp/x"), "name": api.whoami()["name"]}
        seen["file"] = file_exists("agssp/x", "config.json")
        for repo in ("agssp/x", "x"):
            try:
                hf_hub_download(repo, "config.json")
            except RepositoryNotFoundError as error:
                seen[repo] = error.response.status_code
        print(json.dumps(seen))
        """
    ).value
    assert value == {"models": 0, "exists": False, "name": "me", "file": False, "agssp/x": 404, "x": 404}
    assert hub.files("agssp/x") == {}
    assert hub.history("agssp/x") == []


@pytest.mark.slow
def test_what_is_pushed_is_pulled_also_without_the_hub(hub, tmp_path):
    folder = tmp_path / "model"
    (folder / "maps").mkdir(parents=True)
    contents = {"config.json": b"{}", "model.safetensors": bytes(range(256)) * 20, "maps/a.txt": b"a", "empty.txt": b""}
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    hub.api.uploads.part_size = 2000
    value = hub.run(
        """
        import json, sys
        from huggingface_hub import create_repo, file_exists, list_repo_files, upload_folder

        url = create_repo("agssp/x")
        again = create_repo("agssp/x", exist_ok=True)
        ids = [upload_folder(repo_id="agssp/x", folder_path=sys.argv[1]).oid for _ in range(2)]
        print(json.dumps({"urls": [url, again], "ids": ids, "listed": list_repo_files("agssp/x"),
                          "exists": file_exists("agssp/x", "maps/a.txt")}))
        """,
        folder,
    ).value
    assert value["urls"] == [f"{hub.endpoint}/agssp/x"] * 2
    assert value["ids"][0] == value["ids"][1], "nothing had changed, so no new revision"
    assert set(value["listed"]) == {*contents, ".gitattributes"}
    assert hub.files("agssp/x") == contents
    assert [request.received for request in hub.requested("PUT", "/lfs/")] == [2000, 2000, 1120]
    assert len(hub.history("agssp/x")) == 1

    pull = """
        import json
        from pathlib import Path
        from huggingface_hub import snapshot_download

        pulled = Path(snapshot_download("agssp/x"))
        files = {str(path.relative_to(pulled)): path.read_bytes().hex() for path in pulled.rglob("*") if path.is_file()}
        print(json.dumps(files))
        """
    online = hub.run(pull, token=None, cache=tmp_path / "cache").value
    assert {name: bytes.fromhex(data) for name, data in online.items() if name in contents} == contents
    calls = len(hub.requests)
    assert hub.run(pull, cache=tmp_path / "cache", offline=True).value == online
    assert hub.run(pull, offline=True, check=False).returncode != 0, "an empty cache has nothing"
    assert len(hub.requests) == calls


def test_revisions(hub):
    value = hub.run(
        """
        import json
        from pathlib import Path
        from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete
        from huggingface_hub import HfApi, hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError

        api = HfApi()
        repo = "agssp/d"
        data = dict(repo_id=repo, repo_type="dataset")
        api.create_repo(**data)

        def upload(text, **options):
            return api.upload_file(path_or_fileobj=text.encode(), path_in_repo="a/b.txt", **data, **options).oid

        def read(revision=None):
            return Path(hf_hub_download(repo, "a/b.txt", repo_type="dataset", revision=revision)).read_text()

        first = upload("1")
        api.create_tag(repo, tag="v1", repo_type="dataset")
        api.create_branch(repo, branch="try/me", revision="v1", repo_type="dataset")
        second = upload("2", parent_commit=first)
        upload("3", revision="try/me")
        seen = {"read": [read(), read("v1"), read("try/me"), read(first), read(second)]}
        refs = api.list_repo_refs(repo, repo_type="dataset")
        seen["branches"], seen["tags"] = [sorted(ref.name for ref in group) for group in (refs.branches, refs.tags)]
        seen["titles"] = [commit.title for commit in api.list_repo_commits(repo, repo_type="dataset")]
        seen["paths"] = [entry.path for entry in api.get_paths_info(repo, ["a", "a/b.txt", "c"], repo_type="dataset")]
        errors = []
        for call in (lambda: upload("4", parent_commit=first), lambda: read("v2"), lambda: upload("4", revision="v2"),
                     lambda: api.delete_file("missing", **data), lambda: api.delete_branch(repo, branch="main",
                     repo_type="dataset"), lambda: api.create_tag(repo, tag="v1", repo_type="dataset")):
            try:
                call()
            except HfHubHTTPError as error:
                errors.append([type(error).__name__, error.response.status_code])
        seen["errors"] = errors
        api.create_commit(**data, commit_message="all", operations=[
            CommitOperationCopy("a/b.txt", "c.txt"), CommitOperationAdd("new.parquet", b"p" * 100),
            CommitOperationDelete("a/")])
        api.delete_tag(repo, tag="v1", repo_type="dataset")
        api.delete_branch(repo, branch="try/me", repo_type="dataset")
        seen["listed"] = api.list_repo_files(repo, repo_type="dataset")
        info = api.dataset_info(repo, files_metadata=True)
        seen["sizes"] = {file.rfilename: file.size for file in info.siblings}
        api.create_repo("gone")
        api.delete_repo("gone")
        seen["gone"] = [api.repo_exists("me/gone"), api.repo_exists(repo, repo_type="dataset")]
        print(json.dumps(seen))
        """
    ).value
    assert value["read"] == ["2", "1", "3", "1", "2"]
    assert (value["branches"], value["tags"]) == (["main", "try/me"], ["v1"])
    assert value["titles"] == ["Upload a/b.txt with huggingface_hub"] * 2 + ["initial commit"]
    assert value["paths"] == ["a", "a/b.txt"]
    assert value["errors"] == [
        ["HfHubHTTPError", 412],
        ["RevisionNotFoundError", 404],
        ["RevisionNotFoundError", 404],
        ["RemoteEntryNotFoundError", 404],
        ["HfHubHTTPError", 403],
        ["HfHubHTTPError", 409],
    ]
    assert value["listed"] == [".gitattributes", "c.txt", "new.parquet"]
    assert (value["sizes"]["c.txt"], value["sizes"]["new.parquet"]) == (1, 100)
    assert value["gone"] == [False, True]
    assert hub.files("agssp/d", "dataset") == {"c.txt": b"2", "new.parquet": b"p" * 100}


@pytest.mark.slow
def test_who_may_do_what(hub):
    hub.publish("agssp/secret", {"config.json": "{}"}, private=True)
    hub.publish("agssp/open", {"config.json": "{}"})
    hub.publish("agssp/gated", {"config.json": "{}"})
    program = """
        import json, sys
        from huggingface_hub import HfApi, hf_hub_download, snapshot_download
        from huggingface_hub.errors import HfHubHTTPError

        api = HfApi()
        calls = {
            "open": lambda: hf_hub_download("agssp/open", "config.json"),
            "secret": lambda: hf_hub_download("agssp/secret", "config.json"),
            "secret, whole": lambda: snapshot_download("agssp/secret"),
            "gated": lambda: hf_hub_download("agssp/gated", "config.json"),
            "write": lambda: api.upload_file(path_or_fileobj=b"1", path_in_repo="a", repo_id="agssp/open"),
            "create": lambda: api.create_repo("agssp/new", private=True),
        }
        if len(sys.argv) > 1:
            api.update_repo_settings("agssp/gated", gated="auto")
        seen = {}
        for name, call in calls.items():
            try:
                call()
                seen[name] = "done"
            except HfHubHTTPError as error:
                seen[name] = f"{type(error).__name__} {error.response.status_code}"
        print(json.dumps(seen))
        """
    owner = hub.run(program, "gate").value
    assert owner == dict.fromkeys(owner, "done")
    assert hub.api.store.find("models", "agssp/new").settings["private"]
    assert hub.run(program, token="read").value == {
        **dict.fromkeys(("open", "secret", "secret, whole", "gated"), "done"),
        **dict.fromkeys(("write", "create"), "HfHubHTTPError 403"),
    }
    assert hub.run(program, token="stranger").value == {
        "open": "done",
        **dict.fromkeys(("secret", "secret, whole"), "RepositoryNotFoundError 404"),
        "gated": "GatedRepoError 403",
        **dict.fromkeys(("write", "create"), "HfHubHTTPError 403"),
    }
    assert hub.run(program, token=None).value == {
        "open": "done",
        **dict.fromkeys(("secret", "secret, whole"), "RepositoryNotFoundError 401"),
        "gated": "GatedRepoError 401",
        **dict.fromkeys(("write", "create"), "HfHubHTTPError 401"),
    }
    wrong = hub.run(program, token="wrong").value
    assert wrong == dict.fromkeys(wrong, "HfHubHTTPError 401")


@pytest.mark.skipif(
    int(huggingface_hub.__version__.split(".")[0]) < 2,
    reason="it sends cards to the public Hub, whatever HF_ENDPOINT says",
)
def test_cards(hub):
    value = hub.run(
        """
        import json
        from huggingface_hub import DatasetCard, ModelCard, create_repo, dataset_info, model_info

        create_repo("agssp/x")
        create_repo("agssp/x", repo_type="dataset")
        card = "---\\nlicense: apache-2.0\\npipeline_tag: object-detection\\ntags: [a]\\n---\\n# x"
        ModelCard(card).push_to_hub("agssp/x")
        DatasetCard("---\\nlicense: cc-by-4.0\\n---\\n# x").push_to_hub("agssp/x")
        refused = []
        for text in ("license: CC BY 4.0", "license: {"):
            try:
                ModelCard(f"---\\n{text}\\n---\\n# x", ignore_metadata_errors=True).push_to_hub("agssp/x")
            except Exception as error:
                refused.append(type(error).__name__)
        info, data = model_info("agssp/x"), dataset_info("agssp/x").card_data
        pulled = ModelCard.load("agssp/x").data
        print(json.dumps([info.pipeline_tag, info.tags, info.card_data.license, data.license, pulled.license, refused]))
        """
    ).value
    assert value[:5] == ["object-detection", ["a"], "apache-2.0", "cc-by-4.0", "apache-2.0"]
    assert value[5] == ["ValueError", "ParserError"], "by the hub, and by the client itself"
    assert len(hub.history("agssp/x")) == 1


DATASET = """
    import json, sys
    import numpy
    from PIL import Image as Picture
    from datasets import Array2D, Dataset, Features, Image, Value, load_dataset

    def rows():
        for number in range(12):
            pixels = numpy.full((8, 6, 3), number * 20, numpy.uint8)
            yield {"image": Picture.fromarray(pixels), "image_id": f"{number:02}",
                   "anomaly_map": numpy.full((4, 4), number / 8, numpy.float16)}
    """


@pytest.mark.slow
def test_data_sets_are_pushed_in_shards_and_streamed(hub, tmp_path):
    hub.run(
        DATASET
        + """
    features = Features({"image": Image(), "image_id": Value("string"), "anomaly_map": Array2D((4, 4), "float16")})
    dataset = Dataset.from_list(list(rows()), features=features)
    dataset.push_to_hub("agssp/corpus", num_shards=3)
    dataset.select(range(2)).push_to_hub("agssp/corpus", "small", split="test", private=True)
    """
    )
    shards = [path for path in hub.files("agssp/corpus", "dataset") if path.startswith("data/")]
    assert shards == [f"data/train-0000{number}-of-00003.parquet" for number in range(3)]

    seen = len(hub.requests)
    read = (
        DATASET
        + """
    streaming = sys.argv[1] == "stream"
    dataset = load_dataset("agssp/corpus", "default", split="train", streaming=streaming)
    for row, expected in zip(dataset, rows(), strict=True):
        assert row["image_id"] == expected["image_id"]
        assert numpy.array_equal(row["image"], expected["image"])
        assert numpy.array_equal(numpy.asarray(row["anomaly_map"], numpy.float16), expected["anomaly_map"])
    small = load_dataset("agssp/corpus", "small", split="test", streaming=streaming)
    print(json.dumps([dataset.num_shards if streaming else 0, len(list(small))]))
    """
    )
    assert hub.run(read, "stream", token="read").value == [3, 2]
    streamed = [request for request in hub.requests[seen:] if request.range and request.path.endswith(".parquet")]
    assert {request.status for request in streamed} == {206}
    assert {request.path.split("/")[-1] for request in streamed} == {
        *(f"train-0000{number}-of-00003.parquet" for number in range(3)),
        "test-00000-of-00001.parquet",
    }
    assert hub.run(read, "whole", cache=tmp_path / "cache").value == [0, 2]
    calls = len(hub.requests)
    assert hub.run(read, "whole", cache=tmp_path / "cache", offline=True).value == [0, 2]
    assert len(hub.requests) == calls


@pytest.mark.slow
def test_models_of_transformers_and_timm(hub):
    value = hub.run(
        """
        import json
        import timm
        import torch
        from transformers import AutoImageProcessor, AutoModel, ResNetConfig, ResNetModel, ViTImageProcessor

        config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic")
        model = ResNetModel(config).eval()
        model.push_to_hub("agssp/resnet")
        ViTImageProcessor(size={"height": 16, "width": 16}).push_to_hub("agssp/resnet")
        pixels = torch.rand(1, 3, 32, 32)
        with torch.no_grad():
            pulled = AutoModel.from_pretrained("agssp/resnet")
            same = torch.equal(pulled(pixels).last_hidden_state, model(pixels).last_hidden_state)
        size = AutoImageProcessor.from_pretrained("agssp/resnet").size["height"]

        small = timm.create_model("resnet10t", num_classes=0, pretrained=False)
        timm.models.push_to_hf_hub(small, "agssp/timm", model_config={"model_args": {}})
        again = timm.create_model("hf-hub:agssp/timm", pretrained=True, num_classes=0)
        weights = again.state_dict()
        equal = all(torch.equal(value, weights[name]) for name, value in small.state_dict().items())
        print(json.dumps([same, size, equal]))
        """
    ).value
    assert value == [True, 16, True]
    assert "model.safetensors" in hub.files("agssp/resnet")
    assert json.loads(hub.files("agssp/timm")["config.json"])["architecture"] == "resnet10t"


def test_a_program_can_be_without_a_package(hub):
    hidden = hub.run("import agssp", without=["agssp"], check=False)
    assert hidden.returncode != 0
    assert "No module named agssp" in hidden.stderr
    assert "agssp" in hub.agssp("--help").stdout
