"""What is known of a model before anything is decided."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import onnx

from passes.fold_batchnorm import Folded, fold_batchnorm
from passes.graph.groups import ChannelGroup, channel_groups
from passes.graph.infer import Typing, infer
from passes.graph.model import Graph
from passes.graph.shapes import Observer, Shape
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
    model: onnx.ModelProto, input_shapes: Mapping[str, Shape], observer: Observer | None, stage: Stage
) -> Analysis:
    """The first half of the way: find the channel groups of ``model``, which stays as it is."""
    with stage("normalise"):
        normal = unshare(normalise(model))
        before = Graph(normal, input_shapes, observer)
    with stage("fold"):
        folded = fold_batchnorm(before)
    with stage("infer"):
        graph = before if folded.model is normal else Graph(folded.model, input_shapes, observer)
        typing = infer(graph)
        groups = channel_groups(typing)
    return Analysis(before, folded, typing, groups)
