"""How backbones are optimised in pretraining where the user leaves it open: METHOD 3's values."""

from agssp.models.backbone.csp_darknet import VARIANTS
from agssp.models.backbone.networks import trains_with_adamw
from agssp.training.arguments import AgsspTrainingArguments
from agssp.training.flag_checks import check_optimizer_flags
from agssp.training.run import choose_optimizer

DROP_PATHS = {"swin_base_patch4_window7_224": 0.5}
"""Highest probability of leaving out a block, where it is another than the network's own."""


def choose_backbone_optimizer(training: AgsspTrainingArguments, architecture: str) -> None:
    """Fill in the optimizer, with the rate, schedule and warm-up that belong to it, where the user left them open.

    Args:
        training: changed in place.
        architecture: as `full_name` gives it.
    """
    kind = "adamw" if trains_with_adamw(architecture) else "sgd"
    nominal_batch = 1024 if architecture in VARIANTS else 512
    choose_optimizer(
        training,
        kind=kind,
        rates={"sgd": 0.01, "adamw": 1e-4},
        decays={"sgd": 1e-4, "adamw": 0.05},
        nominal_batches={"sgd": nominal_batch, "adamw": nominal_batch},
    )
    adamw = training.optimizer == "adamw"
    if training.schedule is None:
        training.schedule = "cosine" if adamw else "multistep"
        check_optimizer_flags(training)
    if training.warmup_epochs is None and not adamw:
        training.warmup_epochs = 1.0
    elif training.warmup_epochs is None and training.max_steps <= 0:
        # The paper's 20 of 200 epochs, and the same share of shorter runs; the trainer does it where steps rule.
        training.warmup_epochs = min(20.0, training.num_train_epochs / 10)
