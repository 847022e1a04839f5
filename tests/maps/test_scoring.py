"""Equations 1 to 5 and mutual scoring against hand-computed numbers and brute-force loops."""

import math

import pytest
import torch
import torch.nn.functional as F

from agssp.errors import InputError
from agssp.maps import scoring
from agssp.maps.references import ReferenceBank
from agssp.maps.scoring import few_shot_map, mutual_map, nearest_distance, text_probability, zero_shot_map

NORMAL, ANOMALOUS = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])


def unit(*shape, seed=0):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_eq_1_by_hand():
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [math.sqrt(0.5), math.sqrt(0.5)]])
    # exp(<f,a>/.07) / (exp(<f,n>/.07) + exp(<f,a>/.07)); the third: 1 / (1 + exp(-.2/.07)) = 0.945679
    expected = torch.tensor([6.2487e-07, 1 - 6.2487e-07, 0.945679, 0.5])
    torch.testing.assert_close(text_probability(features, NORMAL, ANOMALOUS), expected, atol=1e-6, rtol=1e-4)


def test_eq_3_and_4_by_hand():
    tokens = torch.tensor([[[[0.6, 0.8], [1.0, 0.0]]], [[[0.8, 0.6], [1.0, 0.0]]]])  # 2 layers, 1 image, 2 patches
    result = zero_shot_map(tokens, NORMAL[None], ANOMALOUS[None])
    torch.testing.assert_close(result, torch.tensor([[0.5, 6.2487e-07]]), atol=1e-6, rtol=1e-4)


def test_eq_5_by_hand():
    tokens = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.6, 0.8], [-1.0, 0.0]]])
    references = torch.tensor([[[1.0, 0.0], [0.6, 0.8]], [[1.0, 0.0], [1.0, 0.0]]])
    # layer 1: (1-1)/2 = 0, (1-.8)/2 = .1; layer 2: (1-.6)/2 = .2, (1+1)/2 = 1
    torch.testing.assert_close(few_shot_map(tokens, references), torch.tensor([0.1, 0.55]))


@pytest.mark.parametrize("chunk", [1, 50, 16_000_000])
def test_nearest_distance_is_the_brute_force_one(monkeypatch, chunk):
    monkeypatch.setattr(scoring, "CHUNK_ELEMENTS", chunk)
    tokens, references = unit(5, 8), unit(3, 7, 8, seed=1)
    expected = torch.tensor([[min((1 - float(t @ r)) / 2 for r in image) for t in tokens] for image in references])
    torch.testing.assert_close(nearest_distance(tokens, references), expected)
    torch.testing.assert_close(nearest_distance(tokens, references.flatten(0, 1)), expected.min(0).values)


def test_unit_length_is_divided_in_float32():
    assert scoring.unit(torch.zeros(0, 8, dtype=torch.bfloat16)).shape == (0, 8)
    vectors = torch.randn(50, 640, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    expected = (vectors.double() / vectors.double().norm(dim=-1, keepdim=True)).to(torch.bfloat16)
    assert torch.equal(scoring.unit(vectors), expected)
    assert not torch.equal(F.normalize(vectors, dim=-1), expected)


@pytest.mark.parametrize(("fraction", "count"), [(0.01, 1), (0.3, 1), (0.5, 3), (1.0, 6)])
def test_mutual_scoring_is_the_brute_force_one(fraction, count):
    tokens, references = unit(2, 5, 8), unit(2, 6, 7, 8, seed=1)
    expected = torch.zeros(5)
    for layer in range(2):
        for patch in range(5):
            nearest = sorted(
                min((1 - float(tokens[layer, patch] @ r)) / 2 for r in references[layer, image]) for image in range(6)
            )
            expected[patch] += sum(nearest[:count]) / count / 2
    torch.testing.assert_close(mutual_map(tokens, references, fraction), expected)


def test_an_image_is_not_compared_with_itself():
    tokens = unit(2, 3, 5, 8)
    bank = ReferenceBank(tokens, ["a", "b", "c"])
    assert bank.score(tokens[:, 1]).max() < 1e-6
    torch.testing.assert_close(
        bank.score(tokens[:, 1], "b"), few_shot_map(tokens[:, 1], tokens[:, [0, 2]].flatten(1, 2))
    )
    torch.testing.assert_close(bank.score(tokens[:, 1], "elsewhere"), bank.score(tokens[:, 1]))
    assert ReferenceBank(tokens[:, :1], ["a"]).others("a") == []
    with pytest.raises(InputError, match="only reference of its category"):
        ReferenceBank(tokens[:, :1], ["a"]).score(tokens[:, 0], "a")


@pytest.mark.parametrize(
    ("image_id", "others"), [(None, [0, 1]), ("elsewhere", [0, 1]), ("a", [1, 2]), ("b", [0, 2]), ("c", [0, 1])]
)
def test_the_spare_stands_in_for_the_image_itself(image_id, others):
    tokens = unit(2, 3, 5, 8)
    bank = ReferenceBank(tokens, ["a", "b", "c"], shots=2)
    assert bank.others(image_id) == others
    image = unit(2, 5, 8, seed=1)
    torch.testing.assert_close(bank.score(image, image_id), few_shot_map(image, tokens[:, others].flatten(1, 2)))
