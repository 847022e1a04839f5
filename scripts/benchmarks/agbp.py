"""What distillation costs: a step of each objective with and without it, in one run, with the ratio.

python scripts/benchmark.py agbp --architecture resnet50 --batch 16 --size 224 --objective mocov3
python scripts/benchmark.py agbp --architecture swin_base --batch 8 --size 192 --objective simmim
python scripts/benchmark.py agbp --architecture swin_base --batch 256 --device cuda --dtype bf16

The goal is for steps with as many forward passes. Distilling whole images beside SimMIM takes a second pass; the
variant that distils from the image with hidden patches takes one, and is measured too.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from agssp.models.backbone import AgsspBackbone
from agssp.models.pretraining import AgsspForPreTraining

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Side:
    """One model with its optimizer, and what its steps took."""

    def __init__(self, title: str, args: argparse.Namespace, **config: Any):
        torch.manual_seed(0)
        backbone = AgsspBackbone.from_architecture(args.architecture, frozen_stages=args.frozen_stages)
        self.model = AgsspForPreTraining.from_backbone(
            backbone,
            num_labels=61,
            objective=args.objective,
            distill_loss=args.distill_loss,
            map_target=args.map_target,
            **config,
        )
        self.model.to(args.device).train()
        trainable = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.SGD(trainable, lr=0.01, momentum=0.9)
        self.title, self.args = title, args
        self.seconds: list[float] = []
        self.peak = 0.0

    def step(self, inputs: dict[str, torch.Tensor], *, measured: bool) -> None:
        """One optimizer step."""
        cuda = self.args.device == "cuda"
        reset_peak(cuda)
        start = time.perf_counter()
        with torch.autocast(self.args.device, torch.bfloat16, enabled=self.args.dtype == "bf16"):
            loss = self.model(**inputs).loss
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.model.after_optimizer_step(0.0)
        if cuda:
            torch.cuda.synchronize()
        if measured:
            self.seconds.append(time.perf_counter() - start)
            self.peak = max(self.peak, peak_memory(cuda))


def reset_peak(cuda: bool) -> None:
    """Forget the peak of memory use so far."""
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    elif CLEAR.exists():
        CLEAR.write_text("5")  # Linux: the high-water mark of the resident set starts again


def peak_memory(cuda: bool) -> float:
    """Peak memory since the reset in MiB: of the GPU's allocator, or of the process (Linux); NaN elsewhere."""
    if cuda:
        return torch.cuda.max_memory_allocated() / 2**20
    if not STATUS.exists():
        return float("nan")
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def main(argv: Sequence[str]) -> None:
    """Measure both sides in turns and print them with their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", default="yolov8s", help="backbone: a timm name, swin_base, yolov8n, yolov8s")
    parser.add_argument("--objective", default="classification", help="classification, mocov3, simmim or none")
    parser.add_argument("--batch", type=int, default=16, help="images a step")
    parser.add_argument("--size", type=int, default=224, help="side of the images")
    parser.add_argument("--grid", type=int, default=27, help="side of the anomaly maps")
    parser.add_argument("--frozen-stages", type=int, default=2, help="stages without training, as in the paper")
    parser.add_argument("--distill-loss", default="l2", help="l2, cosine or l2_raw")
    parser.add_argument("--map-target", default="raw", help="raw, centered or minmax")
    parser.add_argument("--steps", type=int, default=10, help="measured steps of each side")
    parser.add_argument("--warmup", type=int, default=3, help="steps of each side before measuring")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda")
    parser.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32", help="bf16 is autocast")
    args = parser.parse_args(argv)

    torch.manual_seed(1)
    inputs = {
        "pixel_values": torch.randn(args.batch, 3, args.size, args.size, device=args.device),
        "anomaly_maps": torch.rand(args.batch, args.grid, args.grid, device=args.device),
    }
    if args.objective == "classification":
        inputs["labels"] = torch.randint(61, (args.batch,), device=args.device)
    elif args.objective == "mocov3":
        inputs["second_views"] = torch.randn_like(inputs["pixel_values"])
    elif args.objective == "simmim":
        inputs["masks"] = torch.rand(args.batch, args.size // 32, args.size // 32, device=args.device) < 0.6
    sides = [Side("distillation alone", args)]
    if args.objective != "none":
        sides = [
            Side(args.objective, args, distillation=False),
            Side(f"{args.objective} + distillation", args, distillation=True),
        ]
    if args.objective == "simmim":
        sides.append(Side("simmim + distillation, one pass", args, distillation=True, distill_masked=True))
    for number in range(args.warmup + args.steps):
        # The side that goes first changes, so that none always finds the caches warm.
        turn = number % len(sides)
        for side in sides[turn:] + sides[:turn]:
            side.step(inputs, measured=number >= args.warmup)

    device = torch.cuda.get_device_name() if args.device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(
        f"{args.architecture}, batch {args.batch}, {args.size} px, {args.dtype}, {args.frozen_stages} frozen stages, "
        f"{device}, torch {torch.__version__}"
    )
    plain = sides[0]
    for side in sides:
        seconds = statistics.median(side.seconds)
        # Steps that follow each other meet the same machine; the median of their ratios is the steadiest.
        ratio = statistics.median(b / a for a, b in zip(plain.seconds, side.seconds, strict=True))
        print(
            f"  {side.title:<32} {args.batch / seconds:9.1f} images/s   peak {side.peak:8.0f} MiB   "
            f"step {ratio:.3f}, memory {side.peak / plain.peak:.3f} of the first"
        )
    print("  goal: 1.03 with as many forward passes")
