"""Updates integers that name the size of an axis: Reshape targets, Split sizes, Slice bounds, `group` and others.

An input holds such integers as a constant, or computed. Every entry that is still right is kept: `-1`, `0`, and what
the graph computes from shapes that shrink. Only the other entries are corrected. The correction is a constant where the
size does not vary. Else it is a factor or a difference that is the same at all assignments. A number that the graph
computes from a shape for any other purpose (the square root of a width, say) keeps its original value.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from passes.axes import algebra
from passes.axes.algebra import Atom
from passes.axes.index_maps import Indices, kept_indices, kept_size
from passes.axes.inference import IndexFlow, Typing, content_places, places, shape_reads
from passes.axes.rule_context import Resize
from passes.graph.model import Node
from passes.graph.patch import Patch
from passes.interface.errors import PassError
from passes.interface.reason import TENSOR, Reason
from passes.settings.tuning import TUNING
from passes.shapes.sizes import at

FOLLOWING = {"Reshape": (0, -1), "Expand": (1,)}
"""Entries of a target that take their size from another input or entry, by op."""


def follow_sizes(typing: Typing, keep: Mapping[Atom, Indices], patch: Patch) -> None:
    """Record in ``patch`` every integer that must change when each atom keeps the given indices."""
    after = _After(typing, keep)
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
    computed = [(f, r) for f, r in typing.resizes if _is_computed(typing, f.record.node, r)]
    for width in (_trial_width, lambda size: 1):
        atoms = dict.fromkeys(a for flow, resize in computed for a in _atoms(typing, flow, resize) if a.reason is None)
        if atoms:
            _freeze_what_cannot_follow(typing, computed, _After(typing, {a: np.arange(width(a.size)) for a in atoms}))


def _freeze_what_cannot_follow(typing: Typing, computed: Sequence[tuple[IndexFlow, Resize]], after: _After) -> None:
    for flow, resize in computed:
        node = flow.record.node
        if after.concerns(flow, resize) and after.corrections(node, resize) is None:
            detail, source = (
                f"takes a size from {TENSOR}, whose numbers cannot be corrected",
                node.inputs[int(resize.target)],
            )
            for a in _atoms(typing, flow, resize):
                if a.reason is None:
                    a.reason = Reason("operator", node.label, detail, node.op, source)


def _trial_width(size: int) -> int:
    """A width below ``size``, of an axis of two as well."""
    return max(1, min(math.ceil(TUNING.transforms.trial_share * size), size - 1))


@dataclass(frozen=True)
class _Correction:
    """entry * ``factor`` / ``divisor`` + ``shift``. A constant has the factor 0, and its value as the shift."""

    factor: int = 1
    divisor: int = 1
    shift: int = 0

    @property
    def fixed(self) -> int | None:
        """The entry, where it is a constant."""
        return self.shift if self.factor == 0 else None


AS_COMPUTED = _Correction()


@dataclass(frozen=True)
class _After:
    """The sizes, and the numbers computed from them, when each atom keeps the given indices."""

    typing: Typing
    keep: Mapping[Atom, Indices]

    def size(self, entry: algebra.Term | int) -> int:
        """Size of an entry."""
        return entry if isinstance(entry, int) else kept_size(entry, self.keep)

    def concerns(self, flow: IndexFlow, resize: Resize) -> bool:
        """Whether an entry, or what it is computed from, changes."""
        return any(a in self.keep for a in _atoms(self.typing, flow, resize))

    @cached_property
    def _values(self) -> list[Mapping[str, NDArray[Any]]]:
        """What the graph computes from shapes, at each assignment."""
        info, axes = self.typing.graph.info, self.typing.axes
        tensors = dict.fromkeys(tensor for tensor, _ in info.arithmetic.roots.values())
        sizes = {t: [kept_size(term, self.keep) for term in axes[t]] for t in tensors}
        runs = range(info.count)
        return [info.arithmetic.at({t: tuple(at(n, k) for n in own) for t, own in sizes.items()}) for k in runs]

    def corrections(self, node: Node, resize: Resize) -> list[_Correction] | None:
        """The correction of each entry of an input. None where an entry cannot be corrected."""
        graph = self.typing.graph
        name = node.inputs[k] if (k := int(resize.target)) < len(node.inputs) else ""
        runs = range(graph.info.count)
        wanted = [None if e is None else [at(self.size(e), run) for run in runs] for e in resize.entries]
        given: list[list[int] | None] = [None] * len(wanted)
        before = graph.info.values[name].ravel().tolist() if name in graph.info.values else [None] * len(wanted)
        if name in graph.initializers:
            given = [[int(v)] * graph.info.count for v in graph.array(name).ravel()]
        elif name and all(name in values for values in self._values):
            given = [
                list(entry) for entry in zip(*(values[name].ravel().tolist() for values in self._values), strict=True)
            ]
        follows = [entry in FOLLOWING.get(node.op, ()) for entry in before]
        found = [_correction(g, w, f) for g, w, f in zip(given, wanted, follows, strict=True)]
        made = [correction for correction in found if correction is not None]
        return made if len(made) == len(found) else None


def _correction(given: Sequence[int] | None, wanted: Sequence[int] | None, follows: bool) -> _Correction | None:
    """The correction that turns an entry's values ``given`` at the assignments into ``wanted``. An entry that
    ``follows`` takes its size from another one."""
    if wanted is None:
        return AS_COMPUTED
    if follows or given == wanted:
        return AS_COMPUTED
    if len(set(wanted)) == 1:
        return _Correction(factor=0, shift=wanted[0])
    if given is None:
        return None
    common = math.gcd(wanted[0], given[0])
    factor, divisor = (wanted[0] // common, given[0] // common) if common else (1, 1)
    if divisor and all(n * factor == w * divisor for n, w in zip(given, wanted, strict=True)):
        return _Correction(factor=factor, divisor=divisor)
    shift = wanted[0] - given[0]
    return _Correction(shift=shift) if all(w - n == shift for n, w in zip(given, wanted, strict=True)) else None


def _is_computed(typing: Typing, node: Node, resize: Resize) -> bool:
    if isinstance(resize.target, str) or resize.target >= len(node.inputs):
        return False
    name = node.inputs[resize.target]
    return bool(name) and name not in typing.graph.initializers


def _atoms(typing: Typing, flow: IndexFlow, resize: Resize) -> Iterable[Atom]:
    """The axes that the integers depend on. A bound of a Slice may count from the end: the whole axis counts."""
    node = flow.record.node
    found = [e for e in resize.entries if e is not None and not isinstance(e, int)]
    if node.op == "Slice":
        found += typing.axes[node.inputs[0]]
    if _is_computed(typing, node, resize):
        found += [typing.axes[t][axis] for t, axis in places(typing, node.inputs[int(resize.target)])]
    return (a for term in found for a in algebra.atoms(term))


def _correct(after: _After, node: Node, resize: Resize, patch: Patch) -> None:
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


def _insert_corrections(typing: Typing, node: Node, k: int, corrections: Sequence[_Correction], patch: Patch) -> None:
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


def _corrected_parts(typing: Typing, name: str, corrections: Sequence[_Correction]) -> list[str | list[int]] | None:
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
