"""One training process of test_mocov3_ranks.py: `mocov3_worker.py OUTPUT_DIR`, alone or under torchrun."""

import os
import sys
from pathlib import Path

import torch

from agssp.models.backbone import AgsspBackbone
from agssp.models.pretraining import AgsspForPreTraining


def main(output_dir: Path) -> None:
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if world > 1:
        torch.distributed.init_process_group("gloo")
    torch.manual_seed(0)
    # The backbone has no batch norm; the heads have, and share their statistics.
    backbone = AgsspBackbone.from_architecture("test_vit", frozen_stages=1)
    model = AgsspForPreTraining.from_backbone(
        backbone, objective="mocov3", temperature=0.2, projection_hidden=32, projection_dim=16, encoder_momentum=0.9
    )
    step = torch.nn.parallel.DistributedDataParallel(model) if world > 1 else model
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)
    generator = torch.Generator().manual_seed(1)
    losses = []
    for number in range(3):
        first, second = torch.randn(2, 8, 3, 96, 96, generator=generator)
        maps = torch.rand(8, 15, 15, generator=generator)
        mine = slice(rank * 8 // world, (rank + 1) * 8 // world)
        step.train()
        loss = step(first[mine], maps[mine], second_views=second[mine]).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.after_optimizer_step(number / 3)
        mean = loss.detach().clone()
        if world > 1:
            torch.distributed.all_reduce(mean)
        losses.append((mean / world).item())
    torch.save({"losses": losses, "state": model.state_dict()}, output_dir / f"{world}-{rank}.pt")
    if world > 1:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
