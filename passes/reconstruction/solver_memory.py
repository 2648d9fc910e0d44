"""What samples take while the layers are solved for, one after the other: see `passes.reconstruction.layerwise`.

Two flows stand before a layer. The original's holds what the layer gives and what is still to be read; the compressed
model's what the layer reads, what is still to be read, and what units wait for. Both count at full width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from passes.axes import algebra as terms
from passes.axes.inference import Typing
from passes.cost.cost import samples_held
from passes.reconstruction.layer_pair import LayerPair, find_layer_pairs
from passes.reconstruction.layer_regression import stride_of
from passes.reconstruction.solver_budget import most_samples
from passes.settings.tuning import TUNING, Tuning
from passes.statistics.activation_memory import WIDTH
from passes.statistics.linear_layers import LinearLayer, solvable_layers
from passes.statistics.sample_budget import Moment, Together


def layer_moments(typing: Typing, count: int, tuning: Tuning = TUNING) -> tuple[Moment, ...]:
    """What solving for each layer takes on ``count`` samples. ``typing``: with shapes as they are on samples."""
    graph, rows = typing.graph, samples_held(typing.graph)
    layers = list(solvable_layers(typing).values())
    every = {atom for name in typing.axes for term in typing.axes[name] for atom in terms.atoms(term)}
    keep = {atom: np.arange(atom.size) for atom in every}
    units = find_layer_pairs(typing, layers, keep)
    found: list[Moment] = []
    for layer, (original, drifted) in zip(layers, _held(typing, layers, units), strict=True):
        weights, output, data = (graph.shape(name) for name in (layer.weight, layer.output, layer.data))
        if not weights or not output or not data:
            continue
        features = math.prod(weights) // weights[layer.weight_axes[0]]
        places = math.prod(output) / max(1, output[layer.axis]) / rows
        read, made = (WIDTH * math.prod(shape) / rows for shape in (data, output))
        stride = stride_of(features, int(places * count), tuning.reconstruction)
        patches = WIDTH * layer.groups * features * places / stride
        taken = features if places * count >= features else 0  # else no products of features are taken
        working = 4 * read + 3 * made + 2 * patches
        moment = Moment(original / rows, drifted / rows, working, data[layer.axis], taken, layer.groups)
        if layer in units:  # one batch in so many serves: up to twice as many samples as are wanted
            serve = 2 * most_samples(typing, units[layer], keep, tuning.reconstruction)
            moment = replace(moment, unit=Together(made, serve, tuning.memory.working * (read + made)))
        found.append(moment)
    return tuple(found)


def _held(
    typing: Typing, layers: Sequence[LinearLayer], units: Mapping[LinearLayer, LayerPair]
) -> Iterator[tuple[int, int]]:
    """Bytes that the original's flow and that of the compressed model hold when each layer is solved for."""
    graph = typing.graph
    made = {name: node.index for node in graph.nodes for name in node.outputs if name not in graph.constants}
    last = {name: node.index for node in graph.nodes for name in (*node.inputs, *node.captures)}
    sizes = {name: WIDTH * math.prod(graph.info.shapes.get(name, ())) for name in made}
    for position, layer in enumerate(layers):
        ahead = {other.output for other in layers[position:]}
        waiting = {units[other].first.data for other in layers[position:] if other in units} | {layer.data}
        there, before = made.get(layer.output, -1), layer.node.index
        original = (n for n, at in made.items() if at <= there and (last.get(n, -1) > there or n in ahead))
        drifted = (n for n, at in made.items() if at < before and (last.get(n, -1) >= before or n in waiting))
        yield sum(sizes[n] for n in original), sum(sizes[n] for n in drifted)
