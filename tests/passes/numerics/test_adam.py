"""Adam: steps by the paper's formula, and a schedule that ends at zero."""

import numpy as np

from passes.numerics.adam import Adam
from passes.numerics.tuning import AdamTuning

FLAT = AdamTuning(rising_share=0.0)


def test_the_first_step_has_the_size_of_the_rate_in_each_element():
    adam = Adam({"w": np.zeros(3, np.float32)}, {"w": np.float32(2.0)}, 0.1, 10, FLAT)
    adam.step({"w": np.array([5.0, -1e-6, 0.0], np.float32)})
    np.testing.assert_allclose(adam.values["w"], [-0.2, 0.2, 0.0], rtol=1e-4)


def test_steps_follow_the_formula():
    """Algorithm 1 of the paper, in float64."""
    rng = np.random.default_rng(0)
    gradients = rng.standard_normal((5, 4))
    adam = Adam({"w": np.zeros(4)}, {"w": np.ones(())}, 0.1, 10**9, FLAT)
    mean, square, value = np.zeros(4), np.zeros(4), np.zeros(4)
    for t, gradient in enumerate(gradients, 1):
        adam.step({"w": gradient})
        mean, square = 0.9 * mean + 0.1 * gradient, 0.99 * square + 0.01 * gradient**2
        value -= 0.1 * (mean / (1 - 0.9**t)) / np.sqrt(square / (1 - 0.99**t))
    np.testing.assert_allclose(adam.values["w"], value, rtol=1e-9)


def test_the_rate_rises_and_falls_to_zero():
    adam = Adam({"w": np.zeros(1)}, {"w": np.ones(())}, 1.0, 100, AdamTuning(rising_share=0.1))
    rates = []
    for _ in range(100):
        rates.append(adam.rate)
        adam.step({"w": np.ones(1)})
    assert rates[0] < 0.2 and np.argmax(rates) in (8, 9, 10) and rates[-1] < 0.001 and adam.rate == 0.0


def test_it_finds_the_minimum_of_a_badly_scaled_quadratic():
    scale = np.array([1e-4, 1.0, 1e4])
    adam = Adam({"w": np.zeros(3)}, {"w": np.ones(())}, 0.2, 400)
    for _ in range(400):
        adam.step({"w": scale * (adam.values["w"] - 3.0)})
    np.testing.assert_allclose(adam.values["w"], 3.0, atol=0.02)
