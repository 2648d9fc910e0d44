"""Estimates the memory that samples take during layerwise reconstruction (`passes.reconstruction.layerwise`).

Two runs stop at each layer. The run of the original holds the layer's output and all tensors that later nodes read. The
run of the compressed model holds the layer's input, all tensors that later nodes read, and the inputs of later pairs.
Both are counted at full width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from passes.axes import algebra
from passes.axes.inference import Typing
from passes.cost.cost import samples_held
from passes.layer_pairs.layer_pair import LayerPair, find_layer_pairs
from passes.reconstruction.layer_regression import stride_of
from passes.reconstruction.solver_budget import most_samples
from passes.settings.tuning import TUNING, Tuning
from passes.statistics.activation_memory import WIDTH
from passes.statistics.linear_layers import LinearLayer, solvable_layers
from passes.statistics.observer import few_places, occurrences
from passes.statistics.pooled import map_before
from passes.statistics.sample_budget import LayerMemory, PairMemory


def layer_memory(typing: Typing, count: int, tuning: Tuning = TUNING) -> tuple[LayerMemory, ...]:
    """Memory of the solution of each layer on ``count`` samples. ``typing``: with the shapes of samples."""
    graph, rows = typing.graph, samples_held(typing.graph)
    layers = list(solvable_layers(typing).values())
    every = {atom for name in typing.axes for term in typing.axes[name] for atom in algebra.atoms(term)}
    keep = {atom: np.arange(atom.size) for atom in every}
    pairs = find_layer_pairs(typing, layers, keep)
    found: list[LayerMemory] = []
    for layer, (original, drifted) in zip(layers, _held(typing, layers, pairs), strict=True):
        weights, output, data = (graph.shape(name) for name in (layer.weight, layer.output, layer.data))
        if not weights or not output or not data:
            continue
        features = math.prod(weights) // weights[layer.weight_axes[0]]
        places = math.prod(output) / max(1, output[layer.axis]) / rows
        read, made = (WIDTH * math.prod(shape) / rows for shape in (data, output))
        stride = stride_of(features, int(places * count), tuning.reconstruction)
        patches = WIDTH * layer.groups * features * places / stride
        taken = features if places * count >= features else 0  # else the rows themselves are used
        working = 4 * read + 3 * made + 2 * patches
        kept = _kept_values(typing, layer, count, tuning)
        channels = data[layer.axis] if kept is None else 0
        memory = LayerMemory(original / rows, drifted / rows, working, channels, taken, layer.groups, kept=kept or 0.0)
        if layer in pairs:  # whole batches are used: up to twice the wanted samples
            serve = 2 * most_samples(typing, pairs[layer], keep, tuning.reconstruction)
            memory = replace(memory, pair=PairMemory(made, serve, tuning.memory.working * (read + made)))
        found.append(memory)
    return tuple(found)


def _kept_values(typing: Typing, layer: LinearLayer, count: int, tuning: Tuning) -> float | None:
    """Number of values of a sample that are kept of what the layer reads, of ``count`` samples; None where products of
    channels are taken instead: see `passes.statistics.observer.few_places`."""
    graph, term = typing.graph, typing.axes[layer.data][layer.axis]
    shape = graph.shape(layer.data) or ()
    if map_before(graph, layer.data) is not None or not all(shape):
        return None
    kept = 0.0
    for atom in dict.fromkeys(algebra.atoms(term)):
        each = sum(outer * inner for _, outer, inner in occurrences(term, atom))
        places = each * math.prod(shape) / shape[layer.axis] / samples_held(graph)
        if not 0 < places * count <= few_places(atom.size, tuning):
            return None
        kept += places * atom.size
    return kept


def _held(
    typing: Typing, layers: Sequence[LinearLayer], pairs: Mapping[LinearLayer, LayerPair]
) -> Iterator[tuple[int, int]]:
    """For each layer, bytes that the run of the original and that of the compressed model hold at its solution."""
    graph = typing.graph
    made = {name: node.index for node in graph.nodes for name in node.outputs if name not in graph.constants}
    last = {name: node.index for node in graph.nodes for name in (*node.inputs, *node.captures)}
    sizes = {name: WIDTH * math.prod(graph.info.shapes.get(name, ())) for name in made}
    for position, layer in enumerate(layers):
        ahead = {other.output for other in layers[position:]}
        waiting = {pairs[other].first.data for other in layers[position:] if other in pairs} | {layer.data}
        there, before = made.get(layer.output, -1), layer.node.index
        original = (n for n, at in made.items() if at <= there and (last.get(n, -1) > there or n in ahead))
        drifted = (n for n, at in made.items() if at < before and (last.get(n, -1) >= before or n in waiting))
        yield sum(sizes[n] for n in original), sum(sizes[n] for n in drifted)
