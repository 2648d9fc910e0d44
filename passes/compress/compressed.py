"""A compressed model, with all that was decided on the way."""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx

from passes.allocation.allocator import Allocation
from passes.analysis.ungrouped import first_quantised
from passes.axes.inference import Typing
from passes.graph.model import Graph
from passes.planning.plan import GroupPlan
from passes.surgery.apply_plan import Solution, unshrunk_twin
from passes.transforms.subgraphs import Body, rebuilt


@dataclass
class Compressed:
    """``model``: the result; ``typing`` and ``plans``: how it came about; ``unfolded``: BatchNormalization left, with
    reasons; ``allocation``: how a budget was spread; ``seconds``: by stage."""

    model: onnx.ModelProto
    before: Graph
    typing: Typing
    plans: list[GroupPlan]
    unfolded: dict[str, str]
    seconds: dict[str, float]
    solution: Solution = field(default_factory=Solution)
    allocation: Allocation | None = None
    notes: tuple[str, ...] = ()
    inside: tuple[CompressedBody, ...] = ()
    """What became of control-flow bodies; ``plans`` are of the model outside them."""

    @property
    def every_plan(self) -> list[GroupPlan]:
        """The plans of the model and of all bodies in it."""
        return [*self.plans, *(plan for one in self.inside for plan in one.compressed.every_plan)]

    @property
    def shrinks(self) -> bool:
        """Whether any channel goes."""
        return any(plan.shrinks for plan in self.every_plan)

    @property
    def quantised(self) -> str | None:
        """The first node that computes with quantised numbers and that no rule can cut, if there is one."""
        return first_quantised(self.typing)

    def twin(self) -> onnx.ModelProto:
        """The same function at the original shapes (see `passes.surgery.apply_plan`)."""
        graph = self.typing.graph
        twins = [(one.body, one.put_back(one.compressed.twin(), graph)) for one in self.inside if one.shrinks]
        return unshrunk_twin(self.typing, self.plans, self.solution, twins)


@dataclass(frozen=True)
class CompressedBody:
    """A control-flow body, and what became of it."""

    body: Body
    compressed: Compressed

    @property
    def shrinks(self) -> bool:
        """Whether any channel goes from it."""
        return self.compressed.shrinks

    def put_back(self, model: onnx.ModelProto, graph: Graph) -> onnx.GraphProto:
        """``model``, what became of the body, as a body of ``graph``."""
        attributes = graph.model.graph.node[self.body.node.index].attribute
        original = next(a.g for a in attributes if a.name == self.body.attribute)
        return rebuilt(self.body, original, model, graph)
