"""Noise over signal of outputs, about the mean of each element."""

import re

import numpy as np
import pytest
from noisekit import noise_over_signal

from passes.numerics.noise_to_signal import NoiseMeter
from passes.numerics.tuning import NoiseTuning

RNG = np.random.default_rng(0)


def noisy(x, share, seed=1):
    """``x`` with noise of a share of each value's spread over the samples."""
    return x + share * x.std(0) * np.random.default_rng(seed).standard_normal(x.shape)


def test_against_the_definition():
    x = RNG.standard_normal((50, 3, 7)) * RNG.uniform(0.5, 2, (3, 7)) + RNG.uniform(-9, 9, (3, 7))
    y = noisy(x, 0.3)
    expected = ((y - x) ** 2).mean(0).sum() / x.var(0, ddof=1).sum()
    assert noise_over_signal(x, y).nsr == pytest.approx(expected)
    assert noise_over_signal(x, x).nsr == 0
    # Of a result that lost everything, the mean of other samples is left.
    other = np.broadcast_to(RNG.standard_normal((4000, 2)).mean(0), (4000, 2))
    assert noise_over_signal(RNG.standard_normal((4000, 2)), other).nsr == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize("sizes", [(50,), (1,) * 50, (7, 0, 43), (20, 30)])
def test_batches_add_up(sizes):
    x = (RNG.standard_normal((50, 4, 6)) + 1000).astype(np.float32)
    y = noisy(x, 0.1).astype(np.float32)
    whole = noise_over_signal(x, y)
    meter, start = NoiseMeter(tuning=NoiseTuning(block=60)), 0
    for size in sizes:
        meter.add(x[start : start + size], y[start : start + size])
        start += size
    assert meter.samples == 50 and meter.result().nsr == pytest.approx(whole.nsr, rel=1e-6)


def test_what_never_varies_hides_nothing():
    x = RNG.standard_normal((40, 30))
    large = np.full((40, 500), 1e4)  # anchors, priors
    y = noisy(x, 0.5)
    alone = noise_over_signal(x, y).nsr
    assert noise_over_signal(np.hstack([x, large]), np.hstack([y, large])).nsr == pytest.approx(alone, rel=1e-6)
    assert noise_over_signal(x + 1e5, y + 1e5).nsr == pytest.approx(alone, rel=1e-6)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("order", [1, -1])
def test_channels_of_unlike_scale_are_judged_each_by_its_own_spread(axis, order):
    boxes, scores = RNG.standard_normal((40, 4, 20, 20)) * 30 + 100, RNG.uniform(0, 1, (40, 8, 20, 20)) ** 4
    moved = noisy(scores, 1.0)
    x, y = (np.concatenate([boxes, part][::order], 1) for part in (scores, moved))
    x, y = (np.moveaxis(v, 1, axis + 1) for v in (x, y))
    found = noise_over_signal(x, y)
    assert ((y - x) ** 2).sum() / ((x - x.mean(0)) ** 2).sum() < 1e-3  # what one sum would say
    assert found.reason is None and found.nsr == pytest.approx(noise_over_signal(scores, moved).nsr)


def test_channels_of_like_scale_are_one():
    x = RNG.standard_normal((60, 5, 40)) * np.array([1, 2, 3, 5, 8])[:, None]
    y = x.copy()
    y[:, 0] = 0  # a class of five that is rare
    assert noise_over_signal(x, y).nsr == pytest.approx((x[:, 0] ** 2).mean(0).sum() / x.var(0, ddof=1).sum())


def test_a_score_that_never_rises_is_not_tested():
    boxes, scores = RNG.standard_normal((40, 4, 50)) * 30 + 100, RNG.uniform(0, 0.05, (40, 8, 50))
    found = noise_over_signal(np.hstack([boxes, scores]), np.hstack([boxes, noisy(scores, 3)]))
    assert found.reason == "none of its scores passes 0.1" and not found.constant
    scores[3, 2, 7] = 0.9  # one is enough: rare classes are scores like the others
    assert noise_over_signal(np.hstack([boxes, scores]), np.hstack([boxes, scores])).reason is None
    rare = np.concatenate([scores, 1e-5 * scores], 1)
    assert noise_over_signal(rare, np.concatenate([scores, noisy(1e-5 * scores, 3)], 1)).nsr == 0


def test_what_hardly_varies_is_not_tested():
    x = 5 + 8e-5 * RNG.standard_normal((40, 10))
    found = noise_over_signal(x, x)
    assert re.fullmatch(r"it varies by 1\.\de-05 of its level", found.reason) and found.nsr == 0 and not found.constant
    still = np.full((40, 10), 7.0)
    found = noise_over_signal(still, still)
    assert (found.nsr, found.reason, found.constant) == (None, "it is the same for every sample", True)
    found = noise_over_signal(still, still + 1)  # the same for every sample no more
    assert found.reason is not None and not found.constant
    zeros = np.zeros((40, 10))
    assert noise_over_signal(zeros, zeros).constant and not noise_over_signal(zeros, zeros + 1).constant


def test_rounding_is_no_spread():
    x = (1000 + 1e-4 * RNG.standard_normal((40, 10))).astype(np.float32)
    assert noise_over_signal(x, x).constant
    half = (10 + 5e-3 * RNG.standard_normal((40, 10))).astype(np.float16)
    assert noise_over_signal(half, half).constant


@pytest.mark.parametrize(
    ("x", "y", "reason"),
    [
        (np.ones((1, 3)), np.ones((1, 3)), "one sample shows no spread"),
        (np.ones((0, 3)), np.ones((0, 3)), "it is empty"),
        (np.ones((5, 0)), np.ones((5, 0)), "it is empty"),
        (np.ones((5, 3)), np.ones((5, 4)), "its size depends on the sample"),
    ],
)
def test_what_has_no_spread(x, y, reason):
    found = noise_over_signal(x, y)
    assert found.nsr is None and found.reason == reason


def test_sizes_that_depend_on_the_sample():
    meter = NoiseMeter()
    for size in (3, 5):
        meter.add(np.ones((1, size)), np.ones((1, size)))
    assert meter.result().reason == "its size depends on the sample"


def test_numbers_and_whole_numbers():
    x = np.arange(10)
    assert noise_over_signal(x, x + (x % 2)).nsr == pytest.approx(0.5 / x.var(ddof=1))


def test_more_noise_is_more():
    x = RNG.standard_normal((30, 6, 9)) * np.array([1, 1, 1, 100, 100, 100])[:, None]
    ratios = [noise_over_signal(x, noisy(x, share)).nsr for share in (0, 0.01, 0.1, 0.5, 1, 3)]
    assert ratios == sorted(ratios) and ratios[0] == 0 and ratios[-1] > 1
