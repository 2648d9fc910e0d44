"""The analysis passes: normalise, fold BatchNormalization, write means as layers, infer axes and channel groups."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import ClassVar

import onnx

from passes.analysis.known import Analysis, Inside
from passes.analysis.normalised_channels import find_normalised
from passes.analysis.not_finite import freeze_what_is_not_finite
from passes.axes import algebra
from passes.axes.algebra import Atom
from passes.axes.channel_groups import ChannelGroup, channel_groups
from passes.axes.inference import Typing, infer
from passes.graph.model import Graph
from passes.interface.engine import Engine
from passes.interface.model_pass import Pass, PassResult, WorkingModel
from passes.interface.reason import Reason
from passes.interface.runner import run_passes
from passes.settings.tuning import TUNING
from passes.shapes.inference import Assignment, Observer
from passes.streams.identity_layers import IdentityLayers, with_identity_layers
from passes.surgery.update_shape_operands import freeze_what_cannot_follow
from passes.transforms.canonicalize import canonicalize
from passes.transforms.channel_means import means_to_layers, means_to_sums
from passes.transforms.fold_batchnorm import Folded, fold_batchnorm
from passes.transforms.fold_scales import fold_scales
from passes.transforms.subgraphs import Body, bodies_of
from passes.transforms.unshare_constants import original, unshare


def analysis_passes(
    assignments: Sequence[Assignment] = (),
    observer: Observer | None = None,
    engine: Engine | None = None,
    body: Body | None = None,
) -> list[Pass]:
    """The passes that find the channel groups of a model, the fact `Analysis`.

    ``assignments``: concrete shapes of its inputs, at which ``observer`` runs it to find shapes. ``engine``: computes
    its constants. ``body``: the control-flow body that the model is, if it is part of another model.
    """
    return [
        Normalise(assignments, observer, engine),
        FoldBatchNormalization(),
        FoldScales(),
        WriteMeansAsLayers(),
        InferChannels(observer, engine, body),
    ]


@dataclass(frozen=True)
class Normalised:
    """The normalised model with its shapes, BatchNormalization still in it."""

    graph: Graph


@dataclass(frozen=True)
class Normalise:
    """Finds `Normalised`: the model in one form for what exporters write in several, and the shapes of all tensors."""

    assignments: Sequence[Assignment] = ()
    observer: Observer | None = None
    engine: Engine | None = None
    name: ClassVar[str] = "normalise"
    requires: ClassVar[tuple[type, ...]] = ()

    def run(self, model: WorkingModel) -> PassResult:
        """Rewrite the model in one form, with a copy of each constant for every reader, and find the shapes of its
        tensors."""
        normal = unshare(canonicalize(model.proto, self.engine))
        graph = Graph(normal, self.assignments, self.observer, self.engine)
        return PassResult(model.having(normal).knowing(Normalised(graph)), changed=True)


@dataclass(frozen=True)
class FoldBatchNormalization:
    """Finds `Folded`: the model with BatchNormalization folded into neighbouring weights."""

    name: ClassVar[str] = "fold"
    requires: ClassVar[tuple[type, ...]] = (Normalised,)

    def run(self, model: WorkingModel) -> PassResult:
        """Fold each BatchNormalization into the layer beside it. Reasons say why others stay."""
        folded = fold_batchnorm(model[Normalised].graph)
        changed = folded.model is not model.proto
        return PassResult(model.having(folded.model).knowing(folded), changed, folded.left)


@dataclass(frozen=True)
class FoldScales:
    """Folds factors for each channel into the layers before them (`passes.transforms.fold_scales`)."""

    name: ClassVar[str] = "scales"
    requires: ClassVar[tuple[type, ...]] = (Normalised, Folded)

    def run(self, model: WorkingModel) -> PassResult:
        """Fold each factor."""
        return _folded(model, fold_scales(_graph(model), model[Folded].norms))


@dataclass(frozen=True)
class WriteMeansAsLayers:
    """Updates `Folded`: means over channels of pooled values are layers, and those of products sums with a factor. Both
    can lose channels."""

    name: ClassVar[str] = "means"
    requires: ClassVar[tuple[type, ...]] = (Normalised, Folded)

    def run(self, model: WorkingModel) -> PassResult:
        """Write each mean as a layer, or as a sum."""
        graph = _graph(model)
        written = means_to_layers(graph)
        return _folded(model, *means_to_sums(graph if written is graph.model else graph.rewritten(written)))


@dataclass(frozen=True)
class InferChannels:
    """Finds `Analysis`: the type of every axis, and the groups of channels that can be removed together. Residual
    streams that end in outputs or norms end in layers then (`passes.streams.identity_layers`)."""

    observer: Observer | None = None
    engine: Engine | None = None
    body: Body | None = None
    name: ClassVar[str] = "infer"
    requires: ClassVar[tuple[type, ...]] = (Normalised, Folded)

    def run(self, model: WorkingModel) -> PassResult:
        """Infer the type of every axis, and join axes to groups of channels. Reasons are those of frozen groups."""
        folded, body = _graph(model), self.body
        where, shared = (body.where, body.shared) if body else ("", frozenset[str]())
        without = set[str]()
        while True:
            added = with_identity_layers(folded, TUNING.numerics.subset.most_greedy, without)
            graph = folded.rewritten(added.model, added.like) if added.places else folded
            typing, groups = self._inferred(graph, where, shared)
            mixed = {group.atom for group in groups if group.normalised is not None}
            useless = _useless(typing, mixed, added)
            if not useless:
                break
            without |= useless
        typing.identities = frozenset(added.places)
        _freeze_ends(typing, mixed, added)
        inside = tuple(Inside(one, self._analysed(one)) for one in bodies_of(graph, where, shared))
        found = Analysis(model[Normalised].graph, model[Folded], typing, groups, inside, where)
        reasons = {g.name: g.frozen for g in groups if g.frozen}
        return PassResult(model.having(added.model).knowing(found), changed=bool(added.places), reasons=reasons)

    def _inferred(self, graph: Graph, where: str, shared: Set[str]) -> tuple[Typing, list[ChannelGroup]]:
        typing = infer(graph)
        freeze_what_cannot_follow(typing)
        if self.body is not None:
            _freeze_shared(typing, shared)
            _name_the_body(typing)
        groups = channel_groups(typing, where)
        freeze_what_is_not_finite(typing, groups)
        find_normalised(typing, groups)
        return typing, groups

    def _analysed(self, body: Body) -> Analysis:
        passes = analysis_passes(body.assignments, self.observer, self.engine, body)
        return run_passes(passes, WorkingModel(body.model)).model[Analysis]


def _useless(typing: Typing, mixed: Set[Atom], added: IdentityLayers) -> set[str]:
    """The tensors at whose identity layers no channels are ``mixed``."""
    beside = {place: {algebra.resolve(typing.axes[name][-1]) for name in place} for place in added.places.values()}
    return {name for place, atoms in beside.items() if not atoms & mixed for name in place}


def _freeze_ends(typing: Typing, mixed: Set[Atom], added: IdentityLayers) -> None:
    """Freeze the channels beside identity layers that are not ``mixed``. To cut them alone would make layers of
    these."""
    for name, place in added.places.items():
        (end,) = (tensor for tensor in place if tensor not in added.like)
        for term in typing.axes[name]:
            if algebra.resolve(term) not in mixed:
                algebra.freeze(term, Reason("tensor", end, "begins or ends a residual stream"))


def _folded(
    model: WorkingModel, written: onnx.ModelProto, like: Mapping[str, str] = MappingProxyType({})
) -> PassResult:
    """The result of a pass that writes the folded model anew. ``like``: new tensor -> one that has its shape."""
    before = model[Folded]
    found = model.having(written).knowing(replace(before, model=written, like={**before.like, **like}))
    return PassResult(found, changed=written is not before.model)


def _graph(model: WorkingModel) -> Graph:
    """The graph of the folded model, with the shapes that were found before it was folded."""
    before, folded = model[Normalised].graph, model[Folded].model
    return before if folded is before.model else before.rewritten(folded, model[Folded].like)


def _freeze_shared(typing: Typing, shared: Set[str]) -> None:
    """Freeze what a body captures and others read too, except small constants such as a bias."""
    for name, tensor in typing.graph.initializers.items():
        large = math.prod(tensor.dims) > max(tensor.dims, default=1)
        if large and (name in shared or original(tensor) in shared):
            for term in typing.axes[name]:
                detail = "is read outside its control-flow body too"
                algebra.freeze(term, Reason("tensor", original(tensor) or name, detail))


def _name_the_body(typing: Typing) -> None:
    """Word reasons for a body, whose inputs and outputs are not those of the model."""
    graph = typing.graph
    wordings = [(n, "is a graph input", "comes from outside its control-flow body") for n in graph.inputs]
    wordings += [(n, "is a graph output", "is an output of its control-flow body") for n in graph.outputs]
    for name, said, meant in wordings:
        for atom in (a for term in typing.axes.get(name, ()) for a in algebra.atoms(term)):
            if atom.reason == Reason("tensor", name, said):
                atom.reason = Reason("tensor", name, meant)
