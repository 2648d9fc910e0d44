"""Measures how many samples change class, and the divergence between distributions over classes.

Distributions are recognised by their values, whatever nodes computed them: along one axis the values, or their
exponentials, sum to 1.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, log_softmax

from onnx_merge.evaluation.thresholds import THRESHOLDS
from onnx_merge.tuning.evaluation import CLASS_CHANGES

Array = NDArray[Any]
Kind = Literal["probabilities", "log-probabilities", "logits", "labels", "maps"]


@dataclass(frozen=True, slots=True)
class ClassChanges:
    """Change of one output's classes.

    ``changed``: share of places that change class; ``low``, ``high``: its 95% interval. ``kl``: mean Kullback-Leibler
    divergence of the result's distributions from the original's, in nats. ``reason``: why the samples do not test the
    output, if they do not.
    """

    kl: float | None
    changed: float
    low: float
    high: float
    likely: tuple[float, float]
    """Lower and upper bound of the share, each at confidence `ClassTuning.one_sided_confidence`."""
    reason: str | None
    moves: tuple[tuple[int, int, int], ...] = ()
    """(class before, class after, number of places), the most frequent first, at most `ClassTuning.most_pairs` of
    them."""


def distribution(output: Array) -> tuple[Kind, int] | None:
    """Return the kind of distribution that an output (samples, ...) holds and its axis; None if it holds none."""
    if output.dtype.kind != "f" or output.size == 0:
        return None
    tolerance = 1e-3 if np.finfo(output.dtype).eps < 1e-4 else 3e-2
    low, high = float(output.min()), float(output.max())
    kinds: tuple[tuple[Kind, bool], ...] = (("probabilities", low >= 0), ("log-probabilities", high <= tolerance))
    for axis in range(output.ndim - 1, 0, -1):
        for kind, possible in kinds:
            if possible and output.shape[axis] > 1:
                chances = output if kind == "probabilities" else np.exp(output)
                if np.abs(chances.sum(axis, dtype=np.float64) - 1).max() <= tolerance:
                    return kind, axis
    return None


@dataclass(slots=True)
class ClassMeter:
    """Accumulates samples of one output, whose classes lie along ``axis``: call `add`, then `result`."""

    kind: Kind
    axis: int = 1
    _kl: float = 0.0
    _information: float = 0.0
    _classes: int = 2
    _before: list[Counter[int]] = field(default_factory=list)
    """For each sample: class -> number of places where the original predicts it."""
    _kept: list[Counter[int]] = field(default_factory=list)
    """For each sample: class -> number of places where the original and the result predict it."""
    _moves: Counter[tuple[int, int]] = field(default_factory=Counter)
    """(class before, class after) -> number of places, where they differ."""

    def add(self, exact: Array, now: Array) -> None:
        """Add samples of the output (n, ...) of the original and of the result; both have one shape."""
        step = max(1, CLASS_CHANGES.block * len(exact) // max(1, exact.size))
        for start in range(0, len(exact), step):
            a, b = (self._rows(values[start : start + step]) for values in (exact, now))
            if self.kind == "labels":
                before, after = a[..., 0], b[..., 0]
            else:
                before, after = a.argmax(-1), b.argmax(-1)
                self._diverge(self._logs(a), self._logs(b))
            for old, new in zip(before, after, strict=True):
                self._before.append(_counts(old))
                self._kept.append(_counts(old[old == new]))
                self._moves.update(_pairs(old[old != new], new[old != new]))

    def _rows(self, values: Array) -> Array:
        """Reshape to (samples, places, classes)."""
        if self.kind == "labels":
            return values.reshape(len(values), -1, 1)
        values = np.moveaxis(values, self.axis, -1)
        return values.reshape(len(values), -1, values.shape[-1])

    def _logs(self, values: Array) -> Array:
        values = values.astype(np.float64)
        if self.kind == "probabilities":
            # A probability that was rounded to 0 is not impossible.
            values = np.log(np.maximum(values, np.finfo(np.float32).tiny))
        return np.asarray(log_softmax(values, axis=-1))

    def _diverge(self, before: Array, after: Array) -> None:
        """Add, over the samples, the means over their places of sum p log(p / q) and of sum p log(p C)."""
        chances = np.exp(before)
        self._kl += float((chances * (before - after)).sum(-1).mean(1).sum())
        self._information += float(((chances * before).sum(-1) + math.log(before.shape[-1])).mean(1).sum())
        self._classes = before.shape[-1]

    def peaked(self) -> bool:
        """Whether the samples' scores separate classes as a classifier's scores do."""
        return self._information >= CLASS_CHANGES.least_information * len(self._before) * math.log(self._classes)

    def result(self) -> ClassChanges:
        """Return the changes on the samples added so far.

        If samples have several places (pixels, anchors, letters), those places count at which the original or the
        result predicts another class than the most frequent one. Where almost all places are background, the others
        matter.
        """
        every: Counter[int] = sum(self._before, Counter())
        usual = every.most_common(1)[0][0]
        places = np.array([c.total() for c in self._before])
        changed = places - [c.total() for c in self._kept]
        others = places - [c[usual] for c in self._before]
        counted = places - [c[usual] for c in self._kept] if places.max() > 1 else places
        share, drawn = _share(changed, counted)
        low, high = share_bounds(share * drawn, drawn, (1 - CLASS_CHANGES.confidence) / 2)
        likely = share_bounds(share * drawn, drawn, 1 - CLASS_CHANGES.one_sided_confidence)
        shown = float((others > 0).mean())
        reason = None
        if shown <= THRESHOLDS.changed:
            reason = f"{100 * (1 - shown):.0f}% of the samples show one class only"
        kl = None if self.kind == "labels" else max(0.0, self._kl / len(places))
        moves = tuple((old, new, count) for (old, new), count in self._moves.most_common(CLASS_CHANGES.most_pairs))
        return ClassChanges(kl, share, low, high, likely, reason, moves)


def _counts(values: Array) -> Counter[int]:
    if values.size and values.min() >= 0 and values.max() < values.size:  # sorting millions of pixels takes seconds
        found = np.bincount(values.astype(np.int64))
        return Counter({int(k): int(found[k]) for k in np.flatnonzero(found)})
    return Counter(dict(zip(*(a.tolist() for a in np.unique(values, return_counts=True)), strict=True)))


def _pairs(before: Array, after: Array) -> Counter[tuple[int, int]]:
    """(class before, class after) -> number of places."""
    if before.size == 0:
        return Counter()
    classes, places = np.unique(np.concatenate([before, after]), return_inverse=True)
    # one number for each pair, since sorting pairs takes ten times as long
    pairs, counts = np.unique(places[: before.size] * len(classes) + places[before.size :], return_counts=True)
    old, new = (classes[k].tolist() for k in np.divmod(pairs, len(classes)))
    return Counter(dict(zip(zip(old, new, strict=True), counts.tolist(), strict=True)))


def _share(changed: NDArray[np.int64], counted: NDArray[np.int64]) -> tuple[float, float]:
    """Return the share of the counted places that changed, by sample, and the effective number of independent draws.

    Places of one sample are correlated and do not count as independent draws. The effective number is the one that
    would explain the variation of the share from sample to sample (Kish, Survey Sampling, 1965), and at least the
    number of samples.
    """
    total, samples = int(counted.sum()), int((counted > 0).sum())
    if total == 0:
        return 0.0, 0.0
    share, drawn = float(changed.sum() / total), float(samples)
    off = changed - share * counted
    variance = float((off * off).sum()) / total**2 * samples / max(1, samples - 1)
    if variance > 0:
        drawn = min(max(share * (1 - share) / variance, drawn), float(total))
    return share, drawn


def share_bounds(found: float, drawn: float, tail: float) -> tuple[float, float]:
    """Return the lower and the upper bound of a share that was ``found`` among ``drawn`` draws.

    At these bounds, so many or more, and so many or fewer, are found with probability ``tail`` (Clopper and Pearson,
    Biometrika 1934).
    """
    low = float(betaincinv(found, drawn - found + 1, tail)) if found > 0 else 0.0
    high = float(betaincinv(found + 1, drawn - found, 1 - tail)) if found < drawn else 1.0
    return low, high
