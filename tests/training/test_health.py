"""The verdict on a pretraining run, case by case, from its numbers alone."""

import math

import pytest

from agssp.training.health import EARLY, HEALTHY, UNKNOWN, WRONG, RunHealth, health_line, verdict

START = {"alignment": 0.1, "alignment_elsewhere": 0.02, "task_loss": 1.1, "distillation_loss": 0.9,
         "feature_rank": 20.0}  # fmt: skip
GOOD = {"alignment": 0.6, "alignment_elsewhere": 0.1, "task_loss": 0.3, "distillation_loss": 0.1, "feature_rank": 15.0}
LEVELS = {"constant_map": {"alignment": 0.0, "distillation_loss": 0.2}, "mean_map": {"alignment": 0.3}}


def run(step=100, start=START, levels=LEVELS, images=50, losses=None, **changes):
    """A run of 100 steps at `step`; its last evaluation was good but for the changes."""
    measured = {f"eval_{name}": value for name, value in (GOOD | changes).items() if value is not None}
    place = {"epoch": step / 10, "step": step}
    trained = {"loss": 1.0, "loss_task": 0.5, "loss_distillation": 0.2, "loss_distillation_weight": 2.0}
    history = [trained | (losses or {}) | place, measured | place] if step else []
    return RunHealth(history, start, levels, images, step, 100)


def test_before_the_first_step_nothing_is_said():
    assert verdict(run(step=0)) == (EARLY, [])
    assert verdict(RunHealth([], {}, {}, 0, 0, 0)) == (UNKNOWN, [])


def test_a_run_that_beats_everything_is_healthy():
    assert verdict(run()) == (HEALTHY, [])
    assert verdict(run(step=25)) == (HEALTHY, [])
    assert verdict(run(step=24)) == (EARLY, [])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"alignment": 0.1, "alignment_elsewhere": 0.0}, "no better than that of the starting weights"),
        ({"alignment": 0.3}, "One map for all images would agree better: alignment 0.300, of the mean map 0.300"),
        ({"alignment_elsewhere": 0.55}, "much the same in all images: alignment 0.600"),
        ({"distillation_loss": 0.21}, "distillation loss 0.2100, of a constant 0.2000"),
        ({"feature_rank": 1.9}, "have collapsed: they vary in 1.9 directions"),
        ({"task_loss": math.nan}, "`eval_task_loss` is not a finite number since epoch 10"),
        ({"feature_rank": math.nan}, "`eval_feature_rank` is not a finite number"),
        ({"losses": {"loss_task": math.inf}}, "`loss_task` is not a finite number since epoch 10"),
    ],
)
def test_each_thing_that_looks_wrong_is_named(changes, words):
    status, problems = verdict(run(**changes))
    assert status == WRONG
    assert words in problems[0]


def test_a_tenth_of_the_rank_at_the_start_is_a_collapse_too():
    many = START | {"feature_rank": 200.0}
    assert verdict(run(start=many, feature_rank=19.0))[0] == WRONG
    assert verdict(run(start=many, feature_rank=21.0))[0] == HEALTHY


def test_alignment_is_not_judged_at_once_but_a_collapse_is():
    assert verdict(run(step=10, alignment=0.0)) == (EARLY, [])
    assert verdict(run(step=10, feature_rank=1.0))[0] == WRONG


def test_several_problems_are_all_named():
    status, problems = verdict(run(alignment=0.05, alignment_elsewhere=0.05, distillation_loss=0.5, feature_rank=1.0))
    assert status == WRONG
    assert len(problems) == 5


def test_few_images_show_no_collapse_and_no_likeness_by_chance():
    assert verdict(run(images=3, feature_rank=1.5, alignment_elsewhere=0.59)) == (HEALTHY, [])


def test_a_run_without_maps_is_judged_by_the_rest():
    plain = {"task_loss": 1.0, "feature_rank": 20.0}
    absent = {"alignment": None, "alignment_elsewhere": None, "distillation_loss": None}
    assert verdict(run(start=plain, levels={}, **absent)) == (HEALTHY, [])
    assert verdict(run(start=plain, levels={}, **absent, feature_rank=1.0))[0] == WRONG


def test_without_held_out_images_only_the_losses_are_judged():
    absent = dict.fromkeys(GOOD)
    assert verdict(run(start={}, levels={}, images=0, **absent)) == (UNKNOWN, [])
    assert verdict(run(start={}, levels={}, images=0, losses={"loss": math.nan}, **absent))[0] == WRONG


def test_the_norm_of_gradients_may_overflow_under_loss_scaling():
    assert verdict(run(losses={"grad_norm": math.inf}))[0] == HEALTHY


def test_line_for_the_terminal():
    assert health_line(run(step=30)) == (
        "epoch 3 of 10: task loss 0.5000, held out 0.3000; distillation loss 0.2000, held out 0.1000; alignment 0.600 "
        "(start 0.100, mean map 0.300, with other images' maps 0.100); feature rank 15.0"
    )
    stream = RunHealth(
        [{"eval_feature_rank": 2.0, "step": 4, "epoch": 0.4}], {"feature_rank": 3.0}, {}, 9, 4, 10, "step"
    )
    assert health_line(stream) == "step 4 of 10: feature rank 2.0"
