"""Moves the values that are known of a tensor to the places that an op moves its elements to.

The values of a tensor are an array of its rank. An axis of length one stands for all places of the tensor's axis. Other
axes have the tensor's size, at the first of the sizes that a dynamic axis has.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from passes.graph.model import Array, Graph, Node
from passes.shapes.constants import STANDARD_DOMAINS
from passes.shapes.inference import Shape


def rearranged(graph: Graph, node: Node, operands: Sequence[Array]) -> list[Array] | None:
    """The outputs' arrays of an op that only moves its data. None for others, and where the places are unknown.

    ``operands``: arrays of the inputs; of all ops but Concat only the first counts.
    """
    if node.domain not in STANDARD_DOMAINS:
        return None
    data = operands[0]
    match node.op:
        case "Identity":
            return [data]
        case "Transpose":
            return [data.transpose(node.attrs.get("perm") or None)]
        case "Expand":
            return [data.reshape((1,) * (len(_shape(graph, node.outputs[0])) - data.ndim) + data.shape)]
        case "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze":
            return _reshaped(graph, node, data)
        case "Split":
            return _split(graph, node, data)
        case "Slice":
            return _sliced(graph, node, data)
        case "Gather":
            return _gathered(graph, node, data)
        case "Concat":
            return _concatenated(graph, node, operands)
    return None


def _shape(graph: Graph, name: str) -> Shape:
    return graph.info.shapes[name]


def _is_fixed(graph: Graph, name: str, axis: int, data: Array) -> bool:
    """Whether places of an axis can be told apart at every size."""
    return data.shape[axis] == 1 or (name, axis) not in graph.info.dynamic


def _reshaped(graph: Graph, node: Node, data: Array) -> list[Array] | None:
    """Row-major order is kept. Axes are taken in the smallest runs that become each other. A run whose places are told
    apart has the dynamic axis first, so that places repeat alike at every size."""
    before, after = _shape(graph, node.inputs[0]), _shape(graph, node.outputs[0])
    runs = _runs(graph.info.sizes[node.inputs[0]], graph.info.sizes[node.outputs[0]])
    if 0 in before or runs is None:
        return None
    whole: list[int] = []
    shape: list[int] = []
    for own, out in runs:
        told_apart = any(data.shape[axis] > 1 for axis in own)
        names = ((node.inputs[0], own), (node.outputs[0], out))
        if told_apart and any((name, axis) in graph.info.dynamic for name, run in names for axis in run[1:]):
            return None
        whole += [before[axis] if told_apart else 1 for axis in own]
        shape += [after[axis] if told_apart else 1 for axis in out]
    return [np.broadcast_to(data, whole).reshape(shape)]


def _runs(before: Shape, after: Shape) -> list[tuple[range, range]] | None:
    """The smallest runs of axes that have the same size in two shapes at all assignments, in order. None if there are
    none."""
    found, i, k = [], 0, 0
    while i < len(before) or k < len(after):
        start, other = i, k
        m = n = 1
        if i < len(before):
            m, i = before[i], i + 1
        if k < len(after):
            n, k = after[k], k + 1
        while m != n:
            shorter = int(m) < int(n)
            if (shorter and i == len(before)) or (not shorter and k == len(after)):
                return None
            if shorter:
                m, i = m * before[i], i + 1
            else:
                n, k = n * after[k], k + 1
        found.append((range(start, i), range(other, k)))
    return found


def _split(graph: Graph, node: Node, data: Array) -> list[Array] | None:
    axis = int(node.attrs.get("axis", 0)) % data.ndim
    if data.shape[axis] == 1:
        return [data] * len(node.outputs)
    if not _is_fixed(graph, node.inputs[0], axis, data):
        return None
    sizes = [_shape(graph, name)[axis] for name in node.outputs]
    return np.split(data, np.cumsum(sizes)[:-1], axis)


def _sliced(graph: Graph, node: Node, data: Array) -> list[Array] | None:
    bounds = [graph.value(name) if name else None for name in node.inputs[1:]]
    if len(bounds) < 2 or bounds[0] is None or bounds[1] is None:  # before opset 10, or computed
        return None
    if any(value is None and name for value, name in zip(bounds[2:], node.inputs[3:], strict=True)):
        return None
    axes = range(len(bounds[0])) if len(bounds) < 3 or bounds[2] is None else bounds[2]
    steps = [1] * len(bounds[0]) if len(bounds) < 4 or bounds[3] is None else bounds[3]
    for axis, start, end, step in zip(axes, bounds[0], bounds[1], steps, strict=True):
        at = int(axis) % data.ndim
        if data.shape[at] == 1:
            continue
        if step < 1 or not _is_fixed(graph, node.inputs[0], at, data):
            return None
        data = data[(slice(None),) * at + (slice(int(start), int(end), int(step)),)]
    return [data]


def _gathered(graph: Graph, node: Node, data: Array) -> list[Array] | None:
    axis = int(node.attrs.get("axis", 0)) % data.ndim
    indices = graph.value(node.inputs[1])
    if data.shape[axis] == 1:
        rank = len(_shape(graph, node.inputs[1]))
        return [data.reshape(data.shape[:axis] + (1,) * rank + data.shape[axis + 1 :])]
    if indices is None or not _is_fixed(graph, node.inputs[0], axis, data):
        return None
    return [np.take(data, indices, axis)]


def _concatenated(graph: Graph, node: Node, operands: Sequence[Array]) -> list[Array] | None:
    axis = int(node.attrs.get("axis", 1)) % operands[0].ndim
    if (node.outputs[0], axis) in graph.info.dynamic:
        return None
    shape = np.broadcast_shapes(*(o.shape[:axis] + (1,) + o.shape[axis + 1 :] for o in operands))
    sizes = [_shape(graph, name)[axis] for name in node.inputs]
    whole = [np.broadcast_to(o, shape[:axis] + (n,) + shape[axis + 1 :]) for o, n in zip(operands, sizes, strict=True)]
    return [np.concatenate(whole, axis)]
