import numpy as np
import pytest

from agssp.data.images import decode_image
from agssp.data.readers import read_dataset
from agssp.data.schema import defect_names
from agssp.data.synthetic import DEFECT_TYPES, SURFACES, add_defects, make_surfaces


def test_nothing_asked_for(tmp_path):
    make_surfaces(tmp_path, unlabelled=0, labelled=0, normal=0)
    assert (tmp_path / "labelled/metadata.jsonl").read_text() == ""


def test_layout_is_what_the_readers_expect(tmp_path):
    make_surfaces(tmp_path, unlabelled=8, labelled=9, normal=2, size=96)
    corpus, labelled = read_dataset(tmp_path / "unlabelled"), read_dataset(tmp_path / "labelled")
    assert corpus.features["category"].names == sorted(SURFACES)
    assert sum(value is True for value in corpus["is_normal"]) == 2 * len(SURFACES)
    assert len(corpus) == 8 + 6
    assert defect_names(labelled) == list(DEFECT_TYPES)
    assert len(labelled) == 9
    for row in labelled:
        mask = np.asarray(decode_image(row["mask"]))[..., 0] > 127
        covered = np.zeros_like(mask)
        for x, y, w, h in np.array(row["objects"]["bbox"], int):
            covered[y : y + h, x : x + w] = True
            assert mask[y : y + h, x : x + w].any()
        assert row["objects"]["bbox"]
        assert not (mask & ~covered).any()


def test_same_seed_same_bytes(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        make_surfaces(tmp_path / name, unlabelled=2, labelled=1, normal=1, size=64, seed=seed)
    files = [
        {p.relative_to(tmp_path / name): p.read_bytes() for p in (tmp_path / name).rglob("*.png")} for name in "abc"
    ]
    assert files[0] == files[1]
    assert files[0] != files[2]


@pytest.mark.parametrize("surface", SURFACES.values(), ids=list(SURFACES))
def test_defects_change_the_image_inside_their_masks(surface):
    generator = np.random.default_rng(0)
    sound = surface(128, generator)
    for first in range(3):
        image, defects = add_defects(sound, generator, first=first)
        assert defects[0][0] == DEFECT_TYPES[first]
        union = np.any([mask for _, mask in defects], axis=0)
        difference = np.abs(image.astype(int) - sound)
        assert difference[union].mean() > 10
        assert difference[~union].mean() < 1
