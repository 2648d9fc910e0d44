"""Confidence bounds on the loss of a model on unseen samples.

Sizes are tried from the largest down, and each is tested at the full level until one fails. This is fixed-sequence
testing: the probability of accepting a size that loses more is at most 1 - confidence (Angelopoulos, Bates, Candes,
Jordan and Lei, "Learn then Test", 2021, section 4.2). The sizes and their order have to be fixed before the held-out
samples are used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from onnx_merge.evaluation.drop_tests import betting_p, change_bound, change_p, drop_bound, drop_rejected
from onnx_merge.tuning.evaluation import GUARANTEES


@dataclass(frozen=True, slots=True)
class Promise:
    """A confidence bound, and the evidence for it."""

    max_drop: float
    """Upper bound of the loss, in the units of ``max_drop``: percentage points, or those of a metric."""
    confidence: float
    """Lower bound of the probability that this holds on samples like the held-out ones."""
    samples: int
    """Number of held-out samples."""
    sizes_tried: int
    bound: float
    """Upper confidence bound of this size's loss, as if no other size had been tried."""
    measure: str
    """What the loss refers to: accuracy, agreement or a metric."""


class Loss(Protocol):
    """The loss of a model on samples, and statistical statements on its expected loss."""

    @property
    def samples(self) -> int:
        """Number of samples."""

    @property
    def mean(self) -> float:
        """Mean loss on these samples, in percentage points or a metric's units."""

    def kept(self, limit: float, alpha: float) -> bool:
        """Whether the expected loss is shown to be at most ``limit`` at level ``alpha``."""

    def bound(self, limit: float, alpha: float) -> float:
        """Return an upper confidence bound of the expected loss, if ``limit`` is kept."""

    @property
    def variance(self) -> float:
        """Variance between samples, in the squared units of ``mean``."""

    def of(self, samples: int) -> Loss:
        """Return the same kind of loss on another number of samples, with the same share of losses or a slightly
        larger one."""


@dataclass(frozen=True, slots=True)
class AccuracyLoss:
    """Loss of accuracy. ``losses``: samples that became wrong. ``gains``: samples that became right."""

    losses: int
    gains: int
    samples: int

    @property
    def mean(self) -> float:
        """Loss of accuracy in percentage points: samples that became wrong less those that became right."""
        return 100 * (self.losses - self.gains) / max(1, self.samples)

    def kept(self, limit: float, alpha: float) -> bool:
        """Whether an exact test on the losses and gains shows the drop to be at most ``limit`` points at level
        ``alpha``."""
        return limit >= 100 or drop_rejected(self.losses, self.gains, self.samples, limit / 100, alpha)

    def bound(self, limit: float, alpha: float) -> float:
        """Upper bound of the drop in percentage points, by the exact test at `bound_steps` steps."""
        return 100 * drop_bound(self.losses, self.gains, self.samples, alpha, limit / 100, GUARANTEES.bound_steps)

    @property
    def variance(self) -> float:
        """Variance of a sample that counts 100 if it became wrong, -100 if it became right, and else 0."""
        return 1e4 * (self.losses + self.gains) / max(1, self.samples) - self.mean**2

    def of(self, samples: int) -> AccuracyLoss:
        """The loss on ``samples`` samples: losses rounded up, gains rounded down."""
        times = samples / max(1, self.samples)
        return AccuracyLoss(math.ceil(times * self.losses), math.floor(times * self.gains), samples)


@dataclass(frozen=True, slots=True)
class AgreementLoss:
    """Loss of agreement: ``changes`` of ``samples`` changed class."""

    changes: int
    samples: int

    @property
    def mean(self) -> float:
        """Percentage of the samples that changed class."""
        return 100 * self.changes / max(1, self.samples)

    def kept(self, limit: float, alpha: float) -> bool:
        """Whether a binomial test shows that at most ``limit`` percent change class, at level ``alpha``."""
        return limit >= 100 or change_p(self.changes, self.samples, limit / 100) <= alpha

    def bound(self, limit: float, alpha: float) -> float:
        """Upper binomial bound (Clopper and Pearson) of the percentage that changes class, at most ``limit``."""
        return min(limit, 100 * change_bound(self.changes, self.samples, alpha))

    @property
    def variance(self) -> float:
        """Variance of a sample that counts 100 if it changed class, and else 0."""
        return self.mean * (100 - self.mean)

    def of(self, samples: int) -> AgreementLoss:
        """The loss on ``samples`` samples, with the number of changes rounded up."""
        return AgreementLoss(math.ceil(samples / max(1, self.samples) * self.changes), samples)


@dataclass(frozen=True, eq=False, slots=True)
class MeanLoss:
    """Loss of a metric that is a mean over samples: the decrease on each sample (N,), at most ``largest``."""

    falls: NDArray[np.float64]
    largest: float

    @property
    def samples(self) -> int:
        """Number of samples N."""
        return len(self.falls)

    @property
    def mean(self) -> float:
        """Mean decrease of the metric, in its units; 0 without samples."""
        return float(self.falls.mean()) if len(self.falls) else 0.0

    def kept(self, limit: float, alpha: float) -> bool:
        """Whether a betting test shows the mean decrease to be at most ``limit`` at level ``alpha``."""
        return limit >= self.largest or betting_p(self.falls, limit, self.largest) <= alpha

    def bound(self, limit: float, alpha: float) -> float:
        """Smallest of `bound_steps` equal steps up to ``limit`` that the betting test still shows to be kept."""
        steps = GUARANTEES.bound_steps
        kept = (k for k in range(steps, 0, -1) if not self.kept(limit * (k - 1) / steps, alpha))
        return limit * next(kept, 1) / steps

    @property
    def variance(self) -> float:
        """Variance of the decrease over the samples, in squared units of the metric."""
        return float(self.falls.var()) if len(self.falls) else 0.0

    def of(self, samples: int) -> MeanLoss:
        """The loss on ``samples`` samples: the decreases repeated in their order, or the first of them."""
        return MeanLoss(np.resize(self.falls, samples), self.largest)


def samples_needed(found: Loss, limit: float, alpha: float) -> int | None:
    """Return about how many samples would show ``limit`` to be kept, if further ones lose what those of ``found`` lose.

    The search starts from the normal approximation. None if no number is enough.
    """
    missing = limit - found.mean
    if missing <= 0:
        return None
    count = max(found.samples + 1.0, float(ndtri(alpha)) ** 2 * found.variance / missing**2)
    while count < GUARANTEES.exact_samples and not found.of(math.ceil(count)).kept(limit, alpha):
        count *= 1.1
    return math.ceil(count)


def fewest(no_loss: Loss, limit: float, alpha: float) -> int:
    """Return how many samples are needed to show that ``limit`` is kept if no sample loses anything.

    ``no_loss``: a loss of zero. For accuracy and agreement the number is ln(alpha) / ln(1 - limit / 100): 299 for one
    point at confidence 0.95.
    """
    low, high = 0, 1
    while not no_loss.of(high).kept(limit, alpha):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if no_loss.of(middle).kept(limit, alpha) else (middle, high)
    return high


def last_kept(tried: Sequence[Loss], limit: float, alpha: float) -> int | None:
    """Return the index of the last loss before the first that does not keep ``limit``. ``tried``: largest size
    first."""
    found: int | None = None
    for index, loss in enumerate(tried):
        if not loss.kept(limit, alpha):
            break
        found = index
    return found
