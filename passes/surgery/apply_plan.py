"""Applies plans: cuts every tensor that holds a removed channel, mixes consumers' weights, updates integers.

The *unshrunk twin* is the same surgery at the original shapes. Consumers' new weights are scattered back to full width,
with zeros at the removed channels. Producers keep all of theirs. The shrunk model and its twin compute the same
function. Their agreement proves that no other node mixed the channels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from scipy import sparse

from passes.axes import algebra
from passes.axes.algebra import Atom, Term
from passes.axes.index_maps import Indices, kept_indices, mix, values_along_axis
from passes.axes.inference import Role, Typing, Use
from passes.axes.registry import facts_of
from passes.axes.scaling_matrix import LowRankUpdate, ScalingMatrix
from passes.graph.added_bias import added_bias
from passes.graph.model import Array, Node
from passes.graph.patch import Patch
from passes.interface.reason import Reason
from passes.planning.plan import GroupPlan, projections
from passes.shapes.constants import FLOATS
from passes.surgery.projected_norms import centre_solved, neutralise_norms
from passes.surgery.restore_width import restore_width
from passes.surgery.update_shape_operands import follow_sizes
from passes.transforms.bias import add_bias, bias_name
from passes.transforms.cleanup import cleanup
from passes.transforms.subgraphs import Body
from passes.transforms.unshare_constants import merge_copies

Mixes = dict[tuple[str, int], list[tuple[GroupPlan, ScalingMatrix]]]


@dataclass
class Solution:
    """Weights that were solved for, in place of those that the plans' mixing gives.

    ``weights``: initializer -> its values at full width, zero at removed channels. ``biases``: (tensor, input) -> the
    constant at that input of the node that makes the tensor. ``errors``: layer -> share of its output's variance lost.
    ``widths``: layer -> its output channels. ``unrefined``: layer -> why it was not solved together with the layer
    before.
    """

    weights: dict[str, Array] = field(default_factory=dict)
    biases: dict[tuple[str, int], Array] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    widths: dict[str, int] = field(default_factory=dict)
    unrefined: dict[str, Reason] = field(default_factory=dict)

    @property
    def ware(self) -> float | None:
        """Weighted average reconstruction error over all layers, each layer weighted by its output channels (Kim et
        al., Neuron Merging, NeurIPS 2020, sec. 4). Here it is of squares, a share of variance. None where no layer was
        solved."""
        total = sum(self.widths.values())
        return sum(error * self.widths[name] for name, error in self.errors.items()) / total if total else None


Bodies = Sequence[tuple[Body, onnx.GraphProto]]
"""Control-flow bodies, and their replacements."""


def apply_plans(
    typing: Typing, plans: Sequence[GroupPlan], solution: Solution | None = None, bodies: Bodies = ()
) -> onnx.ModelProto:
    """The model with the planned channels removed."""
    return _carry_out(typing, plans, solution or Solution(), bodies, twin=False)


def unshrunk_twin(
    typing: Typing, plans: Sequence[GroupPlan], solution: Solution | None = None, bodies: Bodies = ()
) -> onnx.ModelProto:
    """The planned function at the original shapes."""
    return _carry_out(typing, plans, solution or Solution(), bodies, twin=True)


def _carry_out(
    typing: Typing, plans: Sequence[GroupPlan], solution: Solution, bodies: Bodies, twin: bool
) -> onnx.ModelProto:
    active = [plan for plan in plans if plan.shrinks]
    keep: dict[Atom, Indices] = {plan.group.atom: plan.keep for plan in active}
    patch = Patch(typing.graph)
    for body, graph in bodies:
        patch.set_attribute(body.node, body.attribute, graph)
    axes = {name: typing.axes[name] for name in typing.graph.initializers}
    axes.update(_shift_biases(typing, active, patch))
    solved_biases = _solved_biases(typing, solution, patch)
    axes.update(solved_biases)
    solved = {*solution.weights, *solved_biases}
    inside = {p.group.atom for p in active if twin and not _is_solved(p, solution) and p.group.normalised is None}
    mixes = {place: mix for place, mix in _consumer_mixes(active, inside).items() if place[0] not in solution.weights}
    projected = {atom: matrix for atom, matrix in projections(active).items() if atom not in inside}
    for name, array in solution.weights.items():
        patch.set_array(name, array)
    neutral = neutralise_norms(typing.graph, active, patch, twin)
    if twin:
        centre_solved(active, {name: axes[name] for name in solved}, patch)
    for name, own in axes.items():
        if any(a in keep for term in own for a in algebra.atoms(term)):
            _rewrite(name, own, keep, mixes, {} if name in solved | neutral else projected, patch, twin)
    restore_width(typing, keep, patch, twin)
    if twin:
        _mask_what_has_no_weights(typing, active, patch)
    else:
        follow_sizes(typing, keep, patch)
    return cleanup(merge_copies(patch.apply()))


def _wide(plan: GroupPlan, z: ScalingMatrix) -> ScalingMatrix:
    """Z (C, K) with its columns spread back to (C, C), zero at removed channels. A Z of (C, C) as it is."""
    if z.shape[1] == plan.group.size:
        return z
    if isinstance(z, LowRankUpdate):
        right = np.zeros((len(z.right), plan.group.size))
        right[:, plan.keep] = z.right
        return LowRankUpdate(_scattered(plan, z.base), z.left, right)
    return _scattered(plan, z)


def _scattered(plan: GroupPlan, z: sparse.csr_array) -> sparse.csr_array:
    return sparse.csr_array((z.data, plan.keep[z.indices], z.indptr), (z.shape[0], plan.group.size))


def _shift_biases(typing: Typing, plans: Sequence[GroupPlan], patch: Patch) -> dict[str, list[Term]]:
    """Move removed constant channels into biases: W c is added to the consumer's bias. Returns the axes of the new
    biases."""
    written: dict[str, list[Term]] = {}
    for plan in plans:
        for step, use in plan.group.consumer_uses():
            value = plan.constants.get(step.read)
            if value is None or step.is_offset(use):
                continue
            node = step.flow.record.node
            response = _response(typing, node, use, plan.group.atom, value)
            added = added_bias(typing.graph, node.outputs[0]) if node.op == "MatMul" else None
            if added is not None:
                name = added[0].inputs[added[1]]
                patch.set_array(name, (patch.array(name) + response).astype(patch.array(name).dtype))
                continue
            add_bias(patch, node, response)
            written[bias_name(patch, node)] = [typing.axes[node.outputs[0]][1]]
    return written


def _solved_biases(typing: Typing, solution: Solution, patch: Patch) -> dict[str, list[Term]]:
    """Replace constants by those that were solved for. Returns the axes of the constants written."""
    written: dict[str, list[Term]] = {}
    for (tensor, k), value in solution.biases.items():
        node = typing.graph.producer[tensor]
        patch.set_input_array(node, k, value)
        linear = facts_of(node.domain, node.op).linear
        channel = 1 if linear is not None and linear.convolves else -1
        own: list[Term] = [algebra.ONE] * (value.ndim - 1)
        written[patch.inputs[node.index][k]] = [*own, typing.axes[tensor][channel]]
    return written


def _response(typing: Typing, node: Node, use: Use, atom: Atom, values: Array) -> Array:
    """What constant input channels of ``values`` (C,) contribute to each output channel of a layer."""
    weight = typing.graph.array(use.constant)
    precision = np.float64 if weight.dtype == np.float64 else np.float32
    linear = facts_of(node.domain, node.op).linear
    assert linear is not None
    output = linear.output_axis(node)
    line = values_along_axis(typing.axes[use.constant][use.axis], atom, values)
    spread = np.broadcast_to(line.reshape([-1 if d == use.axis else 1 for d in range(weight.ndim)]), weight.shape)
    inputs = np.moveaxis(spread, output, 0)[0].ravel().astype(precision)
    rows = np.moveaxis(weight, output, 0).reshape(weight.shape[output], -1).astype(precision, copy=False)
    response: Array = (rows @ inputs).astype(np.float64) * float(node.attrs.get("alpha", 1.0))
    return response


def _is_solved(plan: GroupPlan, solution: Solution) -> bool:
    """Whether some weights of the group were solved for, for the projected channels."""
    return any(use.constant in solution.weights for step in plan.group.steps for use in step.uses)


def _consumer_mixes(plans: Sequence[GroupPlan], inside: Collection[Atom]) -> Mixes:
    """Z for each axis of an initializer that consumes a shrinking group; Z A (C, C) for the atoms ``inside``, whose
    producers stay."""
    mixes: Mixes = defaultdict(list)
    for plan in plans:
        seen: set[tuple[str, int]] = set()
        for step, use in plan.group.consumer_uses():
            if (use.constant, use.axis) not in seen:  # shared weights are mixed once
                seen.add((use.constant, use.axis))
                z = plan.mixing.get(step.read, plan.selection())
                if plan.projection is not None and plan.group.atom in inside:
                    z = sparse.csr_array(z @ plan.projection)  # projected groups are small enough for a plain matrix
                mixes[use.constant, use.axis].append((plan, z))
    return mixes


def _rewrite(
    name: str,
    axes: Sequence[Term],
    keep: Mapping[Atom, Indices],
    mixes: Mixes,
    projected: Mapping[Atom, sparse.csr_array],
    patch: Patch,
    twin: bool,
) -> None:
    """Project and cut the axes that only lost indices. Then mix and cut the axes whose channels the tensor's readers
    sum over."""
    array = patch.array(name)
    consumed = [axis for axis in range(len(axes)) if (name, axis) in mixes]
    for axis, term in enumerate(axes):
        atoms = {*algebra.atoms(term)} if axis not in consumed else set()
        for atom in (atom for atom in projected if atom in atoms):
            array = mix(array, axis, term, atom, projected[atom])
        if not twin and any(a in keep for a in atoms):
            array = np.take(array, kept_indices(term, keep), axis)
    for axis in consumed:
        term = algebra.resolve(axes[axis])
        for plan, z in mixes[name, axis]:
            bare = term is plan.group.atom and not twin
            array = mix(array, axis, term, plan.group.atom, z if bare else _wide(plan, z))
        if not twin and not isinstance(term, Atom):
            array = np.take(array, kept_indices(term, keep), axis)
    patch.set_array(name, array)


def _mask_what_has_no_weights(typing: Typing, plans: Sequence[GroupPlan], patch: Patch) -> None:
    """In the twin, set zeros where no initializer holds them: in computed weights, and where activations multiply."""
    for plan in plans:
        keep = {plan.group.atom: plan.keep}
        for step in plan.group.steps:
            node = step.flow.record.node
            masked = {(use.k, use.axis) for use in step.with_role(Role.CONSUMER)}
            masked = {(k, axis) for k, axis in masked if node.inputs[k] not in typing.graph.initializers}
            if step.contracted:
                summed = {a for letter in step.flow.contracted for a in algebra.atoms(letter)}
                places = [p for p in step.flow.record.places if not p.output and summed & {*algebra.atoms(p.term)}]
                masked |= {(p.k, p.axis) for p in places if plan.group.atom in {*algebra.atoms(p.term)}}
            for k, axis in sorted(masked):
                mask = np.zeros(
                    typing.graph.info.shapes[node.inputs[k]][axis], _precision(typing, plan, node.inputs[k])
                )
                mask[kept_indices(typing.axes[node.inputs[k]][axis], keep)] = 1
                rank = len(typing.axes[node.inputs[k]])
                patch.multiply_input(node, k, mask.reshape([-1 if d == axis else 1 for d in range(rank)]))


def _precision(typing: Typing, plan: GroupPlan, name: str) -> np.dtype[Any]:
    """The type of tensor ``name`` where it is a constant, else the float type that the group's weights have."""
    graph = typing.graph
    if graph.knows(name):
        return graph.array(name).dtype
    names = (u.constant for s in plan.group.steps for u in s.uses if not s.prepares and graph.knows(u.constant))
    types = (graph.array(n).dtype for n in names)
    return next((t for t in types if onnx.helper.np_dtype_to_tensor_dtype(t) in FLOATS), np.dtype(np.float32))
