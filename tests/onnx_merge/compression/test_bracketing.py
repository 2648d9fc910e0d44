"""The sizes that the search for a limit tries, one after the other."""

import pytest

from onnx_merge.compression import size_search


@pytest.mark.parametrize(
    ("limit", "sizes"),
    [
        (30, [0.5, 0.7]),
        (60, [0.5, 0.25, 0.4]),  # nothing is known of the smallest sizes
        (1, [0.5, 0.925, 0.98875, 0.9904375]),  # no nearer to an end than 0.15 of what is left
    ],
)
def test_a_linear_loss_is_interpolated_between_sizes_that_were_tried(limit, sizes):
    def attempt(size):
        return size_search.Trial(size, 100 * (1 - size), None, None)

    tried = size_search._bisect(
        attempt, limit, rising=False, start=0.5, stop=lambda value: 0.95 * limit <= value <= limit + 1e-9
    )
    assert [trial.size for trial in tried] == pytest.approx(sizes, rel=1e-9)
