"""Decides whether the samples determine the weights of every layer, or more samples are needed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from passes.axes.inference import Typing
from passes.cost.cost import samples_held
from passes.graph.model import Array
from passes.statistics.linear_layers import solvable_layers

MoreSamples = Callable[[], tuple[Mapping[str, Array], str]]
"""Returns twice as many samples, the present ones among them, and a note on where they come from. It returns fewer if
there are no more."""


def covers_features(typing: Typing, count: int) -> bool:
    """Whether ``count`` samples give every layer at least as many places as it has features.

    With fewer places the regression is underdetermined: it has no error on these samples, but it does on others.
    """
    graph = typing.graph
    for layer in solvable_layers(typing).values():
        weights, output = graph.array(layer.weight), graph.shape(layer.output)
        width = weights.shape[layer.weight_axes[0]]
        if output and weights.size // width > count * math.prod(output) / width / samples_held(graph):
            return False
    return True
