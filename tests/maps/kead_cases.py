"""Small CLIP models with random weights, and pictures, for the tests of KeAD."""

import numpy as np
import open_clip
import torch
from open_clip.model import CLIPTextCfg, CLIPVisionCfg
from PIL import Image

from agssp.maps.knowledge_base import Knowledge, KnowledgeBase
from agssp.maps.modeling_kead import KeAD
from agssp.maps.open_clip_teacher import OpenClipTeacher

KNOWLEDGE = KnowledgeBase(
    {
        "plate": Knowledge("steel plate", ("even steel plate",), {"scratch": "a long bright line"}),
        "strip": Knowledge("steel strip", (), {"pit": "small dark dots", "rust": "brown specks"}),
    }
)


def small_clip(seed=0, *, layers=8, ls_init_value=None, quick_gelu=False):
    """A CLIP of 4 x 4 patches whose biases and norms are not the identity."""
    torch.manual_seed(seed)
    vision = CLIPVisionCfg(
        layers=layers, width=64, head_width=16, patch_size=8, image_size=32, ls_init_value=ls_init_value
    )
    text = CLIPTextCfg(context_length=77, vocab_size=49408, width=32, heads=2, layers=2)
    model = open_clip.CLIP(embed_dim=48, vision_cfg=vision, text_cfg=text, quick_gelu=quick_gelu)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.3)
            elif ".ln_" in name or name.endswith("gamma"):
                parameter.uniform_(0.5, 1.5)
    return model.eval()


def small_teacher(seed=0, dtype=torch.float32, **options):
    model = small_clip(seed).to(dtype)
    return OpenClipTeacher(model, open_clip.get_tokenizer("ViT-B-32"), name="small", **options)


def small_kead(seed=0, dtype=torch.float32, **options):
    return KeAD(small_teacher(seed, dtype), KNOWLEDGE, **options)


def picture(seed, size=(40, 32)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))


def pixels(kead, seeds):
    return torch.stack([kead.preprocess(picture(seed)) for seed in seeds])
