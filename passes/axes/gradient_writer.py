"""Writes nodes in the form that an opset asks for: reductions, slices and pads once took attributes, not inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from passes.graph.model import Array


class NewerOpsetError(Exception):
    """A gradient needs an operator that the model's opset does not have; ``version`` has it."""

    def __init__(self, op: str, version: int) -> None:
        super().__init__(f"its gradient needs {op} of opset {version}")
        self.version = version


class GraphWriter:
    """Collects nodes and constants. Its methods return the name of the tensor that they create.

    Every name begins with ``prefix``, with which no name of the model may begin.
    """

    def __init__(self, opset: int, prefix: str) -> None:
        self.opset, self._prefix = opset, prefix
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._count = 0

    def fresh(self) -> str:
        """A name that is not in use."""
        self._count += 1
        return f"{self._prefix}{self._count}"

    def named(self, name: str) -> str:
        """A name that is not in use, for what belongs to the tensor ``name``."""
        return f"{self._prefix}of.{name}"

    def require(self, op: str, version: int) -> None:
        """Stop unless the opset has ``op``.

        Raises
        ------
        NewerOpsetError: the opset is older than ``version``.
        """
        if self.opset < version:
            raise NewerOpsetError(op, version)

    def constant(self, value: Array) -> str:
        """A constant. Equal ones share a name."""
        array = np.asarray(value, order="C")
        key = (str(array.dtype), array.shape, array.tobytes())
        if key not in self._known:
            self._known[key] = self.fresh()
            self.constants.append(numpy_helper.from_array(array, self._known[key]))
        return self._known[key]

    def ints(self, *values: int) -> str:
        """An int64 vector."""
        return self.constant(np.array(values, np.int64))

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """A node with one output.

        Raises
        ------
        NewerOpsetError: the opset does not have it.
        """
        if not onnx.defs.has(kind, self.opset):
            newer = range(self.opset + 1, onnx.defs.onnx_opset_version() + 1)
            raise NewerOpsetError(kind, next(version for version in newer if onnx.defs.has(kind, version)))
        name = self.fresh()
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def cast(self, source: str, kind: int) -> str:
        """``source`` as elements of type ``kind``."""
        return self.op("Cast", source, to=kind)

    # -- reductions ------------------------------------------------------------------------------------------------
    def sum(self, source: str, axes: Sequence[int], keepdims: bool = False) -> str:
        """The sum over ``axes``; ``source`` itself without any."""
        if not axes:
            return source
        if self.opset >= 13:
            return self.op("ReduceSum", source, self.ints(*axes), keepdims=int(keepdims))
        return self.op("ReduceSum", source, axes=list(axes), keepdims=int(keepdims))

    def total(self, source: str) -> str:
        """The sum of all values, a scalar."""
        return self.op("ReduceSum", source, keepdims=0)

    def log_softmax(self, source: str, axis: int) -> str:
        """log(exp(x) / sum exp(x)) along ``axis``."""
        centred = self.op("Sub", source, self.largest(source, [axis]))
        return self.op("Sub", centred, self.op("Log", self.sum(self.op("Exp", centred), [axis], keepdims=True)))

    def mean(self, source: str, axes: Sequence[int]) -> str:
        """The mean over ``axes``, which stay with size one."""
        return self._reduced("ReduceMean", source, axes)

    def largest(self, source: str, axes: Sequence[int]) -> str:
        """The largest value over ``axes``, which stay with size one."""
        return self._reduced("ReduceMax", source, axes)

    def _reduced(self, kind: str, source: str, axes: Sequence[int]) -> str:
        if self.opset >= 18:
            return self.op(kind, source, self.ints(*axes), keepdims=1)
        return self.op(kind, source, axes=list(axes), keepdims=1)

    # -- layout ----------------------------------------------------------------------------------------------------
    def shape(self, source: str) -> str:
        """The shape, an int64 vector."""
        return self.op("Shape", source)

    def sizes(self, source: str, axes: Sequence[int]) -> str:
        """The sizes of some axes, an int64 vector."""
        return self.op("Gather", self.shape(source), self.ints(*axes), axis=0)

    def shaped_like(self, source: str, like: str) -> str:
        """``source`` in the shape of ``like``."""
        return self.op("Reshape", source, self.shape(like))

    def spread_like(self, source: str, like: str) -> str:
        """``source`` broadcast to the shape of ``like``."""
        return self.op("Expand", source, self.shape(like))

    def rows(self, source: str, rank: int) -> str:
        """A matrix of the rows along the last of ``rank`` axes."""
        width = self.sizes(source, [rank - 1])
        return self.op("Reshape", source, self.op("Concat", self.ints(-1), width, axis=0))

    def transpose(self, source: str, perm: Sequence[int]) -> str:
        """Output axis i is axis ``perm[i]``; ``source`` itself where none moves."""
        return source if list(perm) == sorted(perm) else self.op("Transpose", source, perm=list(perm))

    def swapped(self, source: str, rank: int) -> str:
        """The last two of ``rank`` axes exchanged."""
        return self.op("Transpose", source, perm=[*range(rank - 2), rank - 1, rank - 2])

    def unsqueeze(self, source: str, axes: Sequence[int]) -> str:
        """New axes of size one at the places ``axes`` of the result."""
        return self._with_axes("Unsqueeze", source, axes)

    def squeeze(self, source: str, axes: Sequence[int]) -> str:
        """``source`` without ``axes``, which have size one."""
        return self._with_axes("Squeeze", source, axes)

    def _with_axes(self, kind: str, source: str, axes: Sequence[int]) -> str:
        if not axes:
            return source
        if self.opset >= 13:
            return self.op(kind, source, self.ints(*axes))
        return self.op(kind, source, axes=list(axes))

    def reversed(self, source: str, axis: int, size: int) -> str:
        """Values along ``axis``, which has ``size`` of them, in reverse order."""
        return source if size == 1 else self.op("Gather", source, self.ints(*range(size - 1, -1, -1)), axis=axis)

    def slice(self, source: str, axes: Sequence[int], starts: Sequence[int], ends: Sequence[int]) -> str:
        """The part between ``starts`` and ``ends`` of ``axes``."""
        if self.opset >= 10:
            return self.op("Slice", source, *(self.ints(*v) for v in (starts, ends, axes)))
        return self.op("Slice", source, axes=list(axes), starts=list(starts), ends=list(ends))

    def slice_to(self, source: str, axis: int, start: str, end: str) -> str:
        """The part of ``axis`` between two computed places, vectors of one int64."""
        self.require("Slice with computed bounds", 10)
        return self.op("Slice", source, start, end, self.ints(axis))

    def pad(self, source: str, before: Sequence[int], after: Sequence[int]) -> str:
        """Zeros around ``source``; where negative, a part is cut off. ``source`` itself if both are all zero."""
        if not any(before) and not any(after):
            return source
        if self.opset >= 11:
            return self.op("Pad", source, self.ints(*before, *after))
        return self.op("Pad", source, pads=[*before, *after])
