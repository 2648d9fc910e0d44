"""New weights for the layers that read shrunk groups, one layer after the other.

Each layer is solved on what it will read in the compressed model and aimed at what it gave in the original: at the sum
that its output goes into, where the other addend has drifted, so that it mends what was lost before it.

    min over W', b':  sum over places ||y + (s - s') - W' p' - b'||^2 + ridge ||W' - W Z||^2

p' patches of the kept channels in the compressed model; y the layer's output, s the other addend in the original, s' in
the compressed model; W Z what a prediction of the removed channels from the kept ones would give.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from passes.calibrated.flow import Engine, Flow
from passes.calibrated.layers import Layer, solvable_layers
from passes.calibrated.moments import Batch, layer_moments, layer_rows
from passes.calibrated.patches import Window
from passes.calibrated.refine import Cut, refine
from passes.calibrated.unit import Unit, find_units
from passes.calibrated.unit_model import Feed
from passes.graph import terms
from passes.graph.infer import Typing
from passes.graph.model import Array
from passes.graph.terms import Atom
from passes.numerics.ridge import Fit, Rows, fit, fit_rows
from passes.plan import GroupPlan
from passes.project import kept_indices
from passes.shrink import Solution

ENOUGH = 32
"""Places for each feature beyond which more are not looked at."""
MANY = 16384
"""Places that are looked at however few features there are."""
TOGETHER = 32
"""Samples whose moments are taken together."""
WIDE = 6144
"""Features from which on places are thinned out until there are fewer of them than features."""


def solve_layers(
    typing: Typing,
    plans: Sequence[GroupPlan],
    twin: onnx.ModelProto,
    feeds: Sequence[Mapping[str, Array]],
    engine: Engine,
    refining: bool = True,
) -> Solution:
    """Solve every layer that reads a group which loses channels to more than exact merges.

    ``typing`` has the weights that the samples go through, ``twin`` is its model with the plans carried out at the
    original shapes; ``feeds`` are batches of inputs.
    """
    keep = {plan.group.atom: plan.keep for plan in plans if plan.shrinks}
    lossy = {plan.group.atom for plan in plans if plan.shrinks and plan.method != "lossless"}
    every = list(solvable_layers(typing).values())
    first = next((i for i, layer in enumerate(every) if _reads(typing, layer, lossy)), len(every))
    layers = every[first:]
    units = find_units(typing, every, keep) if refining else {}
    original, compressed = (Flow(model, feeds, engine) for model in (typing.graph.model, twin))
    given = _Given(twin)
    solution = Solution()
    for position, layer in enumerate(layers):
        later = [other.output for other in layers[position:]]
        original.reach(layer.output, later)
        waiting = {units[other].first.data for other in layers[position:] if other in units}
        compressed.before(layer.node.outputs[0], waiting)
        kept = _kept(typing, layer, keep)
        if kept is None:
            continue
        targets = [_target(layer, *pair) for pair in zip(original.live, compressed.live, strict=True)]
        batches = _larger([(live[layer.data], y) for live, y in zip(compressed.live, targets, strict=True)])
        found, error = _solve(layer, given.weight(layer), kept, batches, engine)
        _give(typing, solution, compressed, layer, *found)
        if layer in units:
            error *= _refine(typing, units[layer], keep, given, solution, (original, compressed), targets, engine)
        solution.errors[layer.node.label] = error
        solution.widths[layer.node.label] = targets[0].shape[layer.axis]
    return solution


class _Given:
    """Weights and biases that the plans alone make, in ``twin``."""

    def __init__(self, twin: onnx.ModelProto) -> None:
        self._constants = {t.name: t for t in twin.graph.initializer}
        self._makers = {name: node for node in twin.graph.node for name in node.output}

    def weight(self, layer: Layer) -> Array:
        return numpy_helper.to_array(self._constants[layer.weight])

    def bias(self, layer: Layer) -> Array | None:
        if layer.shift is None:
            return None
        node, k = layer.shift
        inputs = self._makers[node.outputs[0]].input
        name = inputs[k] if len(inputs) > k else ""
        return numpy_helper.to_array(self._constants[name]) if name in self._constants else None


def _give(
    typing: Typing, solution: Solution, compressed: Flow, layer: Layer, weights: Array, bias: Array | None
) -> None:
    """Put what was solved for into the solution and into the model that runs."""
    kind = typing.graph.array(layer.weight).dtype
    solution.weights[layer.weight] = compressed.arrays[layer.weight] = weights.astype(kind, copy=False)
    if layer.shift is not None and bias is not None:
        node, k = layer.shift
        shape = typing.graph.array(node.inputs[k]).shape if len(node.inputs) > k and node.inputs[k] else (-1,)
        value = bias.reshape((*shape[:-1], -1)).astype(kind)
        solution.biases[node.outputs[0], k] = compressed.shifts[node.outputs[0], k] = value


def _refine(
    typing: Typing,
    unit: Unit,
    keep: Mapping[Atom, Array],
    given: _Given,
    solution: Solution,
    flows: tuple[Flow, Flow],
    targets: Sequence[Array],
    engine: Engine,
) -> float:
    """Solve both layers of a unit together; returns what is left of the residuals, a share."""
    original, compressed = flows
    layers = (unit.first, unit.second)
    cuts: list[Cut] = []
    for layer in layers:
        inputs = _kept(typing, layer, keep)
        if inputs is None:
            return 1.0
        cuts.append(Cut(kept_indices(typing.axes[layer.output][layer.axis], keep), inputs[0]))
    feeds: list[Feed] = []
    for exact, drifted, target in zip(original.live, compressed.live, targets, strict=True):
        feed = {"x": np.take(drifted[unit.first.data], cuts[0].inputs, unit.first.axis)}
        feed["y"] = np.take(target, cuts[1].outputs, unit.second.axis)
        others = [drifted[n] for n in unit.second.others if n in exact and n in drifted]
        if others and unit.rectified:
            feed["o"] = np.take(sum(others[1:], others[0]), cuts[1].outputs, unit.second.axis)
        feeds.append(feed)
    weights = [solution.weights.get(layer.weight, given.weight(layer)) for layer in layers]
    biases = [
        solution.biases.get((layer.shift[0].outputs[0], layer.shift[1]), given.bias(layer)) if layer.shift else None
        for layer in layers
    ]
    hidden = compressed.live[0][unit.second.data].shape
    found = refine(
        unit, (weights[0], weights[1]), (biases[0], biases[1]), (cuts[0], cuts[1]), feeds, hidden, engine,
        typing.graph.opset,
    )  # fmt: skip
    for layer, new, bias in zip(layers, *found[:2], strict=True):
        _give(typing, solution, compressed, layer, new, bias)
    compressed.again(unit.second.data, unit.first.node.outputs[0])
    return found[2]


def _reads(typing: Typing, layer: Layer, atoms: set[Atom]) -> bool:
    return any(a in atoms for a in terms.atoms(typing.axes[layer.data][layer.axis]))


def _kept(typing: Typing, layer: Layer, keep: Mapping[Atom, Array]) -> Array | None:
    """Channels of the input that stay, (groups, K); nothing where the groups do not stay alike."""
    kept = kept_indices(typing.axes[layer.data][layer.axis], keep)
    inside = kept_indices(typing.axes[layer.weight][layer.weight_axes[1]], keep)
    return kept.reshape(layer.groups, -1) if len(kept) == layer.groups * len(inside) else None


def _target(layer: Layer, exact: Mapping[str, Array], drifted: Mapping[str, Array]) -> Array:
    target = exact[layer.output]
    for name in layer.others:
        if name in exact and name in drifted:
            target = target + (exact[name] - drifted[name])
    return target


def _solve(
    layer: Layer, weight: Array, kept: Array, batches: Sequence[Batch], engine: Engine
) -> tuple[tuple[Array, Array | None], float]:
    """((weights at full width, bias), error)."""
    out, into = layer.weight_axes
    ordered = np.moveaxis(weight, (out, into), (0, -1))  # O taps... I
    groups, width = kept.shape
    taps = ordered.reshape(ordered.shape[0], -1, ordered.shape[-1])
    per_group = taps.shape[0] // groups
    features = taps.shape[1] * width
    places = sum(y.size for _, y in batches) // taps.shape[0]
    stride = max(1, places // max(ENOUGH * features, MANY))
    if features > WIDE:
        stride = max(stride, -(-places // (features // 2)))
    stride += stride > 1 and stride % 2 == 0  # an odd one meets every column of an image
    local = _local(layer, taps, kept)
    window = Window(kept, stride)
    fits: list[Fit] = []
    few = places // stride < features
    if few:
        rows = layer_rows(layer, window, weight, batches, engine)
        for g in range(groups):
            prior = taps[g * per_group : (g + 1) * per_group][:, :, local[g]].reshape(per_group, -1)
            fits.append(fit_rows(_halves_rows([r[g] for r in rows]), prior, layer.shift is not None))
    else:
        moments = layer_moments(layer, window, weight, batches, engine)
        for g in range(groups):
            prior = taps[g * per_group : (g + 1) * per_group][:, :, local[g]].reshape(per_group, -1)
            fits.append(fit((moments[0][g], moments[1][g]), prior, layer.shift is not None))
    solved = np.zeros_like(taps)
    for g, result in enumerate(fits):
        part = solved[g * per_group : (g + 1) * per_group]
        part[:, :, local[g]] = result.weights.reshape(per_group, taps.shape[1], -1)
    full = np.moveaxis(solved.reshape(ordered.shape), (0, -1), (out, into))
    bias = np.concatenate([f.intercept for f in fits]) if layer.shift is not None else None
    return (np.ascontiguousarray(full), bias), float(np.mean([f.error for f in fits]))


def _larger(batches: Sequence[Batch]) -> list[Batch]:
    """The same samples in fewer batches, two at least: each costs a matrix of moments."""
    step = min(max(1, TOGETHER // max(1, len(batches[0][0]))), max(1, len(batches) // 2))
    parts = [batches[i : i + step] for i in range(0, len(batches), step)]
    return [(np.concatenate([x for x, _ in part]), np.concatenate([y for _, y in part])) for part in parts]


def _local(layer: Layer, taps: Array, kept: Array) -> list[Array]:
    """Kept positions on the weights' input axis, for each group."""
    inside = taps.shape[-1]
    return [row - g * inside if layer.groups > 1 else row for g, row in enumerate(kept)]


def _halves_rows(parts: Sequence[Rows]) -> tuple[Rows, Rows]:
    halves = [Rows(*(np.concatenate([getattr(r, n) for r in parts[i::2]]) for n in ("p", "y"))) for i in (0, 1)]
    return halves[0], halves[1]
