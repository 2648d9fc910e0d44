"""Losses whose gradients are asked for: each names a tensor, and the inputs that its targets come as."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnx

from passes.axes.gradient_writer import GraphWriter
from passes.graph.model import Array


class ScalarLoss(Protocol):
    """A scalar function of a ``tensor`` and of inputs."""

    @property
    def tensor(self) -> str:
        """The tensor that it judges."""

    @property
    def inputs(self) -> Sequence[str]:
        """The inputs that it adds to the model. They have the type and the rank of the tensor."""

    def terms(self, write: GraphWriter, kind: int) -> tuple[str, str]:
        """(loss, its gradient with respect to the tensor), of element type ``kind``."""


@dataclass(frozen=True)
class SquaredError:
    """L = 1/2 sum w (y - t)^2 for the tensor y. The target t is the input ``target``; the weights w, which broadcast to
    y from the same rank, are the input ``weight``, or 1 without one."""

    tensor: str
    target: str
    weight: str | None = None

    @property
    def inputs(self) -> Sequence[str]:
        """Target and weights."""
        return [self.target, *([self.weight] if self.weight else [])]

    def terms(self, write: GraphWriter, kind: int) -> tuple[str, str]:
        """(loss, w (y - t))."""
        error = write.op("Sub", self.tensor, self.target)
        slope = write.op("Mul", error, self.weight) if self.weight else error
        total = write.total(write.op("Mul", error, slope))
        return write.op("Mul", total, _number(write, kind, 0.5)), slope


@dataclass(frozen=True)
class KullbackLeibler:
    """L = sum w t (log t - log p): the divergence from the target probabilities t, which are the input ``target``, to
    p = softmax(y) along ``axis``, or p = y where the tensor holds ``probabilities``. The weights w, the input
    ``weight``, have the shape of y but size one along ``axis``. The targets sum to one along ``axis``."""

    tensor: str
    target: str
    weight: str | None = None
    axis: int = -1
    probabilities: bool = False
    smallest: float = 1e-12
    """Probabilities are counted as at least this."""

    @property
    def inputs(self) -> Sequence[str]:
        """Target and weights."""
        return [self.target, *([self.weight] if self.weight else [])]

    def terms(self, write: GraphWriter, kind: int) -> tuple[str, str]:
        """(loss, w (p - t) or, of probabilities, - w t / p)."""
        floor = _number(write, kind, self.smallest)
        logarithm = write.op("Log", write.op("Max", self.target, floor))
        if self.probabilities:
            held = write.op("Max", self.tensor, floor)
            slope = write.op("Neg", write.op("Div", self.target, held))
            log_p = write.op("Log", held)
        else:
            log_p = write.log_softmax(self.tensor, self.axis)
            slope = write.op("Sub", write.op("Exp", log_p), self.target)
        each = write.op("Mul", self.target, write.op("Sub", logarithm, log_p))
        if self.weight:
            each, slope = (write.op("Mul", v, self.weight) for v in (each, slope))
        return write.total(each), slope


@dataclass(frozen=True)
class BinaryDivergence:
    """L = sum w (t (log t - log p) + (1 - t) (log (1 - t) - log (1 - p))): the divergence from the target
    probabilities t, which are the input ``target``, to p = sigmoid(y) of each element of the tensor. The weights w are
    the input ``weight``. Both have the shape of y."""

    tensor: str
    target: str
    weight: str
    smallest: float = 1e-12
    """Target probabilities are counted as at least this."""

    @property
    def inputs(self) -> Sequence[str]:
        """Target and weights."""
        return [self.target, self.weight]

    def terms(self, write: GraphWriter, kind: int) -> tuple[str, str]:
        """(loss, w (p - t))."""
        floor, one = _number(write, kind, self.smallest), _number(write, kind, 1.0)
        parts: list[str] = []
        for target, logit in (
            (self.target, self.tensor),
            (write.op("Sub", one, self.target), write.op("Neg", self.tensor)),
        ):
            missing = write.op("Softplus", write.op("Neg", logit))  # - log p
            entropy = write.op("Log", write.op("Max", target, floor))
            parts.append(write.op("Mul", target, write.op("Add", entropy, missing)))
        each = write.op("Mul", write.op("Add", *parts), self.weight)
        slope = write.op("Mul", write.op("Sub", write.op("Sigmoid", self.tensor), self.target), self.weight)
        return write.total(each), slope


@dataclass(frozen=True, eq=False)
class RecordedStatistics:
    """L = mean over channels of (mu - m)^2 / v + (log (s / v))^2 / 4: how far the mean mu and the variance s of a
    tensor y (N, C, ...) over a batch are from the recorded ``mean`` m and ``variance`` v, both (C,) (Yin et al.,
    DeepInversion, CVPR 2020, equation 4; here relative to v). The second term is near that of the standard deviation.

    ``rank``: of the tensor. Channels whose variance is below ``dead`` times the largest one do not count. The variances
    are increased by ``floor`` v.
    """

    tensor: str
    mean: Array
    variance: Array
    rank: int
    dead: float
    floor: float
    largest_offset: float = 10.0
    """Recorded mean in deviations from which on the mean is subtracted before values are squared."""

    @property
    def inputs(self) -> Sequence[str]:
        """None: the recorded statistics are constants."""
        return []

    def terms(self, write: GraphWriter, kind: int) -> tuple[str, str]:
        """(loss, its gradient): the mean and the variance each pass an equal part to every place."""
        axes = [axis for axis in range(self.rank) if axis != 1]
        live = self.variance > self.dead * self.variance.max(initial=0.0)
        v = np.where(live, np.maximum(self.variance, 1e-30), 1.0)
        share = live / max(1, live.sum())

        def line(values: Array) -> str:
            made = np.asarray(values).reshape(-1, *[1] * (self.rank - 2))
            return write.constant(made.astype(onnx.helper.tensor_dtype_to_np_dtype(kind)))

        # The mean square less the square of the mean loses digits where the mean is far larger than the deviation.
        offset = np.where(live, np.abs(self.mean) / np.sqrt(v), 0.0).max(initial=0.0) > self.largest_offset
        y = write.op("Sub", self.tensor, line(self.mean)) if offset else self.tensor
        recorded = np.zeros_like(self.mean) if offset else self.mean
        mu = write.mean(y, axes)
        square = write.mean(write.op("Mul", y, y), axes)
        spread = write.op("Max", write.op("Sub", square, write.op("Mul", mu, mu)), _number(write, kind, 0.0))
        s = write.op("Add", spread, line(self.floor * v))
        shift = write.op("Sub", mu, line(recorded))
        ratio = write.op("Log", write.op("Mul", s, line(1 / ((1 + self.floor) * v))))
        first = write.op("Mul", write.op("Mul", shift, shift), line(share / v))
        second = write.op("Mul", write.op("Mul", ratio, ratio), line(share / 4))
        places = write.op("Cast", write.op("Size", self.tensor), to=kind)
        each = write.op("Div", _number(write, kind, len(v)), places)
        by_mean = write.op("Mul", write.op("Mul", shift, line(2 * share / v)), each)
        by_variance = write.op("Mul", write.op("Div", write.op("Mul", ratio, line(share)), s), each)
        rest = write.op("Sub", by_mean, write.op("Mul", by_variance, mu))
        slope = write.op("Add", write.op("Mul", y, by_variance), rest)  # only these two run over all places
        return write.op("Add", write.total(first), write.total(second)), slope


def _number(write: GraphWriter, kind: int, value: float) -> str:
    return write.constant(np.array(value, onnx.helper.tensor_dtype_to_np_dtype(kind)))
