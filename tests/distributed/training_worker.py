"""One process of test_training.py: pretrain a backbone, write what was seen. `training_worker.py ROOT NAME [FLAG]`."""

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
import datasets
from chain_cases import backbone_arguments

from agssp.commands import pretrain_backbone
from agssp.data.training_sets import PretrainingImages
from agssp.processes import close_process_group
from agssp.training.trainer import AgsspTrainer

datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN = 0.1  # in place of five seconds a pass


def main(root: Path, output: str, streaming: bool) -> None:
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    seen, averages = [], []
    original_item, original_evaluate = PretrainingImages.__getitem__, AgsspTrainer.evaluate

    def item(self, index):
        if not self.evaluation:
            seen.append((self.epoch, index))
        return original_item(self, index)

    def evaluate(self, *args, **kwargs):
        metrics = original_evaluate(self, *args, **kwargs)
        averages.append(sum(float(value.double().abs().sum()) for value in self.ema.average.values()))
        return metrics

    PretrainingImages.__getitem__, AgsspTrainer.evaluate = item, evaluate
    changes = {"per_device_train_batch_size": 4 // world, "num_train_epochs": 3, "val_fraction": 0.3}
    if streaming:
        changes |= {
            "dataset": str(root / "table"),
            "streaming": True,
            "max_steps": 6,
            "save_steps": 3,
            "logging_steps": 3,
        }
    pretrain_backbone.main(*backbone_arguments(root, output, **changes))
    (root / f"{output}-{rank}.json").write_text(json.dumps({"seen": seen, "averages": averages}))
    close_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], "--streaming" in sys.argv)
