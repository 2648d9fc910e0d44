"""Selects channels by REPrune: clusters them and elects representatives."""

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Double, Index, Single, as_rows, check_keep
from .jit import serial
from .norms import row_norms
from .tuning import NUMERICS


def elect(rows: ArrayLike, keep: int) -> Index:
    """One representative of each of ``keep`` Ward clusters of whole filters: ``rows`` (C, D) -> (keep,), ascending.

    The representative is the filter nearest (l2) to its cluster's centre; of those as near (see
    `MatchTuning.equal_distances`), the one with the larger l2 norm, then the lower index. Raises ValueError unless
    1 <= keep <= C, for another number of dimensions and values that are not finite.

    Source: Park et al., REPrune: Filter Pruning via Representative Election, arXiv 2007.06932.
    """
    single = as_rows(rows)
    channels = single.shape[0]
    check_keep(keep, channels)
    if keep == channels:
        return np.arange(channels)
    table = _ward(single)
    table[:, 2] = np.arange(1, channels)  # of equal heights too, the first merges are applied and no others
    labels = _cut(table, channels - keep)
    norms = row_norms(single)
    kept = np.empty(keep, np.int64)
    by_cluster = np.argsort(labels, kind="stable")
    for cluster, members in enumerate(np.split(by_cluster, np.cumsum(np.bincount(labels))[:-1])):
        filters = single[members].astype(np.float64)
        gaps = np.linalg.norm(filters - filters.mean(axis=0), axis=1)
        near = members[gaps <= gaps.min() + NUMERICS.match.equal_distances * norms[members].max()]
        kept[cluster] = near[np.argmax(norms[near])]  # the first of the largest: the lowest index
    return np.sort(kept)


def _ward(rows: Single) -> Double:
    """Ward dendrogram of rows (n, D), n at least 2, as `scipy.cluster.hierarchy.linkage` has it: (n-1, 4)."""
    from scipy.cluster.hierarchy import linkage  # here: its import takes a fifth of a second

    return np.asarray(linkage(rows.astype(np.float64), "ward"))


def _cut(table: Double, height: float) -> Index:
    """Label the points of a dendrogram (n,), from 0, applying the merges whose height is at most ``height``."""
    from scipy.cluster.hierarchy import fcluster

    return np.asarray(fcluster(table, height, "distance"), np.int64) - 1


@serial
def _cover(labels: Index, order: Index, keep: int, kept: Index) -> None:
    """Greedy maximum coverage; ``labels`` (I, O) are each input channel's clusters, ``order`` (O,) settles ties."""
    inputs, filters = labels.shape
    covered = np.zeros((inputs, filters), np.bool_)
    chosen = np.zeros(filters, np.bool_)
    gain = np.full(filters, inputs)  # how many uncovered pairs each filter would cover
    count = 0
    while count < keep:
        best = -1
        for rank in range(filters):
            o = order[rank]
            if not chosen[o] and (best < 0 or gain[o] > gain[best]):
                best = o
        if gain[best] == 0:
            covered[:] = False
            gain[:] = inputs
            continue
        chosen[best] = True
        kept[count] = best
        count += 1
        for i in range(inputs):
            line = labels[i]
            cluster = line[best]
            if not covered[i, cluster]:
                covered[i, cluster] = True
                for o in range(filters):
                    gain[o] -= line[o] == cluster


def elect_kernels(filters: ArrayLike, keep: int) -> Index:
    """The filters that cover most kernel clusters: ``filters`` (O, I, k) -> (keep,) indices into O, ascending.

    Every input channel has a Ward dendrogram of its O kernels of size k. All are cut at one height: the largest, over
    the input channels, of the height of merge ceil(s O), s = 1 - keep / O. Then the filter that covers most (input
    channel, cluster) pairs not yet covered is kept, of those with as many the one with the larger l2 norm, then the
    lower index, until there are ``keep``. When no remaining filter covers a new pair, all pairs count as uncovered
    again.

    Raises ValueError unless 1 <= keep <= O and I >= 1, for another number of dimensions and values that are not finite.
    Source: Park et al., REPrune: Channel Pruning via Kernel Representative Selection, AAAI 2024, arXiv 2402.17862.
    """
    kernels = as_rows(filters, ndim=3)
    outputs, inputs, _ = kernels.shape
    check_keep(keep, outputs)
    if inputs == 0:
        raise ValueError("the filters have no input channels")
    if keep == outputs:
        return np.arange(outputs)
    tables = [_ward(kernels[:, i]) for i in range(inputs)]
    step = outputs - keep  # ceil(s O), without the rounding of s
    height = max(float(table[step - 1, 2]) for table in tables)
    labels = np.stack([_cut(table, height) for table in tables])
    norms = row_norms(kernels.reshape(outputs, -1))
    order = np.lexsort((np.arange(outputs), -norms)).astype(np.int64)
    kept = np.empty(keep, np.int64)
    _cover(labels, order, int(keep), kept)
    return np.sort(kept)
