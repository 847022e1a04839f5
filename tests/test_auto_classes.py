"""What `import agssp` alone lets transformers do; each in a process of its own, where neither is imported yet."""

import json
import subprocess
import sys

import pytest
import torch
from warm_python import python

from agssp import AgsspBackbone
from agssp.auto_classes import MODEL_TYPES
from agssp.models.detection import any_detector, catalogue
from agssp.models.pretraining import AgsspPreTrainingConfig


def answer(code, *arguments, interpreter=None):
    words = [interpreter or python(), "-c", code, *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_import_is_light():
    code = """
import json, sys, agssp
print(json.dumps([name for name in ("torch", "transformers", "timm", "datasets") if name in sys.modules]))
"""
    assert answer(code, interpreter=sys.executable) == []


def test_no_type_is_forgotten():
    ours = {name for name, family in catalogue.FAMILIES.items() if family.model_class.__module__.startswith("agssp")}
    assert set(MODEL_TYPES) == ours | {"agssp_backbone", AgsspPreTrainingConfig.model_type}


@pytest.mark.slow
def test_another_models_table_entry_stays_and_errors_are_transformers_own():
    code = """
import json, transformers, agssp
from transformers import AutoConfig
config = AutoConfig.for_model("bert")
try:
    AutoConfig.for_model("agssp_nothing")
except ValueError as error:
    print(json.dumps([type(config).__name__, "agssp_nothing" in str(error)]))
"""
    assert answer(code) == ["BertConfig", True]


@pytest.mark.parametrize("imports", ["import transformers, agssp", "import agssp; from transformers import pipeline"])
@pytest.mark.slow
def test_auto_model_opens_a_backbone_whatever_was_imported_first(imports, tmp_path):
    AgsspBackbone.from_architecture("test_resnet").save_pretrained(tmp_path)
    code = (
        imports
        + """
import json, sys
from transformers import AutoModel
print(json.dumps(type(AutoModel.from_pretrained(sys.argv[1])).__name__))
"""
    )
    assert answer(code, tmp_path) == "AgsspBackbone"


@pytest.mark.slow
def test_pipeline_of_transformers_own_detector_finds_our_backbone_and_image_processor(tmp_path):
    torch.manual_seed(0)
    any_detector.save(catalogue.build("dfine_s", None, {0: "pit"}, 64), tmp_path)
    code = """
import json, sys, agssp
from transformers import pipeline
from PIL import Image
detect = pipeline("object-detection", model=sys.argv[1], device="cpu")
found = detect(Image.new("RGB", (80, 60)), threshold=0.0)
print(json.dumps([type(detect.model).__name__, type(detect.image_processor).__name__, found[0]["label"]]))
"""
    assert answer(code, tmp_path) == ["DFineForObjectDetection", "LetterboxImageProcessor", "pit"]
