"""Best matches and parallel classes against loops in plain NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from passes.numerics.similarity import _choose, best_match, parallel_classes
from passes.numerics.tuning import NUMERICS

TIE = NUMERICS.match.equal_scores

# The similarities come from a float32 matrix product.
RESOLUTION = 5e-7


def cosine(a, b):
    sizes = np.linalg.norm(a) * np.linalg.norm(b)
    return a @ b / sizes if sizes > 0 else 0.0


def scores(rows, biases, kept, i, lam):
    """The criterion as the docstring has it, for one removed channel."""
    rows, biases = rows.astype(float), biases.astype(float)
    far = np.array([1 - cosine(rows[i], rows[j]) for j in kept])
    own = np.linalg.norm(rows[i])
    if biases.shape[1] == 0:
        return far
    if own == 0:
        return lam * far
    gaps = np.empty(len(kept))
    for at, j in enumerate(kept):
        other = np.linalg.norm(rows[j])
        gaps[at] = np.linalg.norm(biases[i] - (own / other if other else 0.0) * biases[j])
    spread = gaps.max() - gaps.min()
    gaps = (gaps - gaps.min()) / spread if spread > 1e-9 else np.zeros(len(kept))
    return lam * far + (1 - lam) * gaps


def check(rows, biases, kept, removed, lam):
    partner, likeness, _ = best_match(rows, biases, kept, removed, lam)
    assert partner.dtype == np.int64 and partner.shape == likeness.shape == (len(removed),)
    for i, j, value in zip(removed, partner, likeness, strict=True):
        want = scores(rows, biases, kept, i, lam)
        at = list(kept).index(j)
        assert want[at] <= want.min() + TIE + RESOLUTION
        assert (want[:at] > want.min() + TIE - RESOLUTION).all(), "a lower channel is as good"
        assert value == pytest.approx(cosine(rows[i].astype(float), rows[j].astype(float)), abs=RESOLUTION)


small = st.integers(-3, 3).map(float)


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_best_match_equals_the_formula(data):
    channels = data.draw(st.integers(2, 8))
    rows = data.draw(arrays(np.float32, (channels, data.draw(st.integers(1, 4))), elements=small))
    biases = data.draw(arrays(np.float64, (channels, data.draw(st.integers(0, 2))), elements=small))
    split = data.draw(st.permutations(range(channels)))
    count = data.draw(st.integers(1, channels - 1))
    lam = data.draw(st.sampled_from([0.0, 0.3, 0.85, 1.0]))
    check(rows, biases, np.array(sorted(split[:count])), np.array(split[count:]), lam)


@pytest.mark.parametrize("biases", [0, 1, 3])
def test_best_match_across_chunks(biases):
    rng = np.random.default_rng(biases)
    rows = rng.standard_normal((300, 7), dtype=np.float32)
    split = rng.permutation(300)
    check(rows, rng.standard_normal((300, biases)), np.sort(split[:20]), split[20:], 0.85)


def test_a_scaled_copy_finds_its_original():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((40, 33), dtype=np.float32)
    biases = rng.standard_normal((40, 1))
    origin, scale = rng.integers(0, 20, 20), rng.uniform(0.1, 9, 20)
    rows[20:], biases[20:] = scale[:, None] * rows[origin], scale[:, None] * biases[origin]
    partner, likeness, scales = best_match(rows, biases, np.arange(20), np.arange(20, 40), 0.85)
    assert (partner == origin).all()
    np.testing.assert_allclose(scales, scale, rtol=1e-6)
    np.testing.assert_allclose(likeness, 1.0, atol=1e-7)


def test_equal_candidates_go_to_the_lowest_whatever_the_product_rounds():
    similar = np.array([[0.2, 0.9, np.nextafter(np.float32(0.9), 1)]], np.float32)  # one is rounded up, the other down
    none, norms, out = np.zeros((3, 0)), np.ones(3), np.empty(1, np.int64)
    _choose(similar, norms[:1], norms, none[:1], none, norms[:1], norms, 1.0, TIE, out, np.empty(1))
    assert out.tolist() == [1]


def test_the_bias_decides_between_equal_directions():
    rows = np.ones((3, 2), np.float32)
    partner, _, _ = best_match(rows, [[5.0], [1.0], [1.5]], [0, 1], [2], 0.85)
    assert partner.tolist() == [1]


def test_the_bias_is_compared_at_the_scale_of_the_weights():
    rows = np.array([[1.0], [1.0], [2.0]], np.float32)  # twice channel 0, bias and all; the plain bias is nearer to 1's
    partner, _, _ = best_match(rows, [[2.0], [3.0], [4.0]], [0, 1], [2], 0.5)
    assert partner.tolist() == [0]


def test_biases_that_differ_by_rounding_do_not_decide():
    rows = np.array([[4.0, 3.0], [2.0, 0.0], [1.0, 0.0]])
    # Every bias is 0.7 times the channel's norm, but for the ninth digit of one: stretched to [0, 1] it would outweigh
    # the cosine.
    partner, _, _ = best_match(rows, [[3.5], [1.4 * (1 + 1e-9)], [0.7]], [0, 1], [2], 0.1)
    assert partner.tolist() == [1]


def test_rows_of_zeros_have_cosine_zero():
    rows = np.array([[0, 0], [1, 0], [0, 0], [-1, 0]], np.float32)
    biases = np.array([[1.0], [2.0], [3.0], [4.0]])
    partner, likeness, _ = best_match(rows, biases, [0, 1], [2, 3], 0.85)
    assert partner.tolist() == [0, 0]  # nothing tells 2's candidates apart; the opposite of 1 prefers the empty row
    assert likeness.tolist() == [0.0, 0.0]
    assert best_match(rows, biases, [0], [2], 0.0)[1].tolist() == [0.0]


def test_tiny_and_huge_rows_have_cosines():
    rows = np.array([[1e-42, 2e-42], [1e38, 2e38], [2.0, -1.0]], np.float32)
    partner, likeness, _ = best_match(rows, np.zeros((3, 0)), [1, 2], [0], 1.0)
    assert partner.tolist() == [1] and likeness[0] == pytest.approx(1.0, abs=1e-3)  # 1e-42 has three digits


def test_nothing_removed():
    partner, likeness, _ = best_match(np.ones((2, 2)), np.ones((2, 1)), [0, 1], [], 0.5)
    assert partner.shape == likeness.shape == (0,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"biases": np.zeros((3, 1))}, "expected shape"),
        ({"biases": np.full((4, 1), np.nan)}, "NaN"),
        ({"kept": [1, 0]}, "ascending"),
        ({"kept": [1, 1]}, "ascending"),
        ({"kept": [0, 4]}, "outside"),
        ({"removed": [-1]}, "outside"),
        ({"removed": [0.5]}, "channel indices"),
        ({"kept": []}, "nothing is kept"),
        ({"lam": 1.5}, "lam must be"),
        ({"lam": float("nan")}, "lam must be"),
        ({"rows": np.full((4, 2), np.inf)}, "infinity"),
    ],
)
def test_best_match_refuses(change, message):
    good = {"rows": np.ones((4, 2)), "biases": np.ones((4, 1)), "kept": [0, 1], "removed": [2, 3], "lam": 0.85}
    with pytest.raises(ValueError, match=message):
        best_match(**(good | change))


def classes(rows, tolerance):
    rows = rows.astype(float)
    norms = np.linalg.norm(rows, axis=1)
    leader, scale, heads = np.arange(len(rows)), np.ones(len(rows)), []
    for i in range(len(rows)):
        if norms[i] == 0:
            continue
        for j in heads:
            if np.abs(rows[i] / norms[i] - rows[j] / norms[j]).max() <= tolerance:
                leader[i], scale[i] = j, norms[i] / norms[j]
                break
        else:
            heads.append(i)
    return leader, scale


@settings(deadline=None, max_examples=100)
@given(data=st.data(), tolerance=st.sampled_from([1e-6, 0.1]))
def test_parallel_classes_equal_loops(data, tolerance):
    shape = data.draw(st.tuples(st.integers(0, 12), st.integers(1, 3)))
    rows = data.draw(arrays(np.float32, shape, elements=small))
    leader, scale = parallel_classes(rows, tolerance)
    want = classes(rows, tolerance)
    assert (leader == want[0]).all()
    np.testing.assert_allclose(scale, want[1], 1e-12)
    assert (leader[leader] == leader).all() and (scale > 0).all()


def test_planted_multiples_come_back():
    rng = np.random.default_rng(0)
    rows = np.zeros((60, 500))
    rows[:, 400:] = rng.standard_normal((60, 100))  # the first 400 elements tell nothing apart
    rows[7] = -rows[3]  # opposite is not parallel: a Relu between tells them apart
    rows[0] = 0.0
    origin, factor = rng.integers(1, 30, 29), rng.uniform(0.01, 50, 29)
    rows[30:59] = factor[:, None] * rows[origin]
    rows[59] = 0.0
    leader, scale = parallel_classes(rows, 1e-5)
    assert leader.tolist() == [*range(30), *origin.tolist(), 59]
    np.testing.assert_allclose(scale[30:59], factor, 1e-6)
    assert (scale[:30] == 1).all() and scale[59] == 1


@pytest.mark.parametrize("tolerance", [-1e-6, float("nan")])
def test_parallel_classes_refuses(tolerance):
    with pytest.raises(ValueError, match="tolerance"):
        parallel_classes(np.ones((2, 2)), tolerance)
