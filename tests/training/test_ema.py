import copy
import math

import pytest
import torch
from torch import nn

from agssp.errors import InputError
from agssp.training.ema import ExponentialMovingAverage


def small_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


def test_follows_the_formula():
    model = small_model()
    ema = ExponentialMovingAverage(model, decay=0.9, ramp=3)
    expected = model[0].weight.detach().clone()
    for step in (1, 2, 3, 4):
        with torch.no_grad():
            model[0].weight += step
            model[1].num_batches_tracked += 1
        decay = 0.9 * (1 - math.exp(-step / 3))
        expected = decay * expected + (1 - decay) * model[0].weight
        ema.update(model)
    torch.testing.assert_close(ema.average["0.weight"], expected)
    # Counters are copied.
    assert ema.average["1.num_batches_tracked"] == 4


def test_decay_of_zero_is_the_model():
    model = small_model()
    ema = ExponentialMovingAverage(model, decay=0)
    with torch.no_grad():
        model[0].weight += 1
    ema.update(model)
    assert torch.equal(ema.average["0.weight"], model[0].weight)


def test_scalar_buffer_that_begins_as_nan_is_copied():
    model = small_model()
    model.register_buffer("weight_of_loss", torch.tensor(float("nan")))
    ema = ExponentialMovingAverage(model)
    model.weight_of_loss.fill_(2.5)
    ema.update(model)
    assert ema.average["weight_of_loss"] == 2.5


def test_applied_puts_the_average_in_and_takes_it_out_again():
    model = small_model()
    ema = ExponentialMovingAverage(model)
    with torch.no_grad():
        model[0].weight += 1
    before = copy.deepcopy(model.state_dict())
    weight = model[0].weight
    with ema.applied(model):
        assert torch.equal(model[0].weight, ema.average["0.weight"])
    assert model[0].weight is weight
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())


def test_saved_and_loaded_goes_on_the_same(tmp_path):
    model = small_model()
    first, second = ExponentialMovingAverage(model), ExponentialMovingAverage(small_model())
    with torch.no_grad():
        model[0].weight += 1
    first.update(model)
    first.save(tmp_path / "ema.safetensors")
    second.load(tmp_path / "ema.safetensors")
    for ema in (first, second):
        ema.update(model)
    assert all(torch.equal(first.average[name], second.average[name]) for name in first.average)
    with pytest.raises(InputError, match="another model's"):
        ExponentialMovingAverage(nn.Linear(1, 1)).load(tmp_path / "ema.safetensors")


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_bad_decay(decay):
    with pytest.raises(InputError, match="ema_decay"):
        ExponentialMovingAverage(small_model(), decay=decay)
