"""The standard error of noise over signal, from the variation of the noise between samples."""

import numpy as np
import pytest
from noisekit import noise_over_signal

from passes.numerics.noise_to_signal import NoiseMeter


def expected(noise):
    """Standard error of the mean over the samples, relative to it."""
    return noise.std(ddof=1) / np.sqrt(len(noise)) / noise.mean()


def test_it_is_that_of_the_mean_noise_of_a_sample():
    rng = np.random.default_rng(0)
    exact = rng.standard_normal((40, 3, 5))
    now = exact + 0.1 * rng.standard_normal(exact.shape) * rng.uniform(0, 2, (40, 1, 1))
    noise = np.square(now - exact).sum((1, 2))
    assert noise_over_signal(exact, now).error == pytest.approx(expected(noise))
    meter = NoiseMeter()
    for part in np.array_split(np.arange(40), [7, 20]):
        meter.add(exact[part], now[part])
    assert meter.result().error == pytest.approx(expected(noise))


def test_of_channels_of_unlike_scale_it_is_that_of_the_worst():
    rng = np.random.default_rng(0)
    exact = rng.standard_normal((60, 2, 9)) * np.array([1.0, 1000.0])[:, None]
    now = exact + np.array([0.5, 1.0])[:, None] * rng.standard_normal(exact.shape) * rng.uniform(0, 2, (60, 1, 1))
    found = noise_over_signal(exact, now)
    assert found.error == pytest.approx(expected(np.square(now - exact)[:, 0].sum(1)))


def test_without_noise_it_is_none_and_of_what_is_not_tested_unknown():
    exact = np.random.default_rng(0).standard_normal((10, 4))
    assert noise_over_signal(exact, exact).error == 0
    assert noise_over_signal(np.ones((10, 4)), np.ones((10, 4))).error is None
