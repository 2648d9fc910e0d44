"""The dynamic dimensions of a model's inputs: which of them share a size, and what each of them probably means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx

from onnx_merge.runtime.tensor_info import TensorInfo

Role = Literal["batch", "channels", "edge", "length"]
"""What a dimension means: samples; colours or features, whose number the first layer fixes; rows or columns of an
image; or anything else."""
Assignment = Mapping[str, tuple[int, ...]]
"""Input name -> concrete shape, for every input that must be fed."""
ANONYMOUS = ("", "?", "unk")
"""Names that identify no dimension. Exporters also write ``unk__`` and a number for unnamed dimensions."""
BATCH_NAMES = ("n", "b", "bs", "batch")
LENGTH_NAMES = ("seq", "len", "time", "token", "frame")


@dataclass(frozen=True, slots=True)
class Dimension:
    """A dynamic dimension.

    ``key`` is its symbol, or ``input[axis]`` if it has none. ``axis`` is the axis of its first occurrence. ``likely``
    is the size that a layer next to the input requires, 0 if there is none.
    """

    key: str
    role: Role
    axis: int
    alone: bool
    """Whether long signals are plausible, for instance audio samples in one or two channels."""
    likely: int = 0
    volume: bool = False
    """Whether it is one of three or more edges. Typical image sizes would then give too many elements."""


def key_of(info: TensorInfo, axis: int) -> str | None:
    """The key of an axis of dynamic size; None for a fixed size.

    Dimensions with the same symbol share a size. A dimension without a name has a key of its own.
    """
    dim = info.shape[axis]
    if isinstance(dim, int) and dim >= 0:  # 0 is a fixed size: onnxruntime accepts no other
        return None
    return symbol(dim) or f"{info.name}[{axis}]"


def symbol(dim: int | str | None) -> str | None:
    """The symbol of a declared dimension; None for a fixed size or a name that identifies no dimension."""
    named = isinstance(dim, str) and dim not in ANONYMOUS and not dim.startswith("unk_")
    return dim if named and isinstance(dim, str) else None


def dimensions(inputs: Sequence[TensorInfo], model: onnx.ModelProto | None = None) -> tuple[Dimension, ...]:
    """The dynamic dimensions of ``inputs``, one for each independent size, in the order of declaration.

    ``model`` gives the sizes that its first layers require.
    """
    likely = _likely(model) if model is not None else {}
    found: dict[str, Dimension] = {}
    for info in inputs:
        for axis in range(len(info.shape)):
            key = key_of(info, axis)
            if key is None:
                continue
            size = likely.get((info.name, axis), 0)
            new = Dimension(
                key, "channels" if size else _role(info, axis, key), axis, _alone(info, axis), size, len(info.shape) > 4
            )
            old = found.get(key)
            # A size that a layer requires has priority, then the first axis of any input, which is the batch.
            if old is None or (new.likely and not old.likely) or (new.role == "batch" != old.role and not old.likely):
                found[key] = new
    return tuple(found.values())


def shapes(inputs: Sequence[TensorInfo], sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """The shapes of ``inputs`` at ``sizes``, which are by key."""
    result = {}
    for info in inputs:
        keys = [key_of(info, axis) for axis in range(len(info.shape))]
        result[info.name] = tuple(
            dim if key is None and isinstance(dim, int) else sizes[key or ""]
            for key, dim in zip(keys, info.shape, strict=True)
        )
    return result


def sizes_of(inputs: Sequence[TensorInfo], assignment: Assignment) -> dict[str, int]:
    """The sizes, by key, of the dynamic dimensions in an assignment of all or some of the inputs."""
    sizes: dict[str, int] = {}
    for info in inputs:
        given = assignment.get(info.name, ())
        for axis, size in enumerate(given if len(given) == len(info.shape) else ()):
            key = key_of(info, axis)
            if key is not None:
                sizes[key] = size
    return sizes


def _role(info: TensorInfo, axis: int, key: str) -> Role:
    shape, rank, name = info.shape, len(info.shape), key.lower()
    fixed = [isinstance(dim, int) and dim > 0 for dim in shape]
    colours = [isinstance(dim, int) and 0 < dim <= 4 for dim in shape]
    if "batch" in name or (axis == 0 and name in BATCH_NAMES):
        return "batch"
    if any(word in name for word in LENGTH_NAMES) and axis > 0:
        return "length"
    if rank == 3 and axis == 1 and fixed[0] and shape[0] != 1 and fixed[2] and not symbol(shape[1]):
        return "batch"  # a recurrent state: (layers, batch, units)
    if rank == 3 and (colours[2] or colours[0]) and (info.dtype == np.uint8 or name[:1] in ("h", "w")):
        return "edge"  # an image without a batch axis
    if axis == 0:
        return "batch" if rank > 1 else "length"
    if rank < 4:
        return "length"
    if axis == 1 and not colours[-1]:
        return "channels"
    # Attention keys and values: (batch, heads, length, head dimension).
    return "length" if rank == 4 and axis == 2 and fixed[3] and not colours[3] else "edge"


def _alone(info: TensorInfo, axis: int) -> bool:
    rest = [d for a, d in enumerate(info.shape) if a not in (0, axis)]
    return info.dtype.kind == "f" and len(info.shape) < 4 and all(isinstance(d, int) and 0 < d <= 2 for d in rest)


def _likely(model: onnx.ModelProto) -> dict[tuple[str, int], int]:
    """(input, axis) -> the size required by the layer that reads the input directly."""
    weights = {t.name: tuple(t.dims) for t in model.graph.initializer}
    ranks = {v.name: len(v.type.tensor_type.shape.dim) for v in model.graph.input}
    found: dict[tuple[str, int], int] = {}
    for node in model.graph.node:
        if len(node.input) < 2 or node.input[0] not in ranks or node.input[1] not in weights:
            continue
        name, rank, shape = node.input[0], ranks[node.input[0]], weights[node.input[1]]
        attributes = {a.name: a.i for a in node.attribute}
        if node.op_type == "Conv" and len(shape) > 2:
            found[name, 1] = shape[1] * (attributes.get("group") or 1)
        elif node.op_type == "MatMul" and len(shape) > 1:
            found[name, rank - 1] = shape[-2]
        elif node.op_type == "Gemm" and not attributes.get("transA"):
            found[name, 1] = shape[1 if attributes.get("transB") else 0]
        elif node.op_type in ("LSTM", "GRU", "RNN") and len(shape) == 3:
            found[name, 2] = shape[2]
    return found
