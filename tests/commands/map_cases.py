"""A small set of images and a small teacher, for the tests of the map store."""

from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from agssp.commands.anomaly_maps import AnomalyMapsArguments

TEACHER = "test_resnet"


def write_teacher(path: Path, seed: int = 0) -> Path:
    """Weights of a tiny network, random but the same every time."""
    torch.manual_seed(seed)
    save_file(timm.create_model(TEACHER, num_classes=0).state_dict(), path)
    return path


def write_images(root: Path, count: int = 24, broken: int | None = 5) -> Path:
    """Two categories, `plate` and `strip`, of which the first half is normal; one file is broken."""
    generator = np.random.default_rng(0)
    for index in range(count):
        folder = root / ("plate" if index < count // 2 else "strip") / ("normal" if index % 2 else "unlabelled")
        folder.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 255, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((48, 40)).save(folder / f"{index:03d}.png")
    if broken is not None:
        (root / "plate" / ("normal" if broken % 2 else "unlabelled") / f"{broken:03d}.png").write_bytes(b"broken")
    return root


def arguments(tmp_path: Path, output: str = "maps", **changes) -> AnomalyMapsArguments:
    """Arguments for the images and teacher in `tmp_path`."""
    values = {
        "dataset": str(tmp_path / "images"),
        "teacher": f"timm:{TEACHER}",
        "weights": str(tmp_path / "teacher.safetensors"),
        "output": str(tmp_path / output),
        "references": "mutual",
        "reference_count": 3,
        "image_size": 64,
        "layers": [16],
        "batch_size": 2,
        "shard_size": 4,
        "device": "cpu",
    }
    return AnomalyMapsArguments(**(values | changes))


def contents(store: Path) -> dict[str, bytes]:
    """Every file of a store and its bytes; nothing hidden may be left over by a finished one."""
    return {
        path.relative_to(store).as_posix(): path.read_bytes() for path in sorted(store.rglob("*")) if path.is_file()
    }
