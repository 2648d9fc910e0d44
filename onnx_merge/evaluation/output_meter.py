"""Compares one output of two models, batch by batch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_merge.equivalence.structure import is_float
from onnx_merge.errors import StructureError
from onnx_merge.evaluation.class_changes import ClassMeter, Kind, distribution
from onnx_merge.evaluation.thresholds import THRESHOLDS
from onnx_merge.evaluation.verdict import OutputFidelity
from onnx_merge.tuning.evaluation import CLASS_CHANGES
from passes.numerics.noise_to_signal import Noise, NoiseMeter

Array = NDArray[Any]
IMPOSSIBLE = -6e4
"""Score in place of -inf, with which models mask out classes."""


@dataclass(slots=True)
class Distance:
    """Accumulated cosines and relative error of one output."""

    cosines: list[float] = field(default_factory=list)
    squares: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    """Sums over all samples of (result - original)^2, original^2, result^2."""

    def add(self, a: Array, b: Array) -> None:
        """Add samples (n, ...), all finite.

        If the sizes differ (a number of detections), the smaller one is padded with zeros, so that missing elements
        count as differences.
        """
        a, b = (x.reshape(len(x), -1).astype(np.float64) for x in (a, b))
        width = max(a.shape[1], b.shape[1])
        a, b = (np.pad(x, ((0, 0), (0, width - x.shape[1]))) for x in (a, b))
        aa, bb = (a * a).sum(1), (b * b).sum(1)
        self.squares += (float(((a - b) ** 2).sum()), float(aa.sum()), float(bb.sum()))
        norms = np.sqrt(aa * bb)  # in this order, equal vectors have a cosine of exactly 1
        # Two zero vectors agree; one alone has no direction in common with anything.
        cosines = np.where((aa == 0) & (bb == 0), 1.0, (a * b).sum(1) / np.where(norms > 0, norms, 1.0))
        self.cosines += np.clip(cosines, -1, 1).tolist()

    def cosine(self) -> float:
        """Mean cosine over the samples."""
        return float(np.mean(self.cosines))

    def relative_l2(self) -> float:
        """Norm of the error relative to the original's norm, or to the result's if the original is all zeros."""
        difference, original, result = self.squares.tolist()
        return math.sqrt(difference / (original or result or 1.0))


@dataclass(slots=True)
class OutputMeter:
    """Accumulates batches of one output. ``scores``: it is the only output with scores, (N, classes)."""

    name: str
    scores: bool
    by_sample: bool = True
    """Whether the first axis is the sample axis."""
    is_float: bool = True
    """Whether it holds floating-point numbers, rounded ones included."""
    values: int = 0
    """Number of values of the original that were compared."""
    distance: Distance = field(default_factory=Distance)
    _noise: NoiseMeter = field(default_factory=NoiseMeter)
    _classes: ClassMeter | None = None
    _started: bool = False
    _marks: NoiseMeter | None = None
    """Compares where values are finite, if some are not: in the original such values mark places, as masks do."""
    _samples: int = 0
    _broken: bool = False
    """Whether a value of the result is not finite where the original's is."""

    def add(self, expected: Array, actual: Array, size: int, valid: int) -> None:
        """Add a batch of ``size`` samples, of which the first ``valid`` count. Without a sample axis, it counts as one
        sample."""
        self.is_float = is_float(expected)
        batched = all(a.ndim > 0 and a.shape[0] == size for a in (expected, actual))
        self.by_sample &= batched or size == 1
        self.values += expected.size
        a, b = ((x if batched else x[None])[:valid] for x in (expected, actual))
        finite, same = np.isfinite(a), a.shape == b.shape
        if same:
            self._mark(finite, np.isfinite(b))
        self._broken |= not np.isfinite(b[finite] if same else b).all()
        if not same:  # rows are missing: to compare the classes of the others would not say so
            self._started, self._classes = True, None
        elif a.size:  # a number of rows that depends on the data may be 0
            self._count(a, b)
        a, b = (np.where(np.isfinite(x), x, 0) for x in (a, b))
        self.distance.add(a, b)
        self._noise.add(a, b)

    def _mark(self, before: NDArray[np.bool_], after: NDArray[np.bool_]) -> None:
        """Add where values of the original and of the result are finite, from the first batch on."""
        if self._marks is None and not (before.all() and after.all()):
            self._marks = NoiseMeter()
            for start in range(0, self._samples, len(before)):
                count = min(len(before), self._samples - start)
                earlier = np.ones((count, *before.shape[1:]), np.float32)
                self._marks.add(earlier, earlier)
        if self._marks is not None:
            self._marks.add(before.astype(np.float32), after.astype(np.float32))
        self._samples += len(before)

    def _count(self, a: Array, b: Array) -> None:
        """Add the batch to the class statistics, as long as the output holds classes."""
        kind: tuple[Kind, int] | None = ("labels", 1)
        if is_float(a):
            a, b = (np.where(np.isfinite(x), x, IMPOSSIBLE) for x in (a, b))
            kind = distribution(a) or (("logits", 1) if self.scores else _maps(a))
        if not self._started:
            self._started, self._classes = True, ClassMeter(*kind) if kind else None
        if self._classes is not None and kind is not None and kind[0] == self._classes.kind:
            self._classes.add(a, b)
        else:
            self._classes = None

    def result(self) -> OutputFidelity:
        """Return the fidelity on the samples added so far.

        Raises
        ------
        StructureError: the result is not finite where the original is for every sample.
        """
        noise, classes = self._noise.result(), self._classes
        marks = self._marks.result() if self._marks is not None else None
        if self._broken and (marks is None or marks.nsr is None):
            raise StructureError(f"output {self.name!r} of the result is not finite where the original's is")
        noise = noise if marks is None else _worse(noise, marks)
        found = classes.result() if classes is not None else None
        if classes is not None and found is not None and classes.kind == "logits":
            # (N, C) numbers that are not class scores: features, quantities of different scales, or a constant order.
            alike = classes.peaked() and noise.scales <= 1
            found = found if alike and found.reason is None else None
        if classes is None or found is None or classes.kind == "maps":
            few_change = found is not None and found.changed <= THRESHOLDS.changed
            spared = classes is not None and few_change and classes.peaked()
            return OutputFidelity(
                self.name,
                noise.nsr,
                tested=noise.reason is None,
                reason=noise.reason,
                nsr_error=noise.error,
                spared=spared and noise.scales <= 1,
                constant=noise.constant,
                by_sample=noise.by_sample,
            )
        return OutputFidelity(
            name=self.name,
            nsr=None if classes.kind == "labels" else noise.nsr,
            kl=found.kl,
            changed=found.changed,
            changed_low=found.low,
            changed_high=found.high,
            tested=found.reason is None,
            reason=found.reason,
            likely=found.likely,
            told_by_values=classes.kind == "logits",
            nsr_error=noise.error,
            constant=noise.constant,
            moves=found.moves,
            by_sample=noise.by_sample,
        )


def _worse(values: Noise, marks: Noise) -> Noise:
    """The noise of the values or of the marks, of those that the samples test if there are any."""
    worse = max(values, marks, key=lambda noise: (noise.reason is None, noise.nsr or 0.0))
    return replace(worse, scales=values.scales, constant=values.constant and marks.constant)


def _maps(output: Array) -> tuple[Kind, int] | None:
    """Return kind and class axis if these are maps of scores: the class axis is the first after the samples, or the
    last."""
    if output.ndim < 4:
        return None
    axis = 1 if output.shape[1] <= output.shape[-1] else output.ndim - 1
    return ("maps", axis) if 1 < output.shape[axis] <= CLASS_CHANGES.most_map_classes else None
