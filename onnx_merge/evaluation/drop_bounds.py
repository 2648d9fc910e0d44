"""A promise about samples that nobody has seen: a model loses no more than so much, with so much confidence.

Sizes are tried from the largest down, and each is tested at the whole level until one fails: fixed-sequence testing, by
which a size that loses more is taken with a probability of at most 1 - confidence (Angelopoulos, Bates, Candes, Jordan
and Lei, "Learn then Test", 2021, section 4.2). Which sizes, and in which order, has to be settled before the held-out
samples are looked at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from onnx_merge.evaluation.drop_tests import betting_p, change_bound, change_p, drop_bound, drop_rejected

LADDER = tuple(round(0.95 - 0.05 * k, 2) for k in range(19))
"""Shares of the multiply-adds that are tried, as long as the promise can be made."""
MANY = 20_000
"""Samples from which on the normal distribution tells how many it takes."""
STEPS = 20
"""Parts of what may be lost, in which a bound is told."""


@dataclass(frozen=True, slots=True)
class Promise:
    """What is promised, and what it rests on."""

    max_drop: float
    """What is lost at most, in the units of ``max_drop``: points, or those of a metric."""
    confidence: float
    """Probability, at least, that this holds on samples like those held out."""
    samples: int
    """That were held out."""
    sizes_tried: int
    bound: float
    """Upper bound, at this confidence, of what this size loses, if it were the only one that had been tried."""
    measure: str
    """What is lost: accuracy, agreement or a metric."""


class Loss(Protocol):
    """What a model lost on samples, and what can be said of others."""

    @property
    def samples(self) -> int:
        """Number of samples."""

    @property
    def mean(self) -> float:
        """Lost on these, in points or a metric's units."""

    def kept(self, limit: float, alpha: float) -> bool:
        """Whether it is shown, at level ``alpha``, that ``limit`` at most is lost on other samples."""

    def bound(self, limit: float, alpha: float) -> float:
        """A bound of what is lost on other samples, where ``limit`` is kept."""

    @property
    def variance(self) -> float:
        """From sample to sample, in the units of ``mean``."""

    def of(self, samples: int) -> Loss:
        """The same of so many samples, of which as large a share is lost, or hardly more."""


@dataclass(frozen=True, slots=True)
class AccuracyLoss:
    """``losses`` were right before and are wrong after, ``gains`` the other way round."""

    losses: int
    gains: int
    samples: int

    @property
    def mean(self) -> float:
        """See `Loss`."""
        return 100 * (self.losses - self.gains) / max(1, self.samples)

    def kept(self, limit: float, alpha: float) -> bool:
        """See `Loss`."""
        return limit >= 100 or drop_rejected(self.losses, self.gains, self.samples, limit / 100, alpha)

    def bound(self, limit: float, alpha: float) -> float:
        """See `Loss`."""
        return 100 * drop_bound(self.losses, self.gains, self.samples, alpha, limit / 100, STEPS)

    @property
    def variance(self) -> float:
        """See `Loss`."""
        return 1e4 * (self.losses + self.gains) / max(1, self.samples) - self.mean**2

    def of(self, samples: int) -> AccuracyLoss:
        """See `Loss`."""
        times = samples / max(1, self.samples)
        return AccuracyLoss(math.ceil(times * self.losses), math.floor(times * self.gains), samples)


@dataclass(frozen=True, slots=True)
class AgreementLoss:
    """``changes`` of ``samples`` have another class."""

    changes: int
    samples: int

    @property
    def mean(self) -> float:
        """See `Loss`."""
        return 100 * self.changes / max(1, self.samples)

    def kept(self, limit: float, alpha: float) -> bool:
        """See `Loss`."""
        return limit >= 100 or change_p(self.changes, self.samples, limit / 100) <= alpha

    def bound(self, limit: float, alpha: float) -> float:
        """See `Loss`."""
        return min(limit, 100 * change_bound(self.changes, self.samples, alpha))

    @property
    def variance(self) -> float:
        """See `Loss`."""
        return self.mean * (100 - self.mean)

    def of(self, samples: int) -> AgreementLoss:
        """See `Loss`."""
        return AgreementLoss(math.ceil(samples / max(1, self.samples) * self.changes), samples)


@dataclass(frozen=True, eq=False, slots=True)
class MeanLoss:
    """What a metric that is a mean over samples falls by on each, (N,), ``largest`` at most."""

    falls: NDArray[np.float64]
    largest: float

    @property
    def samples(self) -> int:
        """See `Loss`."""
        return len(self.falls)

    @property
    def mean(self) -> float:
        """See `Loss`."""
        return float(self.falls.mean()) if len(self.falls) else 0.0

    def kept(self, limit: float, alpha: float) -> bool:
        """See `Loss`."""
        return limit >= self.largest or betting_p(self.falls, limit, self.largest) <= alpha

    def bound(self, limit: float, alpha: float) -> float:
        """See `Loss`."""
        kept = (k for k in range(STEPS, 0, -1) if not self.kept(limit * (k - 1) / STEPS, alpha))
        return limit * next(kept, 1) / STEPS

    @property
    def variance(self) -> float:
        """See `Loss`."""
        return float(self.falls.var()) if len(self.falls) else 0.0

    def of(self, samples: int) -> MeanLoss:
        """See `Loss`."""
        return MeanLoss(np.resize(self.falls, samples), self.largest)


def samples_needed(found: Loss, limit: float, alpha: float) -> int | None:
    """About how many samples would do to keep ``limit`` if others lose what those of ``found`` do: at first by the
    normal distribution. None if no number would."""
    missing = limit - found.mean
    if missing <= 0:
        return None
    count = max(found.samples + 1.0, float(norm.isf(alpha)) ** 2 * found.variance / missing**2)
    while count < MANY and not found.of(math.ceil(count)).kept(limit, alpha):
        count *= 1.1
    return math.ceil(count)


def fewest(nothing: Loss, limit: float, alpha: float) -> int:
    """Samples that are needed to keep ``limit`` if not one of them loses anything, as ``nothing`` does. Of accuracy and
    agreement it is ln(alpha) / ln(1 - limit / 100): 299 for one point at confidence 0.95."""
    few, many = 0, 1
    while not nothing.of(many).kept(limit, alpha):
        few, many = many, 2 * many
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if nothing.of(middle).kept(limit, alpha) else (middle, many)
    return many


def last_kept(tried: Sequence[Loss], limit: float, alpha: float) -> int | None:
    """Index of the last of ``tried``, from the largest size down, before the first that does not keep ``limit``."""
    found: int | None = None
    for index, loss in enumerate(tried):
        if not loss.kept(limit, alpha):
            break
        found = index
    return found
