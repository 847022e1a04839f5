"""No line of the package opens a pickle by the full reader, runs code of a repository, or makes code out of text."""

import ast
from pathlib import Path

import pytest
import yaml

from agssp.data.readers.yolo_table import _TextLoader
from agssp.maps.knowledge_base import _UniqueKeyLoader

ROOT = Path(__file__).parents[1]
FILES = [file for folder in ("src", "scripts", "datasets_scripts") for file in sorted((ROOT / folder).rglob("*.py"))]
LOADERS = {"_TextLoader": _TextLoader, "_UniqueKeyLoader": _UniqueKeyLoader}
PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
OWN_EXPORT = "src/agssp/hub/export/ultralytics_check.py"
"""It opens the file that the same command has just written, as ultralytics opens it."""


def faults(text, name="file.py"):
    """What a module does that this package never does: (line, what)."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [(node.lineno, module) for module in modules if module.split(".")[0] in PICKLES]
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        automatic = called.startswith("Auto") and called.endswith(".from_pretrained")
        unlike = (
            (called == "torch.load" and options.get("weights_only") != "True")
            or called in ("torch.jit.load", "torch.hub.load", "torch.hub.load_state_dict_from_url", "torch.package")
            or options.get("allow_pickle", "False") != "False"
            or called in ("eval", "exec", "compile", "__import__", "read_pickle", "pandas.read_pickle")
            or (called in ("yaml.load", "yaml.load_all") and options.get("Loader") not in LOADERS)
            or called in ("yaml.unsafe_load", "yaml.full_load")
            or options.get("trust_remote_code", "False") != "False"
            or (automatic and "trust_remote_code" not in options)
            or called in ("evaluate.load", "pipeline", "transformers.pipeline")
            or options.get("shell", "False") != "False"
            or (called.endswith("YOLO") and name != OWN_EXPORT)
        )
        if unlike:
            found.append((node.lineno, ast.unparse(node)[:80]))
    return found


def test_an_empty_module_has_no_fault():
    assert faults("") == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "torch.load(file)",
        "torch.load(file, weights_only=False)",
        "np.load(file, allow_pickle=True)",
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.load(text, yaml.FullLoader)",
        "eval(text)",
        "AutoConfig.from_pretrained(name)",
        "AutoTokenizer.from_pretrained(name, trust_remote_code=True)",
        "load_dataset(name, trust_remote_code=trusted)",
        "subprocess.run(line, shell=True)",
        "ultralytics.YOLO(file)",
    ],
)
def test_each_fault_is_seen(line):
    assert len(faults(line)) == 1


def test_what_is_allowed_is_not_seen():
    assert faults("torch.load(f, weights_only=True); np.load(f); yaml.safe_load(t); model.eval(); re.compile(p)") == []


def test_the_package_has_no_fault():
    assert FILES
    found = {}
    for file in FILES:
        name = file.relative_to(ROOT).as_posix()
        if faulty := faults(file.read_text(encoding="utf-8"), name):
            found[name] = faulty
    assert found == {}


@pytest.mark.parametrize("loader", LOADERS.values())
def test_the_loaders_of_yaml_make_plain_values_alone(loader):
    assert issubclass(loader, yaml.SafeLoader | yaml.BaseLoader)
    tagged = "a: !!python/name:os.getcwd"
    if issubclass(loader, yaml.SafeLoader):
        with pytest.raises(yaml.constructor.ConstructorError):
            yaml.load(tagged, Loader=loader)
    else:
        assert yaml.load(tagged, Loader=loader) == {"a": ""}
