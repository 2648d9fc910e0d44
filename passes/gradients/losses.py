"""Losses whose gradients are asked for: each names a tensor, and the inputs that its targets come as."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnx

from passes.axes.gradient_writer import GraphWriter


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


def _number(write: GraphWriter, kind: int, value: float) -> str:
    return write.constant(np.array(value, onnx.helper.tensor_dtype_to_np_dtype(kind)))
