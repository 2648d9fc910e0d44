"""Muon: orthogonalised steps of matrices, of Adam for the rest."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import polar

from passes.numerics.adam import Adam
from passes.numerics.muon import MatrixForm, Muon, orthogonal_factor
from passes.numerics.tuning import AdamTuning, MuonTuning

FLAT = AdamTuning(rising_share=0.0)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 99))
def test_the_factor_is_that_of_the_polar_decomposition(rows, columns, seed):
    matrix = np.random.default_rng(seed).standard_normal((2, rows, columns))
    expected = [polar(one)[0] for one in matrix]
    np.testing.assert_allclose(orthogonal_factor(matrix, 1e-9), expected, atol=1e-5)


def test_directions_that_hardly_occur_do_not_count_in_full():
    left, right = np.linalg.qr(np.random.default_rng(0).standard_normal((2, 5, 5)))[0]
    found = orthogonal_factor(left @ np.diag([1, 0.1, 1e-2, 1e-4, 0]) @ right, 1e-3)
    np.testing.assert_allclose(np.diag(left.T @ found @ right.T), [1, 1, 1, 0.1, 0], atol=1e-6)


@pytest.mark.parametrize("exponent", [-120, -60, 60, 120])
def test_the_size_of_a_matrix_does_not_matter(exponent):
    matrix = np.random.default_rng(0).standard_normal((1, 4, 6)).astype(np.float32)
    assert np.array_equal(orthogonal_factor(np.ldexp(matrix, exponent), 1e-3), orthogonal_factor(matrix, 1e-3))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_stays_so(value):
    assert np.isnan(orthogonal_factor(np.array([[[1, value], [2, 3]]], np.float32), 1e-3)).all()


def test_zeros_stay_zeros():
    assert not orthogonal_factor(np.zeros((1, 3, 4), np.float32), 1e-3).any()


@pytest.mark.parametrize(
    ("shape", "axis", "groups"),
    [((6, 4), 0, 1), ((4, 6), 1, 1), ((8, 3, 3, 3), 0, 1), ((8, 2, 3), 0, 4), ((6, 4, 3, 3), 1, 1), ((6, 2, 3), 1, 3)],
)
def test_each_group_is_a_matrix_of_outputs_and_inputs(shape, axis, groups):
    weights = np.random.default_rng(0).standard_normal(shape)
    form = MatrixForm(axis, groups)
    found = form.orthogonalised(weights, 1e-9)
    assert found.shape == shape
    each = zip(np.split(weights, groups), np.split(found, groups), strict=True)
    for given_one, made in ((np.moveaxis(a, axis, 0), np.moveaxis(b, axis, 0)) for a, b in each):
        matrix = given_one.reshape(len(given_one), -1)
        expected = polar(matrix)[0] * np.sqrt(max(matrix.shape))
        np.testing.assert_allclose(made.reshape(matrix.shape), expected, atol=1e-5)
        assert form.sizes(shape) == (min(matrix.shape), max(matrix.shape))


def test_the_first_step_goes_along_the_factor_in_units_of_the_scales():
    gradient, scale = np.random.default_rng(0).standard_normal((3, 5)), np.array([[1.0], [10.0], [0.1]])
    muon = Muon({"w": np.zeros((3, 5))}, {"w": scale}, 0.1, 10**9, {"w": MatrixForm(0)}, MuonTuning(size=1.0), FLAT)
    muon.step({"w": gradient})
    np.testing.assert_allclose(muon.values["w"], -0.1 * scale * polar(gradient * scale)[0] * np.sqrt(5), rtol=1e-5)


def test_all_else_takes_steps_of_adam():
    rng = np.random.default_rng(0)
    values = {"w": rng.standard_normal((3, 5)), "b": rng.standard_normal(3)}
    scales = {"w": np.ones(()), "b": np.ones(())}
    adam = Adam({"b": values["b"].copy()}, scales, 0.1, 20)
    muon = Muon({name: value.copy() for name, value in values.items()}, scales, 0.1, 20, {"w": MatrixForm(0)})
    for _ in range(5):
        gradients = {name: rng.standard_normal(value.shape) for name, value in values.items()}
        adam.step({"b": gradients["b"]})
        muon.step(gradients)
    assert np.array_equal(adam.values["b"], muon.values["b"])


def test_it_goes_along_all_directions_of_a_badly_scaled_quadratic():
    """Where Adam's steps along the small ones are left behind."""
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.standard_normal((n, n)))[0] for n in (6, 8))
    target = rng.standard_normal((6, 8))
    outer, inner = (q @ np.diag(np.geomspace(1, 1e-3, len(q))) @ q.T for q in (left, right))
    errors = []
    for kind, more in ((Muon, ({"w": MatrixForm(0)},)), (Adam, ())):
        found = kind({"w": np.zeros((6, 8))}, {"w": np.ones(())}, 0.1, 200, *more)
        for _ in range(200):
            found.step({"w": outer @ (found.values["w"] - target) @ inner})
        errors.append(np.square(found.values["w"] - target).mean())
    assert errors[0] < 0.5 * errors[1]
