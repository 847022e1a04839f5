import pytest

from agssp.data.readers.splits import default_split, same_split, split_in, split_named


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("", None),
        ("train", "train"), ("Train", "train"), ("TRAINING", "train"), ("train2017", "train"),
        ("val", "val"), ("valid", "val"), ("Validation", "val"), ("dev", "val"),
        ("test", "test"), ("testing", "test"), ("2017", None),
        ("trainings-set", None), ("train_val", None), ("latest", None), ("good", None),
    ],
)  # fmt: skip
def test_names_that_are_splits_as_a_whole(name, split):
    assert split_named(name) == split


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("", None),
        ("instances_train2017", "train"), ("instances_Train", "train"), ("instancesTrain", "train"),
        ("_annotations.valid.coco", "val"), ("person-TEST", "test"), ("val", "val"), ("train_training", "train"),
        ("train_val", None), ("latest", None), ("contest", None), ("attestation", None), ("valves", None),
        ("untrained", None), ("labels", None),
    ],
)  # fmt: skip
def test_splits_told_by_one_word_of_a_name(name, split):
    assert split_in(name) == split


@pytest.mark.parametrize(
    ("name", "asked", "same"),
    [
        ("val", "val", True), ("VAL", "validation", True), ("valid", "dev", True), ("Fold1", "fold1", True),
        ("train", "val", False), ("fold1", "fold2", False), ("good", "bad", False), ("", "train", False),
    ],
)  # fmt: skip
def test_spellings_of_one_split(name, asked, same):
    assert same_split(name, asked) is same


@pytest.mark.parametrize(
    ("names", "split"),
    [
        ([], None),
        (["test"], "test"), (["anything"], "anything"),
        (["val", "Train"], "Train"), (["test", "val", "training"], "training"),
        (["val", "test"], None), (["train", "training"], None), (["a", "b"], None),
    ],
)  # fmt: skip
def test_the_split_that_is_read_where_none_is_asked_for(names, split):
    assert default_split(names) == split
