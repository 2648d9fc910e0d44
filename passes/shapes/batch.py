"""Detects models whose batch is declared dynamic but which cannot process several samples independently."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import onnx

from passes.shapes.arithmetic import Shape
from passes.shapes.declared import Assignment, Declared


def batch_sizes(declared: Declared, assignments: Sequence[Assignment]) -> list[int]:
    """Return the size of the first dynamic batch axis at each assignment."""
    name = next((n for n, dims in declared.items() if dims and isinstance(dims[0], str)), "")
    return [assignment[name][0] if name in assignment else 1 for assignment in assignments]


def joins_samples(model: onnx.ModelProto, batches: Sequence[int], several: Sequence[Mapping[str, Shape]]) -> str | None:
    """Return a Reshape that mixes samples, or None.

    Such a Reshape cannot hold its input at another batch size, or moves the batch to another axis, as `[1, 16, 96, -1]`
    does.
    """
    other = next((k for k, batch in enumerate(batches) if batch != batches[0]), None)
    if other is None:
        return None
    one, two, sizes = several[0], several[other], (batches[0], batches[other])
    for node in model.graph.node:
        if node.op_type != "Reshape" or any(n not in one or n not in two for n in (node.input[0], node.output[0])):
            continue
        before, after = ((one[n], two[n]) for n in (node.input[0], node.output[0]))
        if math.prod(before[0]) != math.prod(after[0]):
            return str(node.name or node.output[0])
        (outside, room), (outside_after, room_after) = _batch_place(*before, sizes), _batch_place(*after, sizes)
        if outside_after > outside * room or outside > outside_after * room_after:
            return str(node.name or node.output[0])
    return None


def _batch_place(one: Shape, two: Shape, batches: tuple[int, int]) -> tuple[int, float]:
    """Return (product of the sizes before the batch axis, factor by which that axis is larger than the batch)."""
    first, second = batches
    found = [d for d, (a, b) in enumerate(zip(one, two, strict=False)) if a != b and a * second == b * first]
    if len(one) != len(two) or len(found) != 1:
        return 1, math.inf
    # A batch of N / 8 clips is smaller than the batch of N frames it replaces, hence at least 1.
    return math.prod(one[: found[0]]), max(1, one[found[0]] // first)
