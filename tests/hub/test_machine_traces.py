"""Nothing that leaves this machine names it: neither its folders nor its users nor itself."""

import getpass
import json
import pickle
import pickletools
import socket
import sysconfig
import tempfile
import zipfile
from pathlib import Path

import onnx
import pytest
import torch
from model_cases import backbone_folder, detector_folder
from safetensors.torch import save_file

from agssp.errors import InputError
from agssp.hub import machine_traces
from agssp.hub.machine_traces import check_no_traces, trace_in
from agssp.hub.publishing import collect

TOLD = "which names this machine and would leave it"
HERE = [
    str(Path.home() / "steel"),
    str(Path.cwd()),
    str(Path(tempfile.gettempdir()) / "of nobody"),
    sysconfig.get_path("purelib") + "/timm/layers.py",
    str(Path(__file__)),
]


@pytest.mark.parametrize("text", ["", "/", "a / b", "1/2", "plate/normal/000.png", "/model/backbone/conv", "//x",
                                  "https://huggingface.co/me/steel", "/nowhere/at/all", "/usr/bin/env", "./a/b", "home",
                                  f"see https://hub{Path.cwd()}", f"a{Path.cwd()}", "\\n", "C:"])  # fmt: skip
def test_what_names_no_machine(text):
    assert trace_in(text) is None


@pytest.mark.parametrize("path", HERE)
@pytest.mark.parametrize(
    "around", ["{}", "'{}'", "in {}, line 3", "local-dir:{}", "file://{}", "--output={}", '{{"a":"{}"}}']
)
def test_paths_of_this_machine(path, around):
    assert trace_in(around.format(path)) == path.split(" ")[0]


def test_a_folder_that_was_there_is_this_machines_too(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    assert trace_in("from /home/ann/gone/a.py") == "/home/ann/gone/a.py"
    assert trace_in("from /home/annabel/gone/a.py") is None


@pytest.mark.parametrize(("host", "text", "found"), [
    ("line3-pc", "made on line3-pc.", "line3-pc"), ("line3-pc", "line3-pcs", None), ("plate", "a plate", None),
    ("plate", "ann@plate", "ann@plate"), ("", "ann@", None),
])  # fmt: skip
def test_the_machines_own_name(host, text, found, monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    monkeypatch.setattr(getpass, "getuser", lambda: "ann")
    machine_traces._identity.cache_clear()
    try:
        assert trace_in(text) == found
    finally:
        machine_traces._identity.cache_clear()


def test_an_empty_file_and_an_empty_folder(tmp_path):
    check_no_traces(b"", "run.json")
    check_no_traces(tmp_path, "folder")


def refused(content, name, where):
    with pytest.raises(InputError, match=TOLD) as caught:
        check_no_traces(content, name)
    assert str(caught.value).startswith(where)


@pytest.mark.parametrize("path", [str(Path.cwd())])
def test_every_place_of_every_kind_of_file_is_looked_at(path, tmp_path):
    refused(json.dumps({"a": [{"b": path}]}).encode(), "run.json", "run.json: ")
    (tmp_path / "folder/deep").mkdir(parents=True)
    (tmp_path / "folder/deep/log.jsonl").write_text(path)
    refused(tmp_path / "folder", "folder", "folder/deep/log.jsonl: ")

    save_file({"weight": torch.zeros(3)}, tmp_path / "a.safetensors", {"from": path})
    refused(tmp_path / "a.safetensors", "a.safetensors", "a.safetensors: ")
    refused((tmp_path / "a.safetensors").read_bytes(), "a.safetensors", "a.safetensors: ")

    torch.save({"weight": torch.zeros(3), "of": {"deep": [path]}}, tmp_path / "a.pt")
    refused(tmp_path / "a.pt", "a.pt", "a.pt (a/data.pkl): ")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "b.pt")
    check_no_traces(tmp_path / "b.pt", "b.pt")
    with zipfile.ZipFile(tmp_path / "b.pt", "a") as archive:
        archive.writestr("b/note", path)
    refused(tmp_path / "b.pt", "b.pt", "b.pt (b/note): ")


def test_no_pickle_is_opened_to_look_into_it(tmp_path):
    class Marks:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "opened",))

    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps(Marks()))
    with pytest.raises(InputError, match=r"a.pt \(a/data.pkl\): holds a pathlib.Path"):
        check_no_traces(tmp_path / "a.pt", "a.pt")
    assert not (tmp_path / "opened").exists()


def graph(**changes):
    node = onnx.helper.make_node("Identity", ["x"], ["y"], name="same")
    shape = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    return onnx.helper.make_model(onnx.helper.make_graph([node], "graph", shape[:1], shape[1:]), **changes)


@pytest.mark.parametrize("place", ["node", "output", "docs", "producer", "attribute", "model"])
def test_every_text_of_a_graph_is_looked_at(place, tmp_path):
    model, path = graph(), str(Path.cwd())
    node = model.graph.node[0]
    if place in ("node", "output", "model"):
        item = {"node": node, "output": model.graph.output[0], "model": model}[place]
        item.metadata_props.add(key="stack", value=f'File "{path}/a.py", line 3')
    elif place == "docs":
        node.doc_string = path
    elif place == "producer":
        model.producer_name = path
    else:
        node.attribute.append(onnx.helper.make_attribute("note", path))
    check_no_traces(graph().SerializeToString(), "a.onnx")
    refused(model.SerializeToString(), "a.onnx", "a.onnx (model")
    onnx.save(model, tmp_path / "a.onnx")
    refused(tmp_path / "a.onnx", "a.onnx", "a.onnx (model")


def all_pickled(file):
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            if name.endswith(".pkl"):
                yield from (str(each) for _, each, _ in pickletools.genops(archive.read(name)) if each is not None)


@pytest.mark.slow
def test_exports_hold_nothing_of_this_machine(tmp_path):
    from agssp.commands.export import ExportArguments, main

    detector_folder(tmp_path / "mine")
    backbone_folder(tmp_path / "backbone")
    outputs = {"onnx": "mine.onnx", "ultralytics": "mine.pt", "timm": "backbone-timm"}
    for kind, name in outputs.items():
        source = tmp_path / ("backbone" if kind == "timm" else "mine")
        main(ExportArguments(model=str(source), format=kind, output=str(tmp_path / "out" / name)))
    loaded = onnx.load(tmp_path / "out/mine.onnx")
    graph_items = (*loaded.graph.node, *loaded.graph.value_info, *loaded.graph.input, loaded.graph, loaded)
    assert not any(item.metadata_props or item.doc_string for item in graph_items)
    texts = "\n".join(all_pickled(tmp_path / "out/mine.pt"))
    files = [file for file in (tmp_path / "out").rglob("*") if file.is_file()]
    assert {"mine.onnx.json", "mine.pt.json", "backbone-timm.json", "config.json"} <= {file.name for file in files}
    for word in (str(tmp_path), str(Path(__file__).parents[2]), "site-packages", str(Path.home()) + "/"):
        assert word not in texts
        for file in files:
            assert word.encode() not in file.read_bytes(), file


@pytest.mark.parametrize("name", ["preprocessor_config.json", "model.safetensors", "config.json"])
def test_a_model_with_a_path_in_any_of_its_files_is_not_pushed(name, tmp_path):
    detector_folder(tmp_path / "mine")
    file = tmp_path / "mine" / name
    if name == "model.safetensors":
        save_file({"weight": torch.zeros(3)}, file, {"from": str(tmp_path)})
    else:
        file.write_text(json.dumps({**json.loads(file.read_text()), "cache": [str(tmp_path / "cache")]}))
    with pytest.raises(InputError, match=rf"^{name}: holds .*{TOLD}"):
        collect(tmp_path / "mine", "agssp/x")


def test_what_is_pushed_of_a_model_names_nothing(tmp_path):
    backbone_folder(tmp_path / "backbone")
    for name, content in collect(tmp_path / "backbone", "agssp/x").files.items():
        content = content if isinstance(content, bytes) else content.read_bytes()
        assert str(tmp_path).encode() not in content, name
