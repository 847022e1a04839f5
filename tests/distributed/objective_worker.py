"""One process of test_objective_ranks.py: `objective_worker.py OUTPUT_DIR`, alone or under torchrun."""

import os
import sys
from pathlib import Path

import torch

from agssp.models.backbone import AgsspBackbone
from agssp.models.pretraining import AgsspForPreTraining

# The backbone has no batch norm; MoCo v3's heads have, and share their statistics. SimMIM's mean is over hidden pixels,
# so every image hides as many.
SETTINGS = {
    "classification": {"num_labels": 4},
    "mocov3": {"temperature": 0.2, "projection_hidden": 32, "projection_dim": 16, "encoder_momentum": 0.9},
    "simmim": {},
}


def batches(objective: str, steps: int = 3, images: int = 8):
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        batch = {
            "pixel_values": torch.randn(images, 3, 96, 96, generator=generator),
            "anomaly_maps": torch.rand(images, 15, 15, generator=generator),
        }
        if objective == "classification":
            batch["labels"] = torch.randint(4, (images,), generator=generator)
        elif objective == "mocov3":
            batch["second_views"] = torch.randn(images, 3, 96, 96, generator=generator)
        else:
            order = torch.rand(images, 9, generator=generator).argsort(1)
            batch["masks"] = (order < 5).view(images, 3, 3)
        yield batch


def train(objective: str, output_dir: Path, rank: int, world: int) -> None:
    torch.manual_seed(0)
    backbone = AgsspBackbone.from_architecture("test_vit", frozen_stages=1)
    model = AgsspForPreTraining.from_backbone(backbone, objective=objective, **SETTINGS[objective])
    step = torch.nn.parallel.DistributedDataParallel(model) if world > 1 else model
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)
    losses = []
    for number, batch in enumerate(batches(objective)):
        step.train()
        loss = step(**{name: value.chunk(world)[rank] for name, value in batch.items()}).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.after_optimizer_step(number / 3)
        mean = loss.detach().clone()
        if world > 1:
            torch.distributed.all_reduce(mean)
        losses.append((mean / world).item())
    torch.save({"losses": losses, "state": model.state_dict()}, output_dir / f"{objective}-{world}-{rank}.pt")


def main(output_dir: Path) -> None:
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if world > 1:
        torch.distributed.init_process_group("gloo")
    for objective in SETTINGS:
        train(objective, output_dir, rank, world)
    if world > 1:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
