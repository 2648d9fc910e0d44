"""Shifted copies of images: which inputs are images, and what a copy holds."""

import numpy as np
import pytest

from passes.samples.augmentation import has_image_arrays, image_plane, shifted
from passes.settings.sample_tuning import AugmentationTuning

TUNING = AugmentationTuning()


@pytest.mark.parametrize(
    ("shape", "plane"),
    [
        ((2, 3, 32, 32), 2),
        ((2, 32, 48, 3), 1),
        ((2, 1, 16, 24), 2),
        ((2, 1, 49, 10), None),  # coefficients over time
        ((2, 1, 128, 1000), None),  # a spectrogram
        ((2, 8, 32, 32), None),
        ((2, 3, 8, 8), None),  # a shift of a tenth is less than a place
        ((2, 32, 3), None),
    ],
)
def test_inputs_of_images_are_found(shape, plane):
    array = np.zeros(shape, np.float32)
    assert image_plane(array, TUNING) == plane
    assert has_image_arrays({"x": array}, TUNING) == (plane is not None)
    assert image_plane(array.astype(np.int64), TUNING) is None


def test_a_copy_is_the_image_moved_with_its_border_repeated():
    image = np.random.default_rng(0).standard_normal((6, 3, 20, 30)).astype(np.float32)
    copy = shifted({"x": image, "n": np.arange(6)}, 1, TUNING)
    moved = set()
    for one, other in zip(image, copy["x"], strict=True):
        found = [
            (dy, dx)
            for dy in range(-2, 3)
            for dx in range(-3, 4)
            if (one[:, np.clip(np.arange(20) + dy, 0, 19)][..., np.clip(np.arange(30) + dx, 0, 29)] == other).all()
        ]
        assert len(found) == 1
        moved.update(found)
    assert len(moved) > 2
    assert (copy["n"] == np.arange(6)).all()


def test_a_seed_gives_one_copy_and_the_batch_stays():
    feed = {"x": np.random.default_rng(0).standard_normal((4, 24, 24, 3)).astype(np.float32)}
    before = feed["x"].copy()
    one, same, other = (shifted(feed, seed, TUNING)["x"] for seed in (0, 0, 1))
    assert (one == same).all() and (one != other).any() and (feed["x"] == before).all()


def test_images_of_a_sample_move_together():
    image = np.random.default_rng(0).standard_normal((5, 3, 20, 20)).astype(np.float32)
    copy = shifted({"left": image, "right": 2 * image}, 0, TUNING)
    assert (copy["right"] == 2 * copy["left"]).all()
