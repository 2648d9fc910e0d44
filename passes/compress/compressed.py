"""Defines the result of a compression: the model, the plans and the notes."""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx

from passes.allocation.allocator import Allocation
from passes.analysis.ungrouped import first_quantised
from passes.axes.inference import Typing
from passes.graph.model import Graph
from passes.interface.reason import Reason
from passes.planning.plan import GroupPlan
from passes.surgery.apply_plan import Solution, unshrunk_twin
from passes.transforms.subgraphs import Body, rebuilt


@dataclass
class Compressed:
    """``model``: the result; ``before``: the model with BatchNormalization; ``typing``: of the folded model; ``plans``:
    for its groups; ``unfolded``: BatchNormalization nodes that were not folded -> reason; ``seconds``: time of each
    stage; ``allocation``: of the budget; ``notes``: messages for the user."""

    model: onnx.ModelProto
    before: Graph
    typing: Typing
    plans: list[GroupPlan]
    unfolded: dict[str, Reason]
    seconds: dict[str, float]
    solution: Solution = field(default_factory=Solution)
    allocation: Allocation | None = None
    notes: tuple[str, ...] = ()
    inside: tuple[CompressedBody, ...] = ()
    """The compressed control-flow bodies; ``plans`` has only groups outside of them."""
    unconverted: onnx.ModelProto | None = None
    """The result in the number format of the original, if ``model`` is converted to another one."""

    @property
    def every_plan(self) -> list[GroupPlan]:
        """The plans of the model and of all bodies in it."""
        return [*self.plans, *(plan for one in self.inside for plan in one.compressed.every_plan)]

    @property
    def shrinks(self) -> bool:
        """Whether any channel is removed."""
        return any(plan.shrinks for plan in self.every_plan)

    @property
    def quantised(self) -> str | None:
        """The first node that computes with quantised numbers and that no rule can cut, if there is one."""
        return first_quantised(self.typing)

    def twin(self) -> onnx.ModelProto:
        """The unshrunk twin: the same function at the original shapes (see `passes.surgery.apply_plan`)."""
        graph = self.typing.graph
        twins = [(one.body, one.put_back(one.compressed.twin(), graph)) for one in self.inside if one.shrinks]
        return unshrunk_twin(self.typing, self.plans, self.solution, twins)


@dataclass(frozen=True)
class CompressedBody:
    """A control-flow body and its compressed model."""

    body: Body
    compressed: Compressed

    @property
    def shrinks(self) -> bool:
        """Whether any channel is removed from it."""
        return self.compressed.shrinks

    def put_back(self, model: onnx.ModelProto, graph: Graph) -> onnx.GraphProto:
        """``model``, a result for this body, as a subgraph of ``graph``."""
        attributes = graph.model.graph.node[self.body.node.index].attribute
        original = next(a.g for a in attributes if a.name == self.body.attribute)
        return rebuilt(self.body, original, model, graph)
