"""One process of test_dino_ranks.py: `dino_worker.py OUTPUT_DIR`, alone or under torchrun."""

import os
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "models" / "detection"))
sys.path.insert(0, str(Path(__file__).parents[1] / "models" / "detection" / "dino"))
from dino_cases import build, random_labels


def main(output_dir: Path) -> None:
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if world > 1:
        torch.distributed.init_process_group("gloo")
    # Neither the norms of the backbone nor the noise of denoising queries know of other processes.
    model = build().eval()
    step = torch.nn.parallel.DistributedDataParallel(model) if world > 1 else model
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    # The first process has no box at all.
    labels = random_labels(0, 0, 5, 2)
    share = slice(rank * 4 // world, (rank + 1) * 4 // world)
    out = step(images[share], labels[share])
    out.loss.backward()
    mean = out.loss.detach().clone()
    if world > 1:
        torch.distributed.all_reduce(mean)
    gradients = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    torch.save({"loss": (mean / world).item(), "gradients": gradients}, output_dir / f"{world}-{rank}.pt")
    if world > 1:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
