"""Sets the number of samples for the joint refinement of each layer pair, from its features and the time limit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from passes.axes import algebra
from passes.axes.algebra import Atom
from passes.axes.index_maps import Indices, kept_size
from passes.axes.inference import Typing
from passes.cost.cost import node_macs, samples_held
from passes.layer_pairs.layer_pair import LayerPair
from passes.settings.reconstruction_tuning import ReconstructionTuning
from passes.settings.tuning import TUNING
from passes.statistics.linear_layers import LinearLayer


def samples_for(
    typing: Typing,
    pairs: Iterable[LayerPair],
    keep: Mapping[Atom, Indices],
    given: int,
    tuning: ReconstructionTuning = TUNING.reconstruction,
) -> dict[LayerPair, float]:
    """Number of samples for each pair, of ``given`` samples."""
    wanted = {pair: min(given, _wanted(typing, pair, keep, tuning)) for pair in pairs}
    each = tuning.step_passes * tuning.typical_steps
    work = sum(each * _macs(typing, pair, keep) * samples for pair, samples in wanted.items())
    share = min(1.0, tuning.pair_multiply_adds / max(1.0, work))
    return {pair: max(tuning.fewest_pair_samples, samples * share) for pair, samples in wanted.items()}


def most_samples(
    typing: Typing,
    pair: LayerPair,
    keep: Mapping[Atom, Indices],
    tuning: ReconstructionTuning = TUNING.reconstruction,
) -> float:
    """Largest number of samples that a pair uses, however many are given."""
    return max(tuning.fewest_pair_samples, _wanted(typing, pair, keep, tuning))


def _wanted(typing: Typing, pair: LayerPair, keep: Mapping[Atom, Indices], tuning: ReconstructionTuning) -> float:
    each = _per_place(typing, pair, keep)
    return max(tuning.fewest_places * each, min(tuning.pair_samples, tuning.most_places * each))


def _per_place(typing: Typing, pair: LayerPair, keep: Mapping[Atom, Indices]) -> float:
    """Number of samples that show one place for each feature."""
    ends = ((pair.first, pair.first.data), (pair.second, pair.second.output))
    places = min(_places(typing, layer, name) for layer, name in ends)
    return max(_features(typing, layer, keep) for layer, _ in ends) / places


def _places(typing: Typing, layer: LinearLayer, name: str) -> float:
    """Places of one sample in tensor ``name``, an input or output of the layer."""
    shape = typing.graph.shape(name)
    if not shape or 0 in shape:  # unknown, or nothing at this size: assume the fewest places
        return 1.0
    return math.prod(shape) / shape[layer.axis] / samples_held(typing.graph)


def _features(typing: Typing, layer: LinearLayer, keep: Mapping[Atom, Indices]) -> float:
    taps = math.prod(typing.graph.array(layer.weight).shape[2:]) if layer.convolves else 1
    return taps * int(kept_size(typing.axes[layer.data][layer.axis], keep))


def _macs(typing: Typing, pair: LayerPair, keep: Mapping[Atom, Indices]) -> float:
    """Multiply-adds of both layers for one sample, with the kept channels."""
    total = 0.0
    for layer in (pair.first, pair.second):
        sizes = [typing.axes[layer.data][layer.axis], typing.axes[layer.output][layer.axis]]
        left = math.prod(kept_size(term, keep) / algebra.size(term) for term in sizes)
        total += left * node_macs(typing.graph, layer.node) / samples_held(typing.graph)
    return total
