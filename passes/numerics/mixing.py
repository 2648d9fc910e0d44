"""Multiplies weights by a scaling matrix, in the single pass over a consumer's weights that a merge needs."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from .arrays import Double, Index, Single
from .jit import serial
from .tuning import NUMERICS


# Serial: it is bound by memory, and runs between matrix products, whose threads still busy-wait.
@serial
def _mix(weights: Single, starts: Index, columns: Index, values: Double, out: Single) -> None:
    outer, channels, inner = weights.shape
    for a in range(outer):
        for c in range(channels):
            for at in range(starts[c], starts[c + 1]):
                k, value = columns[at], np.float32(values[at])
                for b in range(inner):
                    out[a, k, b] += value * weights[a, c, b]


def mix_columns(weights: NDArray[np.float32], z: ArrayLike | sparse.csr_array) -> NDArray[np.float32]:
    """Contract the middle axis of float32 weights (A, C, B) with z (C, K): y_akb = sum_c w_acb z_ck.

    The terms of a merge's sum are added in the order of the channels, whatever the thread count. Raises ValueError
    where the sizes do not fit.
    """
    scaling = z if isinstance(z, sparse.csr_array) else sparse.csr_array(z)
    if weights.ndim != 3 or weights.shape[1] != scaling.shape[0]:
        raise ValueError(f"weights of shape {weights.shape} cannot be mixed with a matrix of shape {scaling.shape}")
    given = np.require(weights, np.float32, ["C", "A", "W"])
    if scaling.nnz > NUMERICS.linear_algebra.sparse_entries * scaling.shape[0]:
        rows = np.ascontiguousarray(np.moveaxis(given, 1, 2)).reshape(-1, given.shape[1])
        mixed = rows @ scaling.astype(np.float32).toarray()  # a dense float64 copy would take twice as much
        return np.ascontiguousarray(np.moveaxis(mixed.reshape(given.shape[0], given.shape[2], scaling.shape[1]), 2, 1))
    out = np.zeros((given.shape[0], scaling.shape[1], given.shape[2]), np.float32)
    starts, columns = (np.require(v, np.int64, ["C", "A", "W"]) for v in (scaling.indptr, scaling.indices))
    _mix(given, starts, columns, np.require(scaling.data, np.float64, ["C", "A", "W"]), out)
    return out
