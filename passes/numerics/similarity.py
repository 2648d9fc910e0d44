"""Finds the kept channel that replaces a removed one, and channels that are copies of each other up to a scale."""

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Double, Index, RowSet, Single, as_channels, as_doubles, as_rows
from .jit import serial
from .norms import row_norms
from .tuning import NUMERICS, MatchTuning


# Serial: it runs right after a matrix product, whose threads still busy-wait. Two threads here would wait for them.
@serial
def _choose(
    similar: Single,
    own_size: Double,
    kept_size: Double,
    own_bias: Double,
    kept_bias: Double,
    own_norm: Double,
    kept_norm: Double,
    lam: float,
    equal: float,
    out: Index,
    cosine: Double,
) -> None:
    """Position in the kept set of the best match of each removed row, and its cosine.

    ``similar`` (n, K) holds the dot products; over the sizes of both rows they are cosines. Scores closer than
    ``equal`` are a tie.
    """
    count, kept = similar.shape
    width = own_bias.shape[1]
    for i in range(count):
        scores = np.zeros(kept)
        low, high, reach = np.inf, 0.0, 0.0
        # A row of norm zero has scale zero for every candidate, so no bias distance distinguishes them.
        if width > 0 and own_norm[i] > 0.0:
            for j in range(kept):
                scale = own_norm[i] / kept_norm[j] if kept_norm[j] > 0.0 else 0.0
                gap, size = 0.0, 0.0
                for k in range(width):
                    theirs = scale * kept_bias[j, k]
                    gap += (own_bias[i, k] - theirs) ** 2
                    size += own_bias[i, k] ** 2 + theirs**2
                scores[j] = np.sqrt(gap)
                low, high, reach = min(low, scores[j]), max(high, scores[j]), max(reach, np.sqrt(size))
        # Without the second test, the rounding of equal biases would be scaled to [0, 1], and would decide.
        spread = high - low
        if spread > 0.0 and spread > equal * reach:
            for j in range(kept):
                scores[j] = (scores[j] - low) / spread
        else:
            for j in range(kept):
                scores[j] = 0.0
        best = np.inf
        for j in range(kept):
            likeness = np.float64(similar[i, j]) / own_size[i] / kept_size[j]
            scores[j] = lam * (1.0 - likeness) + (1.0 - lam) * scores[j]
            best = min(best, scores[j])
        for j in range(kept):
            if scores[j] <= best + equal:
                out[i] = j
                cosine[i] = np.float64(similar[i, j]) / own_size[i] / kept_size[j]
                break


def _choose_alike(
    similar: Single, own_size: Double, kept_size: Double, equal: float, out: Index, cosine: Double
) -> None:
    """`_choose` by the cosines alone, which NumPy compares faster. ``similar`` is overwritten."""
    similar *= (1.0 / kept_size).astype(np.float32)
    least = (similar.max(axis=1) - equal * own_size).astype(np.float32)  # of a size of infinity: any
    np.argmax(similar >= least[:, None], axis=1, out=out)
    cosine[:] = similar[np.arange(len(out)), out] / own_size


def best_match(
    rows: ArrayLike | RowSet,
    biases: ArrayLike,
    kept: ArrayLike,
    removed: ArrayLike,
    lam: float,
    tuning: MatchTuning = NUMERICS.match,
) -> tuple[Index, Double, Double]:
    """For every removed channel the kept channel that replaces it best: channel indices, cosines and scales, all (R,).

    ``rows`` (C, D), read as float32, are the channels' weights, ``biases`` (C, B) their biases (B may be 0), ``kept``
    (K,) ascending and ``removed`` (R,) channel indices. The partner j of channel i minimises

        lam (1 - cos(r_i, r_j)) + (1 - lam) d_ij,    d_ij = ||b_i - s b_j||_2,    s = ||r_i|| / ||r_j||

    (d_ij is the offset by which s times channel j misses channel i, in the units of channel i; s is 0 where r_j is 0)
    with d_ij scaled to [0, 1] over the kept channels of that i (0 where they do not differ), and alone by its cosine
    where B = 0. Scores within `MatchTuning.equal_scores` of the best are equal; then the lowest channel wins. A row of
    norm zero has cosine 0 with every row, and scale 0 where it is kept. The cosines have float32's precision, the
    scales are s.

    Raises ValueError for other shapes, values that are not finite, indices out of range, ``kept`` not ascending or
    empty while ``removed`` is not, ``lam`` outside [0, 1]. Source: Kim et al., Neuron Merging, NeurIPS 2020: MostSim
    (alg. 1) and, for convolutions, its blend with the bias distance, here on weights with BatchNorm folded in.
    """
    single = as_rows(rows)
    channels = single.shape[0]
    bias = as_doubles(biases, (channels, -1))
    keep, gone = as_channels(kept, channels), as_channels(removed, channels)
    if not 0.0 <= lam <= 1.0:
        raise ValueError(f"lam must be in [0, 1], got {lam}")
    if (np.diff(keep) <= 0).any():
        raise ValueError("kept must be ascending, without repetition")
    if gone.size and not keep.size:
        raise ValueError("nothing is kept to match the removed channels with")
    norms = row_norms(rows if isinstance(rows, RowSet) else single)
    # A float32 matrix product, in tiles, and a kernel that only chooses: 256 x 256 pairs of 4608 features take 15 ms on
    # two threads, the dot products written out in a kernel 90 ms.
    rescale = _needs_rescaling(norms)
    targets = (_units(single[keep], norms[keep]) if rescale else single[keep]).T
    sizes = np.where(norms > 0.0, 1.0 if rescale else norms, np.inf)  # over infinity, a row of zeros has cosine zero
    weight = float(lam) if bias.shape[1] else 1.0
    partner = np.empty(gone.size, np.int64)
    cosine = np.empty(gone.size)
    step = max(tuning.tile, tuning.pairs // max(1, keep.size))
    for start in range(0, gone.size, step):
        part = slice(start, start + step)
        own = gone[part]
        similar = (_units(single[own], norms[own]) if rescale else single[own]) @ targets
        if not bias.shape[1]:
            _choose_alike(similar, sizes[own], sizes[keep], tuning.equal_scores, partner[part], cosine[part])
            continue
        _choose(
            similar, sizes[own], sizes[keep], bias[own], bias[keep], norms[own], norms[keep], weight,
            tuning.equal_scores, partner[part], cosine[part],
        )  # fmt: skip
    partner = keep[partner]
    scale = np.divide(norms[gone], norms[partner], out=np.zeros(gone.size), where=norms[partner] > 0.0)
    return partner, np.clip(cosine, -1.0, 1.0), scale


def _needs_rescaling(norms: Double) -> bool:
    """Whether products of rows could leave float32's range."""
    positive = norms[norms > 0.0]
    return bool(positive.size and (positive.max() > 1e15 or positive.min() < 1e-15))


def _units(rows: Single, norms: Double) -> Single:
    """Rows over their norms; rows of norm zero stay zero. Divides in float64: a norm may be subnormal in float32."""
    divisors = np.where(norms > 0.0, norms, 1.0)[:, None]
    return np.divide(rows, divisors, out=np.empty_like(rows), casting="same_kind")


@serial
def _lead(rows: Single, norms: Double, tolerance: float, leader: Index, scale: Double) -> None:
    channels, features = rows.shape
    heads = np.empty(channels, np.int64)
    # Where each leader's largest element sits, and that element over the norm: rows that are not parallel differ there
    # at once, also sparse ones, whose first elements all agree at zero.
    places = np.empty(channels, np.int64)
    peaks = np.empty(channels)
    count = 0
    for i in range(channels):
        leader[i] = i
        scale[i] = 1.0
        if norms[i] == 0.0:
            continue
        row = rows[i]
        for h in range(count):
            if abs(row[places[h]] / norms[i] - peaks[h]) > tolerance:
                continue
            j = heads[h]
            other = rows[j]
            same = True
            for d in range(features):
                if abs(row[d] / norms[i] - other[d] / norms[j]) > tolerance:
                    same = False
                    break
            if same:
                leader[i] = j
                scale[i] = norms[i] / norms[j]
                break
        if leader[i] == i:
            place = 0
            for d in range(features):
                if abs(row[d]) > abs(row[place]):
                    place = d
            heads[count] = i
            places[count] = place
            peaks[count] = row[place] / norms[i]
            count += 1


def parallel_classes(rows: ArrayLike | RowSet, tolerance: float) -> tuple[Index, Double]:
    """Group the rows that are positive multiples of each other: ``rows`` (C, D) -> leader (C,), scale (C,).

    Row i is scale_i > 0 times row leader_i, the lowest earlier leader for which no element of the two unit-normalised
    rows differs by more than ``tolerance``; a row without one is its own leader, at scale 1, and so is a row of zeros.
    A leader's leader is itself. The rows are read as float32: a tolerance below 1e-7 asks for more than they hold.
    O(C^2) in practice, since one element distinguishes almost every pair.

    Raises ValueError for another number of dimensions, values that are not finite, a negative tolerance.
    """
    if not tolerance >= 0.0:
        raise ValueError(f"the tolerance must not be negative, got {tolerance}")
    single = as_rows(rows)
    leader = np.empty(single.shape[0], np.int64)
    scale = np.empty(single.shape[0])
    _lead(single, row_norms(rows if isinstance(rows, RowSet) else single), float(tolerance), leader, scale)
    return leader, scale
