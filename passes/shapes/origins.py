"""Traces each integer that a model computes from shapes back to the axes of tensors that it comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from passes.shapes.arithmetic import ShapeArithmetic, Values

Place = tuple[str, int]
"""An axis of a tensor: (tensor, axis)."""
Origins = NDArray[np.object_]
"""For each element of a tensor, the frozenset of axes that it is computed from."""
NOWHERE: frozenset[Place] = frozenset()

SIZED = {"ConstantOfShape": 0, "Expand": 1, "Reshape": 1, "Tile": 1}
"""Op -> number of inputs whose elements reach the output. Its other inputs only determine the output's shape."""
ELEMENTWISE = {
    "Abs", "Add", "And", "Cast", "Ceil", "Clip", "Div", "Equal", "Floor", "Greater", "GreaterOrEqual", "Identity",
    "Less", "LessOrEqual", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Pow", "Reciprocal", "Relu", "Round",
    "Sqrt", "Sub", "Where",
}  # fmt: skip
_union = np.frompyfunc(lambda a, b: a | b, 2, 1)


def trace(
    arithmetic: ShapeArithmetic,
    values: Values,
    ranks: Mapping[str, int],
    steady: Mapping[str, Sequence[bool]],
    dynamic: Set[Place],
) -> dict[str, Origins]:
    """Return the origins of every value.

    ``ranks``: of the tensors whose shapes are read. ``steady``: value of one rank -> for each of its axes, whether its
    size is the same at all assignments, so that it comes from none of the axes ``dynamic``.
    """
    fixed = {name for name, axes in steady.items() if all(axes)}
    found: dict[str, Origins] = {}
    for name, (tensor, part) in arithmetic.roots.items():
        axes = range(ranks[tensor])
        if name in arithmetic.totals:
            found[name] = _filled((), frozenset((tensor, axis) for axis in axes))
        else:
            found[name] = _each([frozenset([(tensor, axis)]) for axis in axes[part]])
    for node in arithmetic.nodes:
        made = [n for n in node.output if n in values]
        reads = [found.get(n, _filled(values[n].shape, NOWHERE) if n in values else None) for n in node.input]
        if not made or any(n and origins is None for n, origins in zip(node.input, reads, strict=True)):
            continue
        moved = (
            _output_origins(node, [r for r in reads if r is not None], values)
            if any(n in found for n in node.input)
            else []
        )
        if node.op_type == "Shape" and node.input[0] in steady:
            part = slice(_attribute(node, "start", 0), _attribute(node, "end", None))
            whole = _all(node, reads, values[made[0]], fixed)
            found[made[0]] = _each([whole - dynamic if same else whole for same in steady[node.input[0]][part]])
            continue
        for k, name in enumerate(made):
            exact = k < len(moved) and moved[k].shape == values[name].shape
            found[name] = moved[k] if exact else _filled(values[name].shape, _all(node, reads, values[name], fixed))
    return found


def _all(
    node: onnx.NodeProto, reads: Sequence[Origins | None], value: NDArray[Any], fixed: Set[str]
) -> frozenset[Place]:
    """Return all axes that the elements of the node's output may come from.

    Inputs that only determine the number of elements do not count, if the elements are floats (features) or if that
    number is the same at all assignments.
    """
    if node.op_type == "Size" and node.input[0] in fixed:
        return NOWHERE
    sized = value.dtype.kind == "f" or node.output[0] in fixed
    count = SIZED.get(node.op_type, len(reads)) if sized else len(reads)
    return NOWHERE.union(*(o for origins in reads[:count] if origins is not None for o in origins.ravel()))


def _output_origins(node: onnx.NodeProto, reads: list[Origins], values: Values) -> list[Origins]:
    """Return the origins of the outputs of an op that moves elements or works elementwise; empty for other ops."""
    rule = _RULES.get(node.op_type)
    try:
        if node.op_type in ELEMENTWISE:
            whole = reads[0]
            for other in reads[1:]:
                whole = np.asarray(_union(whole, other), object)
            return [whole]
        return [] if rule is None else rule(node, reads, values)
    except (ValueError, IndexError, KeyError, TypeError):  # this form of the op is not supported
        return []


def _filled(shape: tuple[int, ...], origins: frozenset[Place]) -> Origins:
    made = np.empty(shape, object)
    made.fill(origins)
    return made


def _each(origins: Sequence[frozenset[Place]]) -> Origins:
    made = np.empty(len(origins), object)
    for i, one in enumerate(origins):
        made[i] = one
    return made


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    return next((onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def _gather(node: onnx.NodeProto, reads: list[Origins], values: Values) -> list[Origins]:
    if any(o for o in reads[1].ravel()):
        return []
    return [np.asarray(np.take(reads[0], values[node.input[1]], _attribute(node, "axis", 0)), object)]


def _concat(node: onnx.NodeProto, reads: list[Origins], values: Values) -> list[Origins]:
    return [np.concatenate(reads, _attribute(node, "axis", 1))]


def _slice(node: onnx.NodeProto, reads: list[Origins], values: Values) -> list[Origins]:
    if any(o for origins in reads[1:] for o in origins.ravel()):
        return []
    given: list[list[int]] = [values[n].ravel().tolist() if n else [] for n in node.input[1:]]
    given = given or [_attribute(node, name, []) for name in ("starts", "ends", "axes")]
    given += [[] for _ in range(4 - len(given))]
    starts, ends = given[:2]
    axes, steps = given[2] or list(range(len(starts))), given[3] or [1] * len(starts)
    part = [slice(None)] * reads[0].ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        # Python expresses an end before the first element, of a slice with a negative step, only as None.
        part[axis] = slice(start, None if step < 0 and end < -reads[0].shape[axis] else end, step)
    return [reads[0][tuple(part)]]


def _reshaped(node: onnx.NodeProto, reads: list[Origins], values: Values) -> list[Origins]:
    if any(o for origins in reads[1:] for o in origins.ravel()):
        return []
    return [reads[0].reshape(values[node.output[0]].shape)]


def _transpose(node: onnx.NodeProto, reads: list[Origins], values: Values) -> list[Origins]:
    return [np.transpose(reads[0], _attribute(node, "perm", None))]


def _split(node: onnx.NodeProto, reads: list[Origins], values: Values) -> list[Origins]:
    axis = _attribute(node, "axis", 0)
    sizes = [values[n].shape[axis] for n in node.output]
    return np.split(reads[0], np.cumsum(sizes)[:-1], axis)


_RULES: dict[str, Callable[[onnx.NodeProto, list[Origins], Values], list[Origins]]] = {
    "Gather": _gather,
    "Concat": _concat,
    "Slice": _slice,
    "Split": _split,
    "Transpose": _transpose,
    **dict.fromkeys(("Reshape", "Squeeze", "Unsqueeze", "Flatten"), _reshaped),
}
