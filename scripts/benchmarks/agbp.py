"""What distillation costs: a step of classification with and without it, in one run, with the ratio.

python scripts/benchmark.py agbp --architecture resnet50 --batch 16 --size 224
python scripts/benchmark.py agbp --architecture swin_base --batch 256 --device cuda --dtype bf16
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from agssp.models.backbone import AgsspBackbone
from agssp.models.pretraining import AgsspForPreTraining

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Side:
    """One model with its optimizer, and what its steps took."""

    def __init__(self, args: argparse.Namespace, *, distillation: bool):
        torch.manual_seed(0)
        backbone = AgsspBackbone.from_architecture(args.architecture, frozen_stages=args.frozen_stages)
        self.model = AgsspForPreTraining.from_backbone(
            backbone,
            num_labels=61,
            distillation=distillation,
            distill_loss=args.distill_loss,
            map_target=args.map_target,
        )
        self.model.to(args.device).train()
        trainable = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.SGD(trainable, lr=0.01, momentum=0.9)
        self.args = args
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
        "labels": torch.randint(61, (args.batch,), device=args.device),
    }
    plain = Side(args, distillation=False)
    distilled = Side(args, distillation=True)
    for number in range(args.warmup + args.steps):
        # The side that goes first changes, so that neither always finds the caches warm.
        for side in (plain, distilled) if number % 2 else (distilled, plain):
            side.step(inputs, measured=number >= args.warmup)

    device = torch.cuda.get_device_name() if args.device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(
        f"{args.architecture}, batch {args.batch}, {args.size} px, {args.dtype}, {args.frozen_stages} frozen stages, "
        f"{device}, torch {torch.__version__}"
    )
    for name, side in (("classification", plain), ("classification + distillation", distilled)):
        seconds = statistics.median(side.seconds)
        print(f"  {name:<30} {args.batch / seconds:9.1f} images/s   peak {side.peak:8.0f} MiB")
    # Steps of the two sides that follow each other meet the same machine; the median of their ratios is the steadiest.
    time_ratio = statistics.median(b / a for a, b in zip(plain.seconds, distilled.seconds, strict=True))
    print(f"  ratio of step times {time_ratio:.3f} (goal 1.03), of peak memory {distilled.peak / plain.peak:.3f}")
