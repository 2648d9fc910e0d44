"""Updates integers that name the size of an axis: Reshape targets, Split sizes, Slice bounds, `group` and others.

An input holds such integers as a constant, or computed. Every entry that is still right is kept: `-1`, `0`, and what
the graph computes from shapes that shrink. Only the other entries are corrected. The correction is a constant where the
size does not vary. Else it is a factor or a difference that is the same at all assignments. A number that the graph
computes from a shape for any other purpose (the square root of a width, say) keeps its original value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from passes.axes import algebra
from passes.axes.algebra import Atom
from passes.axes.index_maps import Indices, kept_indices
from passes.axes.inference import IndexFlow, Typing, content_places, shape_reads
from passes.axes.rule_context import Resize
from passes.graph.model import Node
from passes.graph.patch import Patch
from passes.interface.errors import PassError
from passes.interface.reason import TENSOR, Reason
from passes.settings.tuning import TUNING
from passes.surgery.size_corrections import AS_COMPUTED, Correction, SizesAfter, is_computed, resizing_atoms


def follow_sizes(typing: Typing, keep: Mapping[Atom, Indices], patch: Patch) -> None:
    """Record in ``patch`` every integer that must change when each atom keeps the given indices."""
    after = SizesAfter(typing, keep)
    resized: set[tuple[int, int]] = set()
    for flow, resize in typing.resizes:
        node = flow.record.node
        if not after.concerns(flow, resize):
            continue
        if isinstance(resize.target, str):
            new = [int(after.size(e)) for e in resize.entries if e is not None]
            value = resize.pinned if resize.pinned is not None else new[0] if resize.scalar else new
            patch.set_attribute(node, resize.target, value)
        else:
            resized.add((node.index, resize.target))
            _correct(after, node, resize, patch)
    _pin(typing, keep, resized, patch)
    _follow_lists(typing, keep, patch)


def freeze_what_cannot_follow(typing: Typing) -> None:
    """Freeze the axes whose sizes enter computed integers in a way that no correction can mend. Each axis is tested at
    two smaller sizes: a quotient that is rounded may happen to be right at one of them."""
    computed = [(f, r) for f, r in typing.resizes if is_computed(typing, f.record.node, r)]
    for width in (_trial_width, lambda size: 1):
        atoms = dict.fromkeys(
            a for flow, resize in computed for a in resizing_atoms(typing, flow, resize) if a.reason is None
        )
        if atoms:
            _freeze_what_cannot_follow(
                typing, computed, SizesAfter(typing, {a: np.arange(width(a.size)) for a in atoms})
            )


def _freeze_what_cannot_follow(typing: Typing, computed: Sequence[tuple[IndexFlow, Resize]], after: SizesAfter) -> None:
    for flow, resize in computed:
        node = flow.record.node
        if after.concerns(flow, resize) and after.corrections(node, resize) is None:
            detail, source = (
                f"takes a size from {TENSOR}, whose numbers cannot be corrected",
                node.inputs[int(resize.target)],
            )
            for a in resizing_atoms(typing, flow, resize):
                if a.reason is None:
                    a.reason = Reason("operator", node.label, detail, node.op, source)


def _trial_width(size: int) -> int:
    """A width below ``size``, of an axis of two as well."""
    return max(1, min(math.ceil(TUNING.transforms.trial_share * size), size - 1))


def _correct(after: SizesAfter, node: Node, resize: Resize, patch: Patch) -> None:
    """Correct input ``resize.target``."""
    graph, k = after.typing.graph, int(resize.target)
    name = node.inputs[k] if k < len(node.inputs) else ""
    corrections = after.corrections(node, resize)
    if corrections is None:  # `freeze_what_cannot_follow` should have frozen these axes
        remedy = "leave the layers around it whole with `exclude`"
        raise PassError(f"{node.label} ({node.op}) takes a size from {name}, which cannot be corrected: {remedy}")
    if all(c is AS_COMPUTED for c in corrections):
        return
    if node.op == "Split":
        patch.set_attribute(node, "num_outputs", None)
    fixed = [c.fixed for c in corrections]
    if name in graph.initializers:
        given = graph.array(name)
        target = [g if f is None else f for g, f in zip(given.ravel().tolist(), fixed, strict=True)]
        patch.set_input_array(node, k, np.array(target, given.dtype).reshape(given.shape))
    elif all(f is not None for f in fixed):
        patch.set_input_array(node, k, np.array(fixed, _integer(after.typing, name)))
    else:
        _insert_corrections(after.typing, node, k, corrections, patch)


def _integer(typing: Typing, name: str) -> np.dtype[Any]:
    """Type of a computed target."""
    value = typing.graph.info.values.get(name)
    return np.dtype(np.int64) if value is None else value.dtype


def _insert_corrections(typing: Typing, node: Node, k: int, corrections: Sequence[Correction], patch: Patch) -> None:
    """Correct what input ``k`` reads, in the graph, by ops that every opset has. Where all that changes are whole parts
    of a Concat, constants take their places."""
    read, kind = node.inputs[k], _integer(typing, node.inputs[k])
    stem = f"{node.label}.target"
    parts = _corrected_parts(typing, read, corrections)
    if parts is not None:
        names = [p if isinstance(p, str) else patch.add_array(stem, np.array(p, kind)) for p in parts]
        made = patch.graph.fresh_name(f"{stem}.parts")
        patch.insert_before(node, [onnx.helper.make_node("Concat", names, [made], made, axis=0)])
        patch.reroute(node, k, made)
        return
    steps = (
        ("Mul", [c.factor for c in corrections], 1),
        ("Div", [c.divisor for c in corrections], 1),
        ("Add", [c.shift for c in corrections], 0),
    )
    nodes: list[onnx.NodeProto] = []
    for op, operand, neutral in steps:
        if any(n != neutral for n in operand):
            name = patch.add_array(f"{stem}_{op.lower()}", np.array(operand, kind))
            made = patch.graph.fresh_name(f"{name}.result")
            nodes.append(onnx.helper.make_node(op, [read, name], [made], made))
            read = made
    patch.insert_before(node, nodes)
    patch.reroute(node, k, read)


def _corrected_parts(typing: Typing, name: str, corrections: Sequence[Correction]) -> list[str | list[int]] | None:
    """What a Concat that makes ``name`` joins, corrected: tensors as before, numbers in the place of others. None where
    no Concat makes it, or a part changes that is not a constant then."""
    graph, maker = typing.graph, typing.graph.producer.get(name)
    if maker is None or maker.op != "Concat" or any(read not in graph.info.values for read in maker.inputs):
        return None
    found, left = list[str | list[int]](), list(corrections)
    for read in maker.inputs:
        before = graph.info.values[read].ravel().tolist()
        own, left = left[: len(before)], left[len(before) :]
        fixed = [correction.fixed for correction in own]
        if read in graph.initializers:
            fixed = [n if c is AS_COMPUTED else f for n, c, f in zip(before, own, fixed, strict=True)]
        numbers = [f for f in fixed if f is not None]
        if all(c is AS_COMPUTED for c in own):
            found.append(read)
        elif len(numbers) == len(own):
            found.append(numbers)
        else:
            return None
    return None if left else found


def _pin(typing: Typing, keep: Mapping[Atom, Indices], resized: set[tuple[int, int]], patch: Patch) -> None:
    for node, k, name in shape_reads(typing, resized):
        read = [typing.axes[tensor][axis] for tensor, axis in content_places(typing, name)]
        if any(a in keep for term in read for a in algebra.atoms(term)):
            value = typing.graph.info.values[name]
            for axis, term in enumerate(typing.axes[name]):
                value = np.take(value, kept_indices(term, keep), axis)
            patch.set_input_array(node, k, value)


def _follow_lists(typing: Typing, keep: Mapping[Atom, Indices], patch: Patch) -> None:
    """Rewrite the lists of indices of axes that shrink."""
    for flow in typing.flows:
        node = flow.record.node
        for k, axis in flow.record.listed:
            before, after = (typing.axes[name][axis] for name in (node.inputs[0], node.outputs[0]))
            if any(a in keep for a in algebra.atoms(before)):
                listed = typing.graph.array(node.inputs[k])
                taken = (listed % int(algebra.size(before)))[kept_indices(after, keep)]
                places = np.searchsorted(kept_indices(before, keep), taken)
                patch.set_input_array(node, k, places.astype(listed.dtype))
