import numpy as np
import pytest

from agssp.data.splits import few_per_class, split_rows
from agssp.errors import InputError

IDS = [f"image {index}" for index in range(60)]
CLASSES = [[index % 3] if index % 10 else [] for index in range(60)]


def test_nothing():
    assert few_per_class([], [], 3, 0) == []
    assert split_rows([], [], 0.5, 0) == ([], [])


def test_each_class_gets_its_images_whatever_the_row_order():
    chosen = few_per_class(IDS, CLASSES, 4, seed=1)
    assert np.bincount([CLASSES[row][0] for row in chosen]).tolist() == [4, 4, 4]
    order = np.random.default_rng(0).permutation(60)
    again = few_per_class([IDS[i] for i in order], [CLASSES[i] for i in order], 4, seed=1)
    assert {IDS[order[row]] for row in again} == {IDS[row] for row in chosen}
    assert few_per_class(IDS, CLASSES, 4, seed=2) != chosen


def test_an_image_of_two_classes_counts_for_both():
    assert few_per_class(["a", "b", "c"], [[0, 1], [0], [1]], 1, seed=0) in ([0], [0, 1], [0, 2], [1, 2])


def test_too_few():
    with pytest.raises(InputError, match="class 1 occurs in 1 images; 2 a class were asked for"):
        few_per_class(["a", "b", "c"], [[0], [0], [1]], 2, 0)
    with pytest.raises(InputError, match=r"class 'rust' occurs in 0 images; 1 a class .*; ask for a number"):
        few_per_class(["a"], [[0]], 1, 0, ["pit", "rust"], served=[0, 1])


@pytest.mark.parametrize("fraction", [0.2, 0.5])
def test_split_is_a_stratified_partition(fraction):
    first, second = split_rows(IDS, CLASSES, fraction, seed=3)
    assert sorted(first + second) == list(range(60))
    assert len(second) == round(60 * fraction)
    counts = np.bincount([CLASSES[row][0] for row in second if CLASSES[row]], minlength=3)
    assert np.abs(counts - 18 * fraction).max() <= 1


def test_neither_part_is_empty():
    assert [len(part) for part in split_rows(["a", "b"], [[0], [1]], 0.01, 0)] == [1, 1]
    with pytest.raises(InputError, match="between 0 and 1"):
        split_rows(IDS, CLASSES, 1.0, 0)
