"""How each family of detectors is optimised where the user leaves it open."""

from dataclasses import dataclass

from agssp.errors import InputError
from agssp.training.arguments import AgsspTrainingArguments
from agssp.training.run import choose_optimizer

NOMINAL_BATCH = 64
LONG_RUN = 10_000  # steps
YOLO = "agssp_yolo"


@dataclass(frozen=True)
class Recipe:
    """Defaults of one family.

    Attributes:
        long_run: Optimizer of runs of `LONG_RUN` steps and more; shorter ones take AdamW.
        rates: Learning rate of each optimizer.
        nominal_batches: Global batch that each rate is meant for; 0: any.
        decay: Weight decay.
        clip: Norm to which gradients are clipped.
    """

    long_run: str
    rates: dict[str, float]
    nominal_batches: dict[str, int]
    decay: float
    clip: float


# DETR's family is trained by AdamW at 1e-4, gradients clipped to 0.1, in all of its papers; SGD has no known rate.
_DETR = Recipe("adamw", {"adamw": 1e-4}, {"adamw": 0}, 1e-4, 0.1)
RECIPES = {
    # SGD is the paper's, and for long runs: its small steps move a mean loss too little in a few hundred of them.
    "agssp_faster_rcnn": Recipe("sgd", {"sgd": 0.0025, "adamw": 1e-4}, {"sgd": 32, "adamw": 0}, 1e-4, 10.0),
    "agssp_dino": _DETR,
    "rt_detr_v2": _DETR,
    "d_fine": _DETR,
}
"""model_type -> recipe, where it does not depend on the number of classes."""


def recipe_of(model_type: str, classes: int) -> Recipe:
    """The recipe of a kind of model.

    Args:
        model_type: Of its configuration.
        classes: Number of its classes.
    """
    if model_type != YOLO:
        return RECIPES[model_type]
    # ultralytics' rule gives AdamW one rate for any batch; it is for short runs, and was measured so.
    rates = {"sgd": 0.01, "adamw": round(0.01 / (4 + classes), 6)}
    return Recipe("sgd", rates, {"sgd": NOMINAL_BATCH, "adamw": 0}, 5e-4, 10.0)


def choose_detector_optimizer(
    training: AgsspTrainingArguments, images: int, classes: int, model_type: str = YOLO
) -> None:
    """Fill in what the user left open: AdamW for short runs, the family's own optimizer for long ones.

    Args:
        training: Changed in place.
        images: Number of training images.
        classes: Number of classes.
        model_type: Of the detector's configuration.

    Raises:
        InputError: the family has no rate for the optimizer that was asked for, and none was given.
    """
    recipe = recipe_of(model_type, classes)
    if training.optimizer not in ("auto", *recipe.rates) and training.learning_rate is None:
        raise InputError(
            f"--optimizer {training.optimizer}: detectors like this one are trained with {', '.join(recipe.rates)}; "
            "give --learning-rate for another optimizer"
        )
    if training.max_grad_norm is None:
        training.max_grad_norm = recipe.clip
    kinds = ("sgd", "adamw")
    choose_optimizer(
        training,
        kind=recipe.long_run if training.total_steps(images) >= LONG_RUN else "adamw",
        rates=recipe.rates,
        decays=dict.fromkeys(kinds, recipe.decay),
        nominal_batches=dict.fromkeys(kinds, 0) | recipe.nominal_batches,
    )


def loss_scale(training: AgsspTrainingArguments, model_type: str = YOLO) -> float:
    """The factor on a YOLO's mean loss that SGD's learning rates suppose; AdamW does not feel one.

    ultralytics sums the loss over the 64 images of its nominal batch, and the YOLO of the paper's framework (MMYOLO, on
    MMDetection) over those of a step, 14 to 256 in the paper. So rate r with nominal batch b is r on the loss summed
    over b images, with the gradient clipped as it is there: the rates of both mean here what they mean at their own
    batches. As the rate grows with the batch, an image weighs the same in any. Without a nominal batch the sum is
    ultralytics'. Other detectors' rates are for mean losses.
    """
    if training.optimizer != "sgd" or model_type != YOLO:
        return 1.0
    return float(training.nominal_batch or NOMINAL_BATCH)
