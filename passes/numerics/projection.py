"""Projects channels on the subspace that matters most to what reads them, by reduced-rank regression.

Where only linear maps read x and write it, any matrix may stand between them: z = A x of K values takes the place of
the C channels x, and x is predicted from z. For a covariance S of x and the readers' W^T W = G, the least
tr(W E (x - x') (x - x')^T W^T) is reached where A spans the leading K eigenvectors of R S R, R = G^(1/2) (Izenman,
Reduced-rank regression for the multivariate linear model, 1975). It is the sum of the other eigenvalues. A selection of
K channels, which is such an A too, loses at least as much.
"""

from dataclasses import dataclass

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


def prediction_from(projection: Double, covariance: Double, ridge: float) -> Double:
    """Z (C, K) of x ~ Z A x about the means, for channels with that covariance (C, C) and a projection A (K, C). The
    diagonal of the covariance of A x is increased by ``ridge`` times itself."""
    cross = covariance @ projection.T
    inner = projection @ cross
    inner = inner + np.diag(ridge * np.diag(inner) + ridge_floor(np.diag(inner)))
    return np.asarray(np.linalg.solve(inner, cross.T).T)
