"""Squared Euclidean distances between rows, by direct differences."""

import numpy as np

from .arrays import Double, Single
from .jit import parallel, prange

# Rows and columns of a tile: its 8 x 64 float64 sums (4 KiB) stay in the first-level cache while the features go by,
# and each feature that is fetched serves 8 rows.
_HIGH = 8
_WIDE = 64


@parallel
def _squares(columns: Single, start: int, out: Double) -> None:
    sets, features, channels = columns.shape
    rows = out.shape[1]
    blocks = (rows + _HIGH - 1) // _HIGH
    for task in prange(sets * blocks):
        one = columns[task // blocks]
        top = (task % blocks) * _HIGH
        high = min(_HIGH, rows - top)
        sums = np.empty((_HIGH, _WIDE))
        for left in range(0, channels, _WIDE):
            wide = min(_WIDE, channels - left)
            for a in range(high):
                for b in range(wide):
                    sums[a, b] = 0.0
            for d in range(features):
                line = one[d, left : left + wide]
                for a in range(high):
                    value = np.float64(one[d, start + top + a])
                    # The innermost loop runs over rows, each with a sum of its own: it vectorises without reordering
                    # any sum, so neither tile nor thread count shows in the result.
                    row = sums[a, :wide]
                    for b in range(wide):
                        gap = np.float64(line[b]) - value
                        row[b] += gap * gap
            for a in range(high):
                for b in range(wide):
                    out[task // blocks, top + a, left + b] = sums[a, b]


def squared_distances(columns: Single, start: int, stop: int, pad: int = 0) -> Double:
    """Squared distances of some rows to all rows of the same set: ``columns`` (m, D, C) -> (m, stop - start, C + pad).

    ``columns`` holds m sets of C rows of D features, features first (``rows.transpose(0, 2, 1)``, contiguous). Entry
    (k, i, j) is ||r_(start+i) - r_j||^2 in set k, summed in float64. The same bits whatever the thread count; exactly
    zero between equal rows, which the Gram matrix's n_i + n_j - 2 <r_i, r_j> is not. The ``pad`` columns at the end are
    not written.
    """
    out = np.empty((columns.shape[0], stop - start, columns.shape[2] + pad))
    _squares(columns, start, out)
    return out
