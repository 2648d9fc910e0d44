"""More samples, where those at hand show less of a layer's inputs than there is to know."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from passes.axes.inference import Typing
from passes.cost.cost import samples_held
from passes.graph.model import Array
from passes.statistics.linear_layers import solvable_layers

MoreSamples = Callable[[], tuple[Mapping[str, Array], str]]
"""Twice as many samples as before, those at hand among them, and a word on where they come from; fewer if there are
none."""


def covers_features(typing: Typing, count: int) -> bool:
    """Whether every layer meets as many places as it has features, or more, on ``count`` samples.

    With fewer it is solved without error on the samples, and not on others.
    """
    graph = typing.graph
    for layer in solvable_layers(typing).values():
        weights, output = graph.array(layer.weight), graph.shape(layer.output)
        width = weights.shape[layer.weight_axes[0]]
        if output and weights.size // width > count * math.prod(output) / width / samples_held(graph):
            return False
    return True
