"""Computes the part of a budget for control-flow bodies, in which all groups keep the same share.

A body keeps the target's share of its cost. It keeps more or less only where the rest of the model cannot reach the
target alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from dataclasses import dataclass

import onnx

from passes.allocation.budget import BudgetScope, uniform
from passes.analysis.analyse import Analysis
from passes.axes.algebra import Atom
from passes.cost.cost import NON_FLOATS, macs_of_bodies, weights_inside
from passes.cost.footprint import Footprint, Widths, macs_footprint, params_footprint
from passes.planning.plan import kept_channels
from passes.settings.blocks import Blocks


@dataclass(frozen=True)
class Shares:
    """Costs of a model inside and outside its bodies, at any share. ``kind``: macs or params; ``excluded``: names of
    groups that stay whole; ``own``: group name -> share that the user set for it."""

    analysis: Analysis
    kind: str
    blocks: Blocks
    excluded: Set[str]
    own: Mapping[str, float]

    def inside_for(self, ratio: float) -> float:
        """The share of their channels that groups in bodies keep when ``ratio`` of the model's cost is to be left."""
        (outside, inside), (least, _) = (costs(self.analysis, self.kind, self.widths(s)) for s in (1.0, 0.0))
        goal = ratio * (outside + inside)
        wanted = min(max(ratio * inside, goal - outside), goal - least)
        shares = sorted({k / g.size for part in self.analysis.inside for g in part.analysis.every_group
                         for k in range(1, g.size + 1)} | {1.0})  # fmt: skip
        low, high = 0, len(shares) - 1
        while low < high:  # the first share whose cost is at least the wanted one
            middle = (low + high) // 2
            reached = self.inside(self.widths(shares[middle])) >= wanted
            low, high = (low, middle) if reached else (middle + 1, high)
        near = [shares[i] for i in {max(0, low - 1), low}]
        return min(near, key=lambda share: abs(self.inside(self.widths(share)) - wanted))

    def inside(self, widths: Widths) -> int:
        """Cost of all bodies."""
        return costs(self.analysis, self.kind, widths)[1]

    def widths(self, share: float) -> dict[Atom, int]:
        """Widths at ``share`` of all groups that may shrink, inside and outside of bodies."""
        found: dict[Atom, int] = {}
        for part, _ in self.analysis.parts():
            live = [g for g in part.groups if not g.frozen and g.name not in self.excluded]
            found |= uniform(BudgetScope(part.typing, live, {}, Footprint([])), share, self.blocks)
            alone = [g for g in live if g.name in self.own]
            found |= {g.atom: kept_channels(self.own[g.name], g.size) for g in alone}
        return found


def costs(analysis: Analysis, kind: str, widths: Widths, elsewhere: Set[str] = frozenset()) -> tuple[int, int]:
    """Cost outside and inside the control-flow bodies. ``elsewhere``: constants that do not count."""
    each = [sum(costs(one.analysis, kind, widths, one.body.shared)) for one in analysis.inside]
    if kind == "macs":
        return macs_footprint(analysis.typing).at(widths), macs_of_bodies([one.body for one in analysis.inside], each)
    return params_footprint(analysis.typing, analysis.moved | elsewhere).at(widths), sum(each)


def parameters_of(model: onnx.ModelProto, shared: Set[str]) -> int:
    """Parameters of a body, given as a model, without constants that it has ``shared`` with other graphs."""
    whole: int = weights_inside(onnx.NodeProto(attribute=[onnx.AttributeProto(name="body", g=model.graph)]))
    left = (t for t in model.graph.initializer if t.name in shared and t.data_type not in NON_FLOATS)
    return whole - sum(int(math.prod(t.dims)) for t in left)
