"""The split into fitted and held-out samples: how many, which, and reproducibly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_merge.calibration.splits import found_in, held_count, held_rows, parted, share_apart, to_load
from onnx_merge.tuning.calibration import SPLITS

COUNTS, UNITS = st.integers(1, 5000), st.sampled_from([1, 1, 1, 2, 3, 8, 32, 100])


@pytest.mark.parametrize(
    ("total", "count", "held"),
    [(31, 256, 0), (32, 256, 16), (62, 256, 16), (128, 256, 16), (256, 256, 32), (288, 256, 32), (2304, 2048, 256)],
)
def test_an_eighth(total, count, held):
    assert held_count(total, count) == held


def test_what_is_left_over_is_kept_apart_first():
    assert held_count(to_load(256), 256) == 32 and held_count(to_load(10), 10) == 16
    assert held_count(to_load(256, beside=256), 256) == 256 and held_count(400, 256) == 144
    assert held_count(20, 10) == 0, "neither the sixteen that are left over nor twice sixteen"


@given(count=COUNTS)
def test_as_many_as_asked_for_are_fitted_to_where_there_are_enough(count):
    for half in (False, True):
        total = to_load(count, half=half)
        assert total - held_count(total, count, half=half) == count


@given(total=COUNTS, count=COUNTS, unit=UNITS, half=st.booleans())
def test_some_are_left_to_fit_to(total, count, unit, half):
    held = held_count(total, count, half=half, unit=unit)
    assert held % unit == 0 and 0 <= held < total
    if held:
        assert total // unit - held // unit >= min(2, unit)
        assert half or held >= SPLITS.fewest
    if unit == 1 and not half and total <= count:
        assert held == (share_apart(total) if total >= 2 * SPLITS.fewest else 0) <= SPLITS.most
    if unit == 1 and half and total > 1:
        assert held >= total // 2


@given(total=COUNTS, part=st.floats(0, 1), seed=st.integers(0, 9), unit=UNITS)
def test_they_are_spread_evenly(total, part, seed, unit):
    runs = total // unit
    held = int(part * runs) * unit
    rows = held_rows(total, held, seed, unit)
    assert np.array_equal(rows, held_rows(total, held, seed, unit))
    assert len(set(rows)) == held and np.array_equal(rows, np.sort(rows))
    if held:
        assert rows[0] >= 0 and rows[-1] < total
        # one of each stretch: no two further apart than two stretches
        assert np.diff(rows[::unit]).max(initial=0) < 2 * -(-runs // (held // unit)) * unit


def test_which_ones_depends_on_the_seed():
    rows = [held_rows(2048, 256, seed) for seed in range(20)]
    assert len({tuple(r) for r in rows}) == 20
    classes = [np.bincount(r % 8, minlength=8) for r in rows]
    assert min(c.min() for c in classes) > 0, "of samples that repeat themselves every eight, all kinds"


def test_samples_are_parted():
    feeds = {"x": np.arange(10).reshape(5, 2), "rate": np.float32(3)}
    kept, apart = parted(feeds, np.array([1, 4]))
    assert np.array_equal(kept["x"], [[0, 1], [4, 5], [6, 7]]) and np.array_equal(apart["x"], [[2, 3], [8, 9]])
    assert kept["rate"] == apart["rate"] == 3


def test_the_same_samples_are_found():
    x, s = np.arange(10.0).reshape(5, 2), np.array(["a", "b", "c", "d", "e"], object)
    some = {"x": x[[3, 0]], "s": s[[3, 1]]}
    assert found_in(some, {"x": x, "s": s}).tolist() == [True, False]
    assert found_in({"x": x}, {"x": x[1:3]}).tolist() == [False, True, True, False, False]
    assert found_in({"x": x}, {}).tolist() == [False] * 5
