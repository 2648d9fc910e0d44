"""Projects channels on the subspace that matters most to what reads them, by reduced-rank regression.

Where only linear maps read x and write it, any matrix may stand between them: z = A x of K values takes the place of
the C channels x, and x is predicted from z. For a covariance S of x and the readers' W^T W = G, the least
tr(W E (x - x') (x - x')^T W^T) is reached where A spans the leading K eigenvectors of R S R, R = G^(1/2) (Izenman,
Reduced-rank regression for the multivariate linear model, 1975). It is the sum of the other eigenvalues. A selection of
K channels, which is such an A too, loses at least as much.
"""

from dataclasses import dataclass, replace

import numpy as np

from .arrays import Double, Index
from .shrinkage import ridge_floor
from .tuning import NUMERICS, ProjectionTuning


@dataclass(frozen=True)
class Principal:
    """``maps`` (C, C): rows u^T R, the most important eigenvector u first; ``lost`` (C + 1,): share of what the readers
    see that is lost with 0, 1, ... C of the rows."""

    maps: Double
    lost: Double


def principal(covariance: Double, weight: Double, tuning: ProjectionTuning = NUMERICS.projection) -> Principal:
    """The eigenvectors of R S R for the ``covariance`` S (C, C) of the channels and the readers' W^T W, ``weight``."""
    values, vectors = np.linalg.eigh((weight + weight.T) / 2)
    values = np.maximum(values, tuning.smallest_weight * max(float(values[-1]), 1e-30))
    root = (vectors * np.sqrt(values)) @ vectors.T
    seen = root @ covariance @ root
    power, directions = np.linalg.eigh((seen + seen.T) / 2)
    power, directions = np.maximum(power[::-1], 0.0), directions[:, ::-1]
    total = max(float(power.sum()), 1e-300)
    # Summed from the smallest on: of a share of one, small differences would be rounding errors.
    lost = np.append(np.cumsum(power[::-1])[::-1], 0.0) / total
    return Principal(np.ascontiguousarray(directions.T @ root), lost)


def projection(found: Principal, covariance: Double, keep: Index) -> Double:
    """A (K, C): the leading K rows of ``found``, rotated and scaled so that z = A x comes as near as possible to the
    channels ``keep`` (K,), whose places it takes (orthogonal Procrustes problem, Schönemann, 1966)."""
    rows = found.maps[: len(keep)]
    spread = float(np.sum((rows @ covariance) * rows))
    scale = float(np.trace(covariance[np.ix_(keep, keep)])) / spread if spread > 0 else 0.0
    left, _, right = np.linalg.svd(covariance[keep] @ rows.T)
    return np.asarray(np.sqrt(max(scale, 1e-12)) * (left @ right @ rows))


def under_norms(found: Principal, centred: bool) -> Principal:
    """``found`` for channels of which K, ``centred`` to a mean of zero, have K - 1 dimensions."""
    return replace(found, lost=np.append(found.lost[:1], found.lost[:-1])) if centred else found


def rotation(found: Principal, covariance: Double, weight: Double, keep: Index, centred: bool) -> Double:
    """A (K, C) with A A^T = 1, rotated so that z = A x comes as near as possible to the channels ``keep`` (K,). If
    ``centred``, x and z have a mean of zero, and A^T A and A A^T are projections to K - 1 dimensions of such vectors.

    A norm divides z by its length, and x by its own. Where A spans the leading rows of ``found``, readers of the
    ``weight`` lose least of the direction of x (Principal.lost); where it spans the leading eigenvectors of the
    ``covariance``, least of the length is lost. Of both, that of the smaller `_loss_under_norm` is taken.
    """
    size, width = len(covariance), len(keep)
    outer, inner = (_centred_basis(size), _centred_basis(width)) if centred else (np.eye(size), np.eye(width))
    longest = np.linalg.eigh(covariance)[1].T[::-1]
    bases = [outer @ np.linalg.qr((rows[: inner.shape[1]] @ outer).T)[0] for rows in (found.maps, longest)]
    basis = min(bases, key=lambda basis: _loss_under_norm(basis, covariance, weight))
    left, _, right = np.linalg.svd(inner.T @ covariance[keep] @ basis)
    return np.asarray(inner @ left @ right @ basis.T)


def _loss_under_norm(basis: Double, covariance: Double, weight: Double) -> float:
    """Share of what readers see that is lost where the norm of x is taken of its part in ``basis`` (C, K).

    It is tr(G E) / tr(G S), for E the covariance of the error of the best prediction of x; and for lengths the variance
    of |x|^2 - |z|^2 over 4 |x|^4, which is 2 tr((P S)^2) / 4 tr(S)^2 for normal values and P = 1 - A^T A.
    """
    maps = basis.T
    z = prediction_from(maps, covariance, 0.0, basis)
    rest = covariance - z @ (maps @ covariance)
    outside = covariance - basis @ (maps @ covariance)
    length, read = float(np.trace(covariance)), float(np.sum(weight * covariance))
    directions = float(np.sum(weight * rest)) / read if read > 0 else 0.0
    return directions + (float(np.sum(np.square(outside / length))) / 2 if length > 0 else 0.0)


def _centred_basis(size: int) -> Double:
    """An orthonormal basis (n, n - 1) of the vectors (n,) with a mean of zero: a Householder reflection of the vector
    of ones to the first axis, without its first column."""
    ones = np.full(size, 1 / np.sqrt(size))
    normal = ones - np.eye(size)[0]
    square = float(normal @ normal)
    reflection = np.eye(size) - (2 / square * np.outer(normal, normal) if square > 0 else 0.0)
    return np.asarray(reflection[:, 1:])


def prediction_from(projection: Double, covariance: Double, ridge: float, prior: Double | float = 0.0) -> Double:
    """Z (C, K) of x ~ Z A x about the means, for channels with that covariance (C, C) and a projection A (K, C). The
    diagonal of the covariance of A x is increased by ``ridge`` times itself, and Z is drawn toward the ``prior``: A^T
    where A is a rotation, since x = A^T A x if nothing is lost."""
    cross = covariance @ projection.T
    inner = projection @ cross
    rest = cross - prior @ inner if isinstance(prior, np.ndarray) else cross
    inner = inner + np.diag(ridge * np.diag(inner) + ridge_floor(np.diag(inner)))
    return np.asarray(prior + np.linalg.solve(inner, rest.T).T)
