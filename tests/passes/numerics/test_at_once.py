"""Several items at the same time: results in order, few in flight, errors as one by one."""

import threading
import time

import numpy as np
import pytest

from passes.numerics.threads import at_once


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_are_in_order(workers):
    rng = np.random.default_rng(0)

    def slow(k):
        time.sleep(0.003 * rng.random())
        return k * k

    assert list(at_once(slow, range(20), workers)) == [k * k for k in range(20)]
    assert list(at_once(slow, [], workers)) == []


def test_as_many_run_at_the_same_time():
    """Each waits for the others: one by one, none would end."""
    barrier = threading.Barrier(3, timeout=10)
    assert sorted(at_once(lambda _: barrier.wait(), range(6), 3)) == [0, 0, 1, 1, 2, 2]


def test_no_more_results_wait_than_run():
    taken = []
    results = at_once(lambda k: k, (taken.append(k) or k for k in range(10)), 3)
    for k, found in enumerate(results):
        assert found == k and len(taken) <= k + 3


@pytest.mark.parametrize("workers", [1, 3])
def test_an_error_ends_it(workers):
    done = []

    def fails(k):
        if k == 4:
            raise ValueError("the fourth")
        done.append(k)

    with pytest.raises(ValueError, match="the fourth"):
        list(at_once(fails, range(100), workers))
    assert len(done) < 4 + workers
