"""Chooses the tensors that a student mimics, and weighs their channels.

They are the outputs of the model, and what its layers read: with few samples, such features say far more than the
outputs alone (Wang et al., Compressing models with few samples: mimicking then replacing, ECCV 2022). The loss
of a tensor is its squared error, each channel divided by its variance over the samples:

    L = sum_c v_c e_c / sum_c v_c s_c,   v_c = 1 / (s_c + f mean(s))

e_c and s_c are mean squares of the error and of the deviation from the mean. L is 1 for a student that gives the mean.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from passes.graph.model import Array
from passes.numerics.tuning import NUMERICS
from passes.reconstruction.student import Student


@dataclass(frozen=True)
class MimickedTensor:
    """``name``: of the tensor, in the original and in the student; ``axis``: of its channels; ``share``: its weight
    among the outputs, or among the features; ``feature``: whether it is no output of the model."""

    name: str
    axis: int
    share: float
    feature: bool


def mimicked_tensors(student: Student, outputs: Mapping[str, Array]) -> list[MimickedTensor]:
    """The float outputs of the model, whose values are ``outputs``; what its layers read; and what the last ones give.

    What a layer reads comes after the activation: of values that it cuts off, none needs to be mimicked.
    """
    graph = student.typing.graph
    made = {name for node in student.model.graph.node for name in node.output}
    ends = [name for name in graph.outputs if name in made and outputs[name].dtype.kind == "f" and outputs[name].ndim]
    read = {one.layer.data: one.layer.axis for one in student.layers}
    given = {one.layer.output: one.layer.axis for one in student.layers}
    last = {name: given[name] for name in _read_by_none(student, given)}
    ranks = {name: len(graph.shape(name) or ()) for name in (*read, *last)}
    inner = {n: k % ranks[n] for n, k in {**last, **read}.items() if n in made and n not in ends and ranks[n]}
    of_ends = {name: given.get(name, guessed_channel_axis(outputs[name])) % outputs[name].ndim for name in ends}
    found = [MimickedTensor(name, axis, 1 / len(ends), False) for name, axis in of_ends.items()]
    return [*found, *(MimickedTensor(name, axis, 1 / len(inner), True) for name, axis in inner.items())]


def _read_by_none(student: Student, given: Collection[str]) -> list[str]:
    """The tensors among ``given`` on which no layer depends."""
    needed: set[str] = set()
    read = {one.layer.data for one in student.layers}
    for node in reversed(student.typing.graph.nodes):
        if not needed.union(read).isdisjoint(node.outputs):
            needed.update(node.inputs)
    return [name for name in given if name not in needed and name not in read]


def guessed_channel_axis(values: Array, longest: int = NUMERICS.noise.longest_channels) -> int:
    """The axis of an output (N, ...) along which the spread differs most: the last one of a matrix."""
    axes = [axis for axis in range(1, values.ndim) if 2 <= values.shape[axis] <= longest]
    if values.ndim <= 2 or not axes:
        return values.ndim - 1

    def contrast(axis: int) -> float:
        spread = variances([values], axis)
        spread = spread[spread > 0]
        return float(spread.max() / spread.min()) if len(spread) else 1.0

    return max(axes, key=contrast)


class ChannelVariances:
    """Variance of each channel about the mean of each of its elements over the samples, or over samples and places
    where sizes differ. Batches (n, ...) are added one by one. ``axis``: of the channels."""

    def __init__(self, axis: int) -> None:
        self._axis, self._count = axis, 0
        self._places = 0
        self._sums: list[Array] = []
        """Sum over the samples of each element, one array for each shape that has been seen."""
        self._squares: Array | float = 0.0

    def add(self, values: Array) -> None:
        """Count a batch."""
        values = np.asarray(values)  # once, where it is on a device
        total = values.sum(0, dtype=np.float64)
        same = [k for k, known in enumerate(self._sums) if known.shape == total.shape]
        if same:
            self._sums[same[0]] += total
        else:
            self._sums.append(total)
        self._squares = self._squares + _by_channel(np.square(values, dtype=np.float64), self._axis)
        self._count += len(values)
        self._places += values.size // values.shape[self._axis]

    def result(self) -> Array:
        """(C,)."""
        axis = self._axis - 1
        if len(self._sums) == 1:
            explained = _by_channel(np.square(self._sums[0]), axis) / max(1, self._count)
        else:
            explained = np.square(sum(_by_channel(total, axis) for total in self._sums)) / max(1, self._places)
        return np.asarray(np.maximum(self._squares - explained, 0.0) / max(1, self._places))


def _by_channel(values: Array, axis: int) -> Array:
    """Sums over all axes but ``axis``."""
    return np.asarray(values.sum(tuple(k for k in range(values.ndim) if k != axis)))


def variances(values: Iterable[Array], axis: int) -> Array:
    """`ChannelVariances` of the batches ``values``."""
    found = ChannelVariances(axis)
    for array in values:
        found.add(array)
    return found.result()


def channel_weights(spread: Array, floor: float) -> Array:
    """v_c / sum_c v_c s_c for the variances s_c (C,); zeros where nothing varies."""
    mean = float(spread.mean())
    if not 0 < mean < np.inf:
        return np.zeros_like(spread)
    inverse = 1 / (spread + floor * mean)
    return np.asarray(inverse / float((inverse * spread).sum()))
