"""Fresh batch norms begin with plain means; others, and their momentum afterwards, are as they were."""

import pytest
import torch
from torch import nn
from transformers import TrainerState

from agssp.training.norm_statistics import NormStatistics


def train(model: nn.Module, batches: list[torch.Tensor], forwards: int = 1) -> None:
    """Steps of a Trainer, as far as its callbacks see them."""
    callback, state = NormStatistics(), TrainerState()
    callback.on_train_begin(None, state, None, model=model)
    for batch in batches:
        for part in batch.chunk(forwards):
            model.train()(part)
        callback.on_step_end(None, state, None)
    callback.on_train_end(None, state, None)


def norm(momentum: float | None = 0.1) -> nn.BatchNorm1d:
    return nn.BatchNorm1d(3, momentum=momentum)


def draw(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [1e-3 * torch.randn(16, 3, generator=generator) + 5 for _ in range(count)]


def test_model_without_norms_is_left_alone():
    model = nn.Linear(3, 2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train(model, draw(2))
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert "momentum" not in vars(model)


def test_norms_without_statistics_are_left_alone():
    model = nn.BatchNorm1d(3, track_running_stats=False)
    train(model, draw(2))
    assert (model.momentum, model.running_mean, model.num_batches_tracked) == (0.1, None, None)


def test_statistics_of_the_first_steps_are_their_means():
    model, batches = norm(), draw(6)
    train(model, batches)
    torch.testing.assert_close(model.running_mean, torch.stack([b.mean(0) for b in batches]).mean(0))
    torch.testing.assert_close(model.running_var, torch.stack([b.var(0) for b in batches]).mean(0))
    assert model.momentum == 0.1


def test_later_steps_have_the_momentum_of_the_norm():
    model, reference, batches = norm(), norm(), draw(15)
    train(model, batches)
    reference.running_mean = torch.stack([b.mean(0) for b in batches[:10]]).mean(0)
    for batch in batches[10:]:
        reference.train()(batch)
    # To the last digits: the means of batches differ little.
    torch.testing.assert_close(model.running_mean, reference.running_mean, rtol=0, atol=1e-6)


@pytest.mark.parametrize("counter", [0, 500])
def test_statistics_from_a_file_are_not_begun_anew(counter):
    model = norm()
    model.running_mean.fill_(2.0)
    model.num_batches_tracked.fill_(counter)
    train(model, draw(1))
    torch.testing.assert_close(model.running_mean, 0.9 * torch.full((3,), 2.0) + 0.1 * draw(1)[0].mean(0))


@pytest.mark.parametrize("forwards", [1, 2])
@pytest.mark.parametrize("from_file", [False, True])
def test_interrupted_equals_uninterrupted(from_file, forwards):
    whole, cut = norm(), norm()
    if from_file:
        whole.running_mean.fill_(2.0)
        cut.running_mean.fill_(2.0)
    batches = draw(12)
    train(whole, batches, forwards)
    train(cut, batches[:3], forwards)
    resumed = norm()
    resumed.load_state_dict(cut.state_dict())
    train(resumed, batches[3:], forwards)
    assert torch.equal(resumed.running_var, whole.running_var)
    assert torch.equal(resumed.running_mean, whole.running_mean)


def test_cumulative_norms_keep_their_own_way():
    model, batches = norm(momentum=None), draw(15)
    train(model, batches)
    assert model.momentum is None
    torch.testing.assert_close(model.running_mean, torch.stack([b.mean(0) for b in batches]).mean(0))
