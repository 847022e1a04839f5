"""The real clients, in processes of their own, against the local hub."""


def test_empty_hub_knows_nothing_and_says_so_as_the_hub_does(hub):
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


def test_what_is_pushed_is_pulled(hub, tmp_path):
    folder = tmp_path / "model"
    (folder / "maps").mkdir(parents=True)
    contents = {"config.json": b"{}", "model.safetensors": bytes(range(256)) * 20, "maps/a.txt": b"a", "empty.txt": b""}
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    value = hub.run(
        """
        import json, sys
        from pathlib import Path
        from huggingface_hub import create_repo, file_exists, list_repo_files, snapshot_download, upload_folder

        url = create_repo("agssp/x")
        again = create_repo("agssp/x", exist_ok=True)
        first = upload_folder(repo_id="agssp/x", folder_path=sys.argv[1])
        second = upload_folder(repo_id="agssp/x", folder_path=sys.argv[1])
        pulled = Path(snapshot_download("agssp/x"))
        files = {str(path.relative_to(pulled)): path.read_bytes().hex() for path in pulled.rglob("*") if path.is_file()}
        print(json.dumps({"url": str(url), "again": str(again), "ids": [first.oid, second.oid], "files": files,
                          "listed": list_repo_files("agssp/x"), "exists": file_exists("agssp/x", "maps/a.txt")}))
        """,
        folder,
    ).value
    assert value["url"] == value["again"] == f"{hub.endpoint}/agssp/x"
    assert value["ids"][0] == value["ids"][1], "nothing had changed, so no new revision"
    assert set(value["listed"]) == {*contents, ".gitattributes"} == set(value["files"])
    assert {name: bytes.fromhex(data) for name, data in value["files"].items() if name in contents} == contents
    assert hub.files("agssp/x") == contents
    assert len(hub.requested("PUT", "/lfs/")) == 1
