"""What is known of a model before anything is decided."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import onnx

from passes.fold_batchnorm import Folded, fold_batchnorm
from passes.follow_sizes import freeze_what_cannot_follow
from passes.graph.engine import Engine
from passes.graph.groups import ChannelGroup, channel_groups
from passes.graph.infer import Typing, infer
from passes.graph.model import Graph
from passes.graph.shapes import Assignment, Observer
from passes.normalise import normalise
from passes.unshare import unshare

Stage = Callable[[str], AbstractContextManager[None]]
"""Surrounds the stage of the given name, to time it and to show it."""


@dataclass(frozen=True)
class Analysis:
    """What is known of a model before anything is decided. ``before``: the normalised model; ``folded``: what became of
    its BatchNormalization; ``typing`` and ``groups``: axes and channels of the folded model."""

    before: Graph
    folded: Folded
    typing: Typing
    groups: list[ChannelGroup]


def analyse(
    model: onnx.ModelProto,
    assignments: Sequence[Assignment],
    observer: Observer | None,
    stage: Stage,
    engine: Engine | None = None,
) -> Analysis:
    """The first half of the way: find the channel groups of ``model``, which stays as it is; ``engine`` computes its
    constants."""
    with stage("normalise"):
        normal = unshare(normalise(model, engine))
        before = Graph(normal, assignments, observer, engine)
    with stage("fold"):
        folded = fold_batchnorm(before)
    with stage("infer"):
        graph = before if folded.model is normal else before.rewritten(folded.model)
        typing = infer(graph)
        freeze_what_cannot_follow(typing)
        groups = channel_groups(typing)
    return Analysis(before, folded, typing, groups)
