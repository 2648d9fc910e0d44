"""Computes how integers that name sizes have to change when channels are removed (see
`passes.surgery.update_shape_operands`)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from numpy.typing import NDArray

from passes.axes import algebra
from passes.axes.algebra import Atom
from passes.axes.index_maps import Indices, kept_size
from passes.axes.inference import IndexFlow, Typing, places
from passes.axes.rule_context import Resize
from passes.graph.model import Node
from passes.shapes.sizes import at

FOLLOWING = {"Reshape": (0, -1), "Expand": (1,)}
"""Entries of a target that take their size from another input or entry, by op."""


@dataclass(frozen=True)
class Correction:
    """entry * ``factor`` / ``divisor`` + ``shift``. A constant has the factor 0, and its value as the shift."""

    factor: int = 1
    divisor: int = 1
    shift: int = 0

    @property
    def fixed(self) -> int | None:
        """The entry, where it is a constant."""
        return self.shift if self.factor == 0 else None


AS_COMPUTED = Correction()
"""The entry stays as the graph gives it."""


@dataclass(frozen=True)
class SizesAfter:
    """The sizes, and the numbers computed from them, when each atom keeps the given indices."""

    typing: Typing
    keep: Mapping[Atom, Indices]

    def size(self, entry: algebra.Term | int) -> int:
        """Size of an entry."""
        return entry if isinstance(entry, int) else kept_size(entry, self.keep)

    def concerns(self, flow: IndexFlow, resize: Resize) -> bool:
        """Whether an entry, or what it is computed from, changes."""
        return any(a in self.keep for a in resizing_atoms(self.typing, flow, resize))

    @cached_property
    def _values(self) -> list[Mapping[str, NDArray[Any]]]:
        """What the graph computes from shapes, at each assignment."""
        info, axes = self.typing.graph.info, self.typing.axes
        tensors = dict.fromkeys(tensor for tensor, _ in info.arithmetic.roots.values())
        sizes = {t: [kept_size(term, self.keep) for term in axes[t]] for t in tensors}
        runs = range(info.count)
        return [info.arithmetic.at({t: tuple(at(n, k) for n in own) for t, own in sizes.items()}) for k in runs]

    def corrections(self, node: Node, resize: Resize) -> list[Correction] | None:
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


def _correction(given: Sequence[int] | None, wanted: Sequence[int] | None, follows: bool) -> Correction | None:
    """The correction that turns an entry's values ``given`` at the assignments into ``wanted``. An entry that
    ``follows`` takes its size from another one."""
    if wanted is None:
        return AS_COMPUTED
    if follows or given == wanted:
        return AS_COMPUTED
    if len(set(wanted)) == 1:
        return Correction(factor=0, shift=wanted[0])
    if given is None:
        return None
    common = math.gcd(wanted[0], given[0])
    factor, divisor = (wanted[0] // common, given[0] // common) if common else (1, 1)
    if divisor and all(n * factor == w * divisor for n, w in zip(given, wanted, strict=True)):
        return Correction(factor=factor, divisor=divisor)
    shift = wanted[0] - given[0]
    return Correction(shift=shift) if all(w - n == shift for n, w in zip(given, wanted, strict=True)) else None


def is_computed(typing: Typing, node: Node, resize: Resize) -> bool:
    """Whether the integers are the values of a tensor that the graph computes."""
    if isinstance(resize.target, str) or resize.target >= len(node.inputs):
        return False
    name = node.inputs[resize.target]
    return bool(name) and name not in typing.graph.initializers


def resizing_atoms(typing: Typing, flow: IndexFlow, resize: Resize) -> Iterable[Atom]:
    """The axes that the integers depend on. A bound of a Slice may count from the end: the whole axis counts."""
    node = flow.record.node
    found = [e for e in resize.entries if e is not None and not isinstance(e, int)]
    if node.op == "Slice":
        found += typing.axes[node.inputs[0]]
    if is_computed(typing, node, resize):
        found += [typing.axes[t][axis] for t, axis in places(typing, node.inputs[int(resize.target)])]
    return (a for term in found for a in algebra.atoms(term))
