"""One training process of test_lambda.py: `lambda_worker.py OUTPUT_DIR`, alone or under torchrun."""

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
    # No batch norm and no dropout: the mean over two half batches is the mean over the whole.
    backbone = AgsspBackbone.from_architecture("test_vit", frozen_stages=1)
    model = AgsspForPreTraining.from_backbone(backbone, num_labels=4)
    step = torch.nn.parallel.DistributedDataParallel(model) if world > 1 else model
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01)

    generator = torch.Generator().manual_seed(1)
    losses = []
    for _ in range(3):
        images = torch.randn(8, 3, 96, 96, generator=generator)
        maps = torch.rand(8, 15, 15, generator=generator)
        labels = torch.randint(4, (8,), generator=generator)
        mine = slice(rank * 8 // world, (rank + 1) * 8 // world)
        step.train()
        loss = step(images[mine], maps[mine], labels[mine]).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        mean = loss.detach().clone()
        if world > 1:
            torch.distributed.all_reduce(mean)
        losses.append((mean / world).item())
    result = {"lambda": model.distillation_weight, "losses": losses, "state": model.state_dict()}
    torch.save(result, output_dir / f"{world}-{rank}.pt")
    if world > 1:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
