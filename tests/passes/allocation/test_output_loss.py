"""What the parts of an output lose: each by itself, whatever its scale becomes."""

import numpy as np
import pytest

from passes.allocation.output_loss import ExactOutput
from passes.settings.allocation_tuning import SensitivityTuning

TUNING = SensitivityTuning()
EXACT = np.random.default_rng(0).standard_normal((40, 6)).astype(np.float32) * np.float32([1, 1, 90, 90, 90, 90])
NOISE = np.random.default_rng(1).standard_normal((40, 6)).astype(np.float32)
PARTS = np.array([0, 0, 1, 1, 1, 1])


def lost(exact, now, parts=PARTS, tuning=TUNING):
    return ExactOutput([exact[:16], exact[16:]], parts, tuning).losses([now[:16], now[16:]])


def test_each_part_has_its_own_correlation():
    now = EXACT + NOISE
    wanted = []
    for part in (slice(0, 2), slice(2, 6)):
        a, b = ((v[:, part] - v[:, part].mean(0)).astype(np.float64).ravel() for v in (EXACT, now))
        wanted.append(1 / np.corrcoef(a, b)[0, 1] ** 2 - 1)
    assert lost(EXACT, now) == pytest.approx(wanted, rel=1e-5)
    assert wanted[0] > 100 * wanted[1]


def test_another_scale_and_offset_lose_nothing():
    assert lost(EXACT, 3 * EXACT + np.float32([5, 1, 2, 4, 0, 7])) == pytest.approx([0, 0], abs=1e-6)


def test_parts_that_do_not_vary_do_not_count():
    """Rounding of large values is no variation."""
    still = EXACT.copy()
    still[:, :2] = 1000
    still[0, 0] = np.nextafter(np.float32(1000), np.float32(2000))
    assert len(lost(still, still + NOISE)) == 1


@pytest.mark.parametrize("value", [0.0, np.inf, np.nan])
def test_nothing_left_is_the_most_noise(value):
    now = EXACT.copy()
    now[:, :2] = value
    assert lost(EXACT, now) == pytest.approx([TUNING.most_noise - 1, 0], abs=1e-6)


def test_a_result_of_another_size_is_lost():
    assert ExactOutput([EXACT], PARTS, TUNING).losses([EXACT[:, :5]]) == [TUNING.most_noise - 1] * 2


def test_an_output_whose_size_varies_is_not_measured():
    assert ExactOutput([EXACT, EXACT[:, :5]], PARTS, TUNING).losses([EXACT, EXACT[:, :5]]) == []


def test_blocks_lose_the_same():
    whole = lost(EXACT, EXACT + NOISE)
    assert lost(EXACT, EXACT + NOISE, tuning=SensitivityTuning(block=80)) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("block", [80, 2**21])
def test_places_of_more_weight_count_as_repeated_ones(block):
    """Two channels at three places, of which the second counts as four, and the last not at all."""
    weights = np.float32([1, 4, 0]).reshape(1, 1, 3)
    maps = [array.reshape(40, 2, 3) for array in (EXACT, EXACT + NOISE)]
    tuning = SensitivityTuning(block=block)
    exact, now = ([array[:16], array[16:]] for array in maps)
    parts = np.zeros(6, int)
    found = ExactOutput(exact, parts, tuning, [weights, weights]).losses(now)
    repeated = [array[:, :, [0, 1, 1, 1, 1]].reshape(40, -1) for array in maps]
    assert found == pytest.approx(lost(*repeated, np.zeros(10, int)), rel=1e-5)
