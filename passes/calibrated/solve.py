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
from passes.calibrated.moments import Batch, Window, layer_moments, layer_rows
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
) -> Solution:
    """Solve every layer that reads a group which loses channels to more than exact merges.

    ``typing`` has the weights that the samples go through, ``twin`` is its model with the plans carried out at the
    original shapes; ``feeds`` are batches of inputs.
    """
    keep = {plan.group.atom: plan.keep for plan in plans if plan.shrinks}
    lossy = {plan.group.atom for plan in plans if plan.shrinks and plan.method != "lossless"}
    layers = list(solvable_layers(typing).values())
    first = next((i for i, layer in enumerate(layers) if _reads(typing, layer, lossy)), len(layers))
    layers = layers[first:]
    original, compressed = (Flow(model, feeds, engine) for model in (typing.graph.model, twin))
    priors = {t.name: t for t in twin.graph.initializer}
    solution = Solution()
    for position, layer in enumerate(layers):
        later = [other.output for other in layers[position:]]
        original.reach(layer.output, later)
        compressed.before(layer.node.outputs[0])
        kept = _kept(typing, layer, keep)
        if kept is None:
            continue
        batches = [
            (drifted[layer.data], _target(layer, exact, drifted))
            for exact, drifted in zip(original.live, compressed.live, strict=True)
        ]
        weight = numpy_helper.to_array(priors[layer.weight])
        batches = _larger(batches)
        found, error = _solve(layer, weight, kept, batches, engine)
        solution.weights[layer.weight] = compressed.arrays[layer.weight] = found[0]
        if layer.shift is not None and found[1] is not None:
            node, k = layer.shift
            shape = typing.graph.array(node.inputs[k]).shape if len(node.inputs) > k and node.inputs[k] else (-1,)
            shape = (*shape[:-1], -1) if len(shape) else (-1,)
            bias = found[1].reshape(shape).astype(weight.dtype)
            solution.biases[node.outputs[0], k] = compressed.shifts[node.outputs[0], k] = bias
        solution.errors[layer.node.label] = error
    return solution


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
