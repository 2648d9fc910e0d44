"""Weighs the places of a layer's output by how much the outputs of the model depend on them.

At most places of a photograph a detector finds nothing, whatever the values are there; few places decide. A squared
error counts all alike. Here a place has the weight

    w ~ 1 - s + s min(g, m),   g ~ mean_c (dL / dy_c)^2,   L = sum_i r_i z_i u_i^(1/2) / d_i

where g and w have the mean 1 over all places of all samples, with the channels y_c of the layer's output at this
place, the outputs z of the original, their deviations d, random normal r, and the weights u of where a detector finds
objects (`passes.statistics.object_places`): the expectation of g over r is the size of the outputs' Jacobian
(Hutchinson, 1990).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np

from passes.axes.inference import Typing
from passes.gradients.differentiate import GradientModel, gradient_model
from passes.gradients.errors import NoGradientError
from passes.gradients.observed_graph import graph_at
from passes.graph.model import Array, Graph
from passes.interface.engine import Engine, Loaded, retaining, share_threads
from passes.interface.errors import RunError
from passes.numerics.arrays import rows_between, samples_in
from passes.numerics.threads import at_once
from passes.reconstruction.output_draws import Feed, OutputDraws
from passes.settings.reconstruction_tuning import PlaceTuning
from passes.statistics.linear_layers import LinearLayer, solvable_layers

MOST_BLOCKS = 1024
"""Largest number of blocks of a layer's places that have a weight each, about. Not tuned: 32 x 32 of an image."""
Maps = dict[str, list[Array]]
"""Output of a layer -> root of the weights (n, ...) of its places, for each batch of n samples: one value for each
block of places. `at_places` makes them as large as the output."""


def place_weights(
    typing: Typing, feeds: Sequence[Feed], engine: Engine, unit: int, together: int, tuning: PlaceTuning
) -> Maps:
    """The weights of all layers that can be solved and that float outputs depend on. Empty if there is no gradient.

    ``feeds``: batches of samples, whose numbers are multiples of ``unit``; ``together``: number of samples whose
    activations and gradients fit into memory.
    """
    if together < unit:
        return {}
    layers = {one.output: one for one in solvable_layers(typing).values()}
    size = max(1, min(tuning.batch, together) // unit) * unit
    parts = [part for feed in feeds for part in _parts(typing.graph, feed, size)]
    try:
        draws = OutputDraws(typing, feeds, engine, tuning)
        wrt = [name for name in _sources(typing.graph, draws.names) if name in layers and name not in draws.names]
        if not wrt:
            return {}
        engine, workers = share_threads(engine, min(len(parts), together // size))
        model = gradient_model(graph_at(typing.graph.model, parts[0], engine), wrt, seeded=draws.names)
        run = partial(_squares, model, retaining(engine)(model.model), layers, draws)
        found = list(at_once(lambda part: run(*part), enumerate(parts), workers))
    except (NoGradientError, RunError):
        return {}
    known = [name for name in wrt if all(name in one for one in found)]
    counts = [samples_in(feed) for feed in feeds]
    made = {name: _weights(_whole_batches([one[name] for one in found], counts), tuning) for name in known}
    return {name: roots for name, roots in made.items() if roots}


def at_places(roots: Array, like: Array, axis: int) -> Array:
    """The values of all places of a layer's output ``like``, with size one along its channels' ``axis``."""
    axis %= like.ndim
    found = roots.astype(np.float32)
    for k, size in enumerate((n for d, n in enumerate(like.shape) if d not in (0, axis)), 1):
        found = np.repeat(found, np.diff(_edges(size, found.shape[k])), axis=k)
    return np.expand_dims(found, axis)


def _sources(graph: Graph, tensors: Iterable[str]) -> list[str]:
    """What ``tensors`` depend on, in the order of the nodes."""
    needed, found = {*tensors}, list[str]()
    for node in reversed(graph.nodes):
        if not needed.isdisjoint(node.outputs):
            needed.update(node.inputs)
            found += node.outputs
    return found[::-1]


def _parts(graph: Graph, feed: Feed, size: int) -> Iterator[Feed]:
    """A batch in parts of ``size`` samples."""
    count = samples_in(feed)
    for start in range(0, count, count if graph.info.rigid else size):
        yield rows_between(feed, start, min(count, start + size)) if count > size else feed


def _squares(
    model: GradientModel,
    run: Loaded,
    layers: Mapping[str, LinearLayer],
    draws: OutputDraws,
    index: int,
    feed: Feed,
) -> dict[str, Array]:
    """Layer's output -> squared gradient of one draw of r, over the blocks of places (n, ...)."""
    drawn = draws.of(feed, index)
    seeds = {seed: drawn[name] for name, seed in model.seeds.items()}
    found = run({**feed, **seeds})
    made: dict[str, Array] = {}
    for name, gradient in model.gradients.items():
        slope = np.asarray(found[gradient])
        if slope.ndim < 2 or len(slope) != samples_in(feed):  # its places are not those of single samples
            continue
        square = np.moveaxis(slope, layers[name].axis, -1)
        made[name] = in_blocks(np.einsum("...c,...c->...", square, square) / slope.shape[layers[name].axis])
    return made


def in_blocks(values: Array) -> Array:
    """Means over blocks of places: (n, ...) with at most about `MOST_BLOCKS` of them."""
    rank = values.ndim - 1
    for axis in range(1, values.ndim):
        size = values.shape[axis]
        edges = _edges(size, min(size, max(1, round(MOST_BLOCKS ** (1 / rank)))))
        counts = np.diff(edges).reshape(-1, *[1] * (values.ndim - axis - 1))
        values = np.add.reduceat(values, edges[:-1], axis=axis) / counts
    return values.astype(np.float32)


def _edges(size: int, blocks: int) -> Array:
    """Where ``blocks`` parts of about equal size begin, and the last one ends."""
    return np.arange(blocks + 1) * size // max(1, blocks)


def _whole_batches(parts: Sequence[Array], counts: Sequence[int]) -> list[Array]:
    """Parts (n, ...) of batches of ``counts`` samples as whole batches."""
    left, found = iter(parts), list[Array]()
    for count in counts:
        rows = [next(left)]
        while sum(map(len, rows)) < count:
            rows.append(next(left))
        found.append(np.concatenate(rows))
    return found


def _weights(squares: Sequence[Array], tuning: PlaceTuning) -> list[Array]:
    """The root of w for each batch; none where there is no gradient."""
    count = sum(array.size for array in squares)
    mean = sum(float(array.sum(dtype=np.float64)) for array in squares) / max(1, count)
    if not 0 < mean < math.inf:
        return []
    share = tuning.share
    found = [1 - share + share * np.minimum(array / mean, tuning.largest) for array in squares]
    mean = sum(float(array.sum(dtype=np.float64)) for array in found) / count
    return [np.sqrt(array / mean).astype(np.float16) for array in found]
