"""Solves new weights, layer by layer, for the layers that read removed channels.

The inputs of each regression are the layer's inputs in the compressed model. The targets are its outputs in the
original. Where the output goes into a sum whose other addend has changed, the sum is the target. The layer then also
corrects the error of that addend.

    W' p' + b'  approximates  y + (s - s')

p' is the layer's input in the compressed model, y its output in the original. s is the other addend in the original, s'
in the compressed model. Where a Concat is between y and the sum, s is the part of the addend that y is added to. The
prior of W' is W Z: Z predicts the removed channels from the kept ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import onnx
from scipy import sparse

from passes.axes import algebra
from passes.axes.algebra import Atom
from passes.axes.index_maps import at_full_size, at_kept, kept_size
from passes.axes.inference import Typing
from passes.graph.model import Array
from passes.interface.reason import planned
from passes.interface.steps import steps
from passes.layer_pairs.joint_refinement import RefusalError, SolvedLayer, refine
from passes.layer_pairs.layer_pair import LayerPair, find_layer_pairs
from passes.layer_pairs.layer_pair_model import Feed
from passes.numerics.arrays import batches_joined, samples_in
from passes.planning.plan import GroupPlan, projections
from passes.reconstruction.layer_regression import regress
from passes.reconstruction.place_weights import at_places
from passes.reconstruction.solver_budget import samples_for
from passes.reconstruction.weight_variant import WeightVariant
from passes.statistics.lazy import Lazy
from passes.statistics.linear_layers import LinearLayer, solvable_layers
from passes.statistics.moments import Batch
from passes.streams.identity_layers import stays_identity
from passes.surgery.apply_plan import Solution, apply_plans
from passes.weights.stored_tensors import array_of, stored_array


def solve_layers(variant: WeightVariant, plans: Sequence[GroupPlan]) -> Solution:
    """Solve every layer, from the first one on that reads a group with removals that are not exact."""
    typing = variant.typing
    keep = {plan.group.atom: plan.keep for plan in plans if plan.shrinks}
    lossy = {plan.group.atom for plan in plans if plan.shrinks and plan.method != "lossless"}
    every = [layer for layer in solvable_layers(typing).values() if not stays_identity(typing, layer.weight, keep)]
    first = next((i for i, layer in enumerate(every) if _reads(typing, layer, lossy)), len(every))
    pairs = find_layer_pairs(typing, every, keep)
    solver = _Solver(variant, keep, apply_plans(typing, plans), pairs, projections(plans))
    for position in steps(range(first, len(every)), lambda position: every[position].node.label):
        solver.solve(every[position], every[position:])
    return solver.solution


class _Solver:
    """Runs of the original and of the ``compressed`` model, and the solution so far."""

    def __init__(
        self,
        variant: WeightVariant,
        keep: Mapping[Atom, Array],
        compressed: onnx.ModelProto,
        pairs: Mapping[LinearLayer, LayerPair],
        projected: Mapping[Atom, sparse.csr_array],
    ) -> None:
        self.solution = Solution()
        self._typing, self._keep, self._engine, self._pairs = variant.typing, keep, variant.engine, pairs
        self._original, self._compressed = variant.original(), variant.run(compressed)
        self._constants = {t.name: t for t in compressed.graph.initializer}
        self._makers = {name: node for node in compressed.graph.node for name in node.output}
        self._moment_limit, self._joined, self._tuning = variant.moment_limit, variant.joined, variant.tuning
        self._places, self._workers = variant.place_weights(), self._compressed.workers
        self._strengths: dict[LinearLayer, float] = {}
        self._in_memory, self._projected = variant.folder is None, projected
        given = sum(map(samples_in, variant.feeds))
        self._samples = samples_for(variant.sized, pairs.values(), keep, given, variant.tuning.reconstruction)

    def solve(self, layer: LinearLayer, ahead: Sequence[LinearLayer]) -> None:
        """Solve ``layer``. ``ahead``: this layer and all later ones."""
        self._original.reach(layer.output, [other.output for other in ahead])
        waiting = {self._pairs[other].first.data for other in ahead if other in self._pairs}
        self._compressed.before(layer.node.outputs[0], waiting)
        if not self._equal_groups(layer):
            return
        places: Sequence[Array | None] = self._places.get(layer.output) or [None] * len(self._compressed.live)
        live = zip(self._original.live, self._compressed.live, places, strict=True)
        batches: Sequence[Batch] = Lazy([partial(self._batch, layer, *given) for given in live])
        prior, tuning = self._weights(layer), self._tuning
        how = (self._engine, self._moment_limit, tuning, self._workers)
        found = regress(layer, prior, batches, *how)
        self._store(layer, found.weights, found.bias)
        self._strengths[layer] = found.strength
        error = found.error
        if layer in self._pairs:
            error *= self._refine(self._pairs[layer], batches)
        self.solution.errors[layer.node.label] = error
        width = kept_size(self._typing.axes[layer.output][layer.axis], self._keep)
        self.solution.widths[layer.node.label] = int(width)

    def _refine(self, pair: LayerPair, batches: Sequence[Batch]) -> float:
        """Refine both layers of a pair jointly. Returns the share of the squared residuals that is left.

        ``batches``: inputs and targets of the second layer.
        """
        if not self._equal_groups(pair.first):
            return 1.0
        first, second = (
            SolvedLayer(layer, self._weights(layer), self._bias(layer), self._damping(layer))
            for layer in (pair.first, pair.second)
        )
        if not all(n in self._original.live[0] and n in self._compressed.live[0] for n in pair.second.others):
            pair = replace(pair, bounds=None)  # what is added to the output is not computed yet
        live = self._compressed.live
        each = live[0][pair.first.data].nbytes + live[0][pair.second.data].nbytes + batches[0][1].nbytes
        given = sum(len(drifted[pair.first.data]) for drifted in live)
        share = given / self._samples[self._pairs[pair.second]]
        parts, workers = self._parts(each, share)
        feeds = Lazy([partial(self._feed, pair, batches, part) for part in parts])
        hidden = self._compressed.live[0][pair.second.data].shape
        opset = self._typing.graph.opset
        try:
            how = (self._engine, opset, self._tuning, self._in_memory, workers)
            found, left = refine(pair, (first, second), feeds, hidden, share, *how)
        except RefusalError as refusal:
            self.solution.unrefined[pair.second.node.label] = planned(str(refusal))
            return 1.0
        for block in found:
            self._store(block.layer, block.weights, block.bias)
        self._compressed.again(pair.second.data, pair.first.node.outputs[0])
        return left

    def _damping(self, layer: LinearLayer) -> float:
        """Levenberg damping of one layer in the joint refinement: its cross-validated ridge strength, clipped to
        [`damping`, `most_damping`]."""
        limits = self._tuning.reconstruction
        return max(limits.damping, min(self._strengths.get(layer, 0.0), limits.most_damping))

    def _parts(self, each: int, share: float) -> tuple[list[range], int]:
        """Batches that are joined for the joint refinement, and how many of these may run at the same time.

        ``each``: bytes of a batch; ``share``: one batch in so many is used.
        """
        memory, number = self._tuning.memory, len(self._compressed.live)
        taken = memory.working * max(1, each)
        most = number / max(1.0, share) / self._workers if self._workers > 1 else number
        count = max(1, int(min(self._joined, memory.moment_bytes / taken, most)))
        fit = min(self._workers, self._moment_limit / (count * taken))
        return [range(i, min(i + count, number)) for i in range(0, number, count)], max(1, int(fit))

    def _feed(self, pair: LayerPair, batches: Sequence[Batch], part: Sequence[int]) -> Feed:
        """Inputs of the joint refinement from the batches in ``part``."""
        found: list[Feed] = []
        for index in part:
            drifted = self._compressed.live[index]
            batch = batches[index]
            feed = {"x": drifted[pair.first.data], "y": batch.y}
            if batch.roots is not None:
                feed["roots"] = batch.roots
            others = [drifted[n] for n in pair.second.others if n in drifted]
            if others and pair.bounds is not None:
                feed["o"] = sum(others[1:], others[0])
            found.append(feed)
        return found[0] if len(found) == 1 else {n: batches_joined([feed[n] for feed in found]) for n in found[0]}

    def _equal_groups(self, layer: LinearLayer) -> bool:
        """Whether all groups of a grouped convolution keep the same number of channels."""
        whole, inside = self._typing.axes[layer.data][layer.axis], self._typing.axes[layer.weight][layer.weight_axes[1]]
        return kept_size(whole, self._keep) == layer.groups * kept_size(inside, self._keep)

    def _batch(
        self, layer: LinearLayer, exact: Mapping[str, Array], drifted: Mapping[str, Array], places: Array | None
    ) -> Batch:
        """``places``: see `passes.reconstruction.place_weights.Maps`."""
        target = self._target(layer, exact, drifted)
        roots = None if places is None else at_places(places, target, layer.axis)
        return Batch(drifted[layer.data], target, roots)

    def _target(self, layer: LinearLayer, exact: Mapping[str, Array], drifted: Mapping[str, Array]) -> Array:
        target = self._kept(layer.output, exact[layer.output])
        for name in layer.others:
            if name in exact and name in drifted:
                target = target + (self._kept(name, exact[name]) - drifted[name])
        for one in layer.around:
            if one.name in exact and one.name in drifted:
                axes = self._typing.axes
                start = sum(int(kept_size(axes[name][one.axis], self._keep)) for name in one.before)
                part = [slice(None)] * target.ndim
                part[one.axis] = slice(start, start + target.shape[one.axis])
                target = target + (self._kept(one.name, exact[one.name]) - drifted[one.name])[tuple(part)]
        return target

    def _kept(self, name: str, array: Array) -> Array:
        """A tensor of the original, at the kept channels, or what takes their place."""
        return at_kept(array, self._typing.axes[name], self._keep, self._projected)

    def _weights(self, layer: LinearLayer) -> Array:
        """Solved weights; before that, those of the plans."""
        solved = self._compressed.arrays.get(layer.weight)
        return array_of(self._constants[layer.weight]) if solved is None else solved

    def _bias(self, layer: LinearLayer) -> Array | None:
        """Solved bias; before that, the one of the plans. None if the layer has none."""
        if layer.shift is None:
            return None
        node, k = layer.shift
        inputs = self._makers[node.outputs[0]].input
        name = inputs[k] if len(inputs) > k else ""
        made = array_of(self._constants[name]) if name in self._constants else None
        bias = self._compressed.shifts.get((node.outputs[0], k), made)
        width = kept_size(self._typing.axes[layer.output][layer.axis], self._keep)
        return None if bias is None else np.broadcast_to(bias.ravel(), width)

    def _store(self, layer: LinearLayer, weights: Array, bias: Array | None) -> None:
        """Store solved values in the compressed model's run and, at full width, in the solution."""
        graph, axes = self._typing.graph, self._typing.axes
        kind = graph.array(layer.weight).dtype
        kept = stored_array(np.asarray(weights, order="C").astype(kind, copy=False))
        self._compressed.arrays[layer.weight] = kept
        self.solution.weights[layer.weight] = stored_array(at_full_size(kept, axes[layer.weight], self._keep))
        if layer.shift is not None and bias is not None:
            node, k = layer.shift
            lead = graph.array(node.inputs[k]).shape[:-1] if len(node.inputs) > k and node.inputs[k] else ()
            line = bias.ravel().astype(kind)
            whole = at_full_size(line, [axes[layer.output][layer.axis]], self._keep)
            self._compressed.shifts[node.outputs[0], k] = line.reshape(*lead, -1)
            self.solution.biases[node.outputs[0], k] = whole.reshape(*lead, -1)


def _reads(typing: Typing, layer: LinearLayer, atoms: set[Atom]) -> bool:
    return any(a in atoms for a in algebra.atoms(typing.axes[layer.data][layer.axis]))
