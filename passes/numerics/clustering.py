"""Ward's agglomerative clustering of many small sets, or one large one, and cuts through the dendrograms.

The merges are in ``scipy.cluster.hierarchy.linkage``'s numbering: points are 0 .. n-1, the cluster that merge t makes
is n + t, the lower number comes first.
"""

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Double, Index, Single, as_doubles, as_rows
from .distances import squared_distances
from .jit import parallel, prange, serial

# Bytes of distance matrices that exist at one time, unless a single one is larger.
_BUDGET = 64 << 20


@parallel
def _chains(squares: Double, pairs: Index, heights: Double) -> None:
    """Merge the points of every set (m, n, n or more), in the order the chain meets them; eats ``squares``."""
    n = squares.shape[1]
    for k in prange(squares.shape[0]):
        square = squares[k]
        size = np.ones(n, np.int64)
        chain = np.empty(n, np.int64)
        # Neither dead nor on the chain. By Ward's reducibility a cluster further down the chain is never the nearest;
        # by rounding it might be, and the chain would bite its tail.
        free = np.ones(n, np.bool_)
        length = 0
        first = 0
        for step in range(n - 1):
            if length == 0:
                while not free[first]:
                    first += 1
                chain[0] = first
                free[first] = False
                length = 1
            while True:
                x = chain[length - 1]
                line = square[x]
                nearest = np.inf
                y = -1
                if length > 1:  # the one before x comes first: only a strictly nearer one lengthens the chain
                    y = chain[length - 2]
                    nearest = line[y]
                before = y
                for i in range(n):
                    if free[i] and line[i] < nearest:
                        nearest = line[i]
                        y = i
                if y == before:
                    break
                chain[length] = y
                free[y] = False
                length += 1
            length -= 2
            gone, stays = min(x, y), max(x, y)
            pairs[k, step, 0] = gone
            pairs[k, step, 1] = stays
            heights[k, step] = np.sqrt(nearest)
            p, q = size[gone], size[stays]
            size[gone] = 0
            size[stays] = p + q
            free[stays] = True
            dead, line = square[gone], square[stays]
            for i in range(n):  # Lance and Williams' update for Ward, on squared distances
                r = size[i]
                if r > 0 and i != stays:
                    merged = ((r + p) * dead[i] + (r + q) * line[i] - r * nearest) / (r + p + q)
                    line[i] = max(merged, 0.0)
                    square[i, stays] = line[i]


@serial
def _number(merges: Index) -> None:
    """Replace, in place, the points that stand for their clusters (m, n-1, 2) by the clusters' numbers."""
    sets, steps, _ = merges.shape
    stands = np.empty(steps + 1, np.int64)
    number = np.empty(steps + 1, np.int64)
    for k in range(sets):
        for i in range(steps + 1):
            stands[i] = i
            number[i] = i
        for step in range(steps):
            # Sorting by height may put a merge before the one that named its point: look up who stands for it now.
            x, y = merges[k, step, 0], merges[k, step, 1]
            while stands[x] != x:
                stands[x] = stands[stands[x]]
                x = stands[x]
            while stands[y] != y:
                stands[y] = stands[stands[y]]
                y = stands[y]
            merges[k, step, 0] = min(number[x], number[y])
            merges[k, step, 1] = max(number[x], number[y])
            stands[x] = y
            number[y] = steps + 1 + step


@serial
def _labels(merges: Index, steps: Index, out: Index) -> None:
    """Apply the first ``steps[k]`` merges of every set k; number the clusters by their lowest member."""
    sets, n = out.shape
    parent = np.empty(2 * n, np.int64)
    label = np.empty(2 * n, np.int64)
    for k in range(sets):
        for node in range(2 * n):
            parent[node] = -1
            label[node] = -1
        for step in range(steps[k]):
            parent[merges[k, step, 0]] = n + step
            parent[merges[k, step, 1]] = n + step
        count = 0
        for i in range(n):
            root = i
            while parent[root] >= 0:
                root = parent[root]
            node = i
            while parent[node] >= 0:  # shorten the way for those that share it
                above = parent[node]
                parent[node] = root
                node = above
            if label[root] < 0:
                label[root] = count
                count += 1
            out[k, i] = label[root]


def ward_linkages(points: ArrayLike) -> tuple[Index, Double]:
    """Ward dendrograms of m sets of n points: ``points`` (m, n, d), read as float32 -> (m, n-1, 2), (m, n-1).

    Gives the merges and their heights, ascending: sqrt(2 p q / (p + q)) times the distance between the two centres, for
    clusters of p and q points. Nearest-neighbour chain, O(m n (n + d n)) time, n^2 float64 of memory for each set under
    way. Raises ValueError for no points at all, another number of dimensions and values that are not finite. Source:
    Ward, J. Am. Stat. Assoc. 58, 1963; Müllner, arXiv 1109.2378, fig. 3.
    """
    return _linkages(as_rows(points, ndim=3))


def ward_linkage(points: ArrayLike) -> tuple[Index, Double]:
    """Ward dendrogram of one set: ``points`` (n, d) -> merges (n-1, 2), heights (n-1,). See ``ward_linkages``.

    Not scipy's: 512 points of 4608 features take 145 ms there, 60 ms here on two threads, and its import 280 ms.
    """
    merges, heights = _linkages(as_rows(points)[None])
    return merges[0], heights[0]


def _linkages(points: Single) -> tuple[Index, Double]:
    sets, n, _ = points.shape
    if n == 0:
        raise ValueError("no points to cluster")
    columns = np.ascontiguousarray(points.transpose(0, 2, 1))
    pairs = np.empty((sets, n - 1, 2), np.int64)
    heights = np.empty((sets, n - 1))
    chunk = max(1, _BUDGET // (8 * n * n))
    # A merge writes a column. In a matrix of 512 columns, 4 KiB to a row, all of a column falls into the same few cache
    # sets and the clustering takes twice as long: make a row an odd number of cache lines.
    pad = 8 if n % 16 == 0 else 0
    for start in range(0, sets, chunk):
        part = slice(start, min(start + chunk, sets))
        _chains(squared_distances(columns[part], 0, n, pad), pairs[part], heights[part])
    order = np.argsort(heights, axis=1, kind="stable")
    merges = np.ascontiguousarray(np.take_along_axis(pairs, order[:, :, None], axis=1))
    _number(merges)
    return merges, np.take_along_axis(heights, order, axis=1)


def cut(merges: ArrayLike, clusters: int) -> Index:
    """Label the points of a dendrogram, exactly ``clusters`` labels: ``merges`` (n-1, 2) -> (n,).

    Applies the first n - clusters merges. Labels run from 0 in the order of each cluster's lowest point. Raises
    ValueError unless 1 <= clusters <= n, and for what is not a dendrogram.
    """
    table = _as_merges(merges)
    if table.ndim != 2:
        raise ValueError(f"expected the merges of one dendrogram, got shape {table.shape}")
    n = table.shape[0] + 1
    if not 1 <= clusters <= n:
        raise ValueError(f"cannot cut {n} points into {clusters} clusters")
    out: Index = np.empty((1, n), np.int64)
    _labels(table[None], np.array([n - clusters]), out)
    labels: Index = out[0]
    return labels


def cut_height(merges: ArrayLike, heights: ArrayLike, height: float) -> Index:
    """Label the points, applying the merges whose height is at most ``height``; one dendrogram or many.

    ``merges`` (n-1, 2) and ``heights`` (n-1,), ascending -> (n,); with a leading axis m on both -> (m, n). Labels as in
    ``cut``. Raises ValueError when the shapes disagree, and for what is not a dendrogram.
    """
    table = _as_merges(merges)
    batch = table if table.ndim == 3 else table[None]
    levels = as_doubles(heights, table.shape[:-1])
    steps = np.atleast_1d((levels <= height).sum(axis=-1, dtype=np.int64))
    out = np.empty((batch.shape[0], batch.shape[1] + 1), np.int64)
    _labels(batch, steps, out)
    return out if table.ndim == 3 else out[0]


def _as_merges(merges: ArrayLike) -> Index:
    """Refuse what would make the kernel write outside its arrays: merge t may only name clusters below n + t."""
    table = np.require(np.asarray(merges), np.int64, ["C", "A", "W"])
    if table.ndim not in (2, 3) or table.shape[-1] != 2:
        raise ValueError(f"expected merges of shape (n-1, 2) or (m, n-1, 2), got {table.shape}")
    steps = table.shape[-2]
    if (table < 0).any() or (table >= np.arange(steps + 1, 2 * steps + 1)[:, None]).any():
        raise ValueError("a merge names a cluster that does not exist yet")
    return table
