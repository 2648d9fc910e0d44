"""What is known of a model before anything is decided."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import onnx

from passes.analysis.not_finite import freeze_what_is_not_finite
from passes.axes import algebra as terms
from passes.axes.channel_groups import ChannelGroup, channel_groups
from passes.axes.inference import Typing, infer
from passes.graph.model import Graph
from passes.interface.engine import Engine
from passes.interface.reason import Reason
from passes.shapes.inference import Assignment, Observer
from passes.surgery.update_shape_operands import freeze_what_cannot_follow
from passes.transforms.canonicalize import canonicalize
from passes.transforms.fold_batchnorm import Folded, fold_batchnorm
from passes.transforms.subgraphs import Body, bodies_of
from passes.transforms.unshare_constants import original, unshare

Stage = Callable[[str], AbstractContextManager[None]]
"""Surrounds the stage of the given name, to time it and to show it."""


@dataclass(frozen=True)
class Analysis:
    """What is known of a model before anything is decided. ``before``: the normalised model; ``folded``: what became of
    its BatchNormalization; ``typing`` and ``groups``: axes and channels of the folded model; ``inside``: the same of
    the bodies of its If, Loop and Scan nodes."""

    before: Graph
    folded: Folded
    typing: Typing
    groups: list[ChannelGroup]
    inside: tuple[Inside, ...] = ()
    where: str = ""
    """What the names of its layers begin with: nothing for the model itself."""

    @property
    def unfolded(self) -> dict[str, Reason]:
        """BatchNormalization nodes that stay, by their names in the model, with reasons."""
        return {f"{self.where}{name}": reason for name, reason in self.folded.left.items()}

    @property
    def every_group(self) -> list[ChannelGroup]:
        """The groups of the model and of all bodies in it."""
        return [*self.groups, *(g for one in self.inside for g in one.analysis.every_group)]

    @property
    def moved(self) -> frozenset[str]:
        """Constants of the model that only a body reads, and that count there."""
        return frozenset(n for one in self.inside for n in one.body.captured - one.body.shared)

    def parts(self, without: Set[str] = frozenset()) -> Iterator[tuple[Analysis, frozenset[str]]]:
        """The model and all bodies in it, each with its constants that count elsewhere: ``without``, and `moved`."""
        yield self, self.moved | without
        for one in self.inside:
            yield from one.analysis.parts(one.body.shared)


@dataclass(frozen=True)
class Inside:
    """A body, and what is known of it."""

    body: Body
    analysis: Analysis


def analyse(
    model: onnx.ModelProto,
    assignments: Sequence[Assignment],
    observer: Observer | None,
    stage: Stage,
    engine: Engine | None = None,
    body: Body | None = None,
) -> Analysis:
    """The first half of the way: find the channel groups of ``model``, which stays as it is; ``engine`` computes its
    constants; ``body``: what it is, if it is part of another model."""
    where, shared = (body.where, body.shared) if body else ("", frozenset())
    with stage("normalise"):
        normal = unshare(canonicalize(model, engine))
        before = Graph(normal, assignments, observer, engine)
    with stage("fold"):
        folded = fold_batchnorm(before)
    with stage("infer"):
        graph = before if folded.model is normal else before.rewritten(folded.model)
        typing = infer(graph)
        freeze_what_cannot_follow(typing)
        if body is not None:
            _freeze_shared(typing, shared)
            _name_the_body(typing)
        groups = channel_groups(typing, where)
        freeze_what_is_not_finite(typing, groups)
        inside = tuple(
            Inside(one, analyse(one.model, one.assignments, observer, lambda name: nullcontext(), engine, one))
            for one in bodies_of(graph, where, shared)
        )
    return Analysis(before, folded, typing, groups, inside, where)


def _freeze_shared(typing: Typing, shared: Set[str]) -> None:
    """What a body captures and others read too stays as it is, unless it is as little as a bias."""
    for name, tensor in typing.graph.initializers.items():
        large = math.prod(tensor.dims) > max(tensor.dims, default=1)
        if large and (name in shared or original(tensor) in shared):
            for term in typing.axes[name]:
                detail = "is read outside its control-flow body too"
                terms.freeze(term, Reason("tensor", original(tensor) or name, detail))


def _name_the_body(typing: Typing) -> None:
    """The inputs and outputs of a body are no graph's inputs and outputs to a reader."""
    graph = typing.graph
    told = [(n, "is a graph input", "comes from outside its control-flow body") for n in graph.inputs]
    told += [(n, "is a graph output", "is an output of its control-flow body") for n in graph.outputs]
    for name, said, meant in told:
        for atom in (a for term in typing.axes.get(name, ()) for a in terms.atoms(term)):
            if atom.reason == Reason("tensor", name, said):
                atom.reason = Reason("tensor", name, meant)
