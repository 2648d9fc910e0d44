"""The compressed model as a student: each weight and bias of its layers is an initializer of its own.

The original is the teacher (Hinton et al., Distilling the knowledge in a neural network, 2015). What the student has
learned becomes a `Solution` again, at full width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import onnx
from scipy import sparse

from passes.axes import algebra
from passes.axes.algebra import Atom
from passes.axes.channel_groups import ChannelGroup
from passes.axes.index_maps import at_full_size, at_kept, kept_size
from passes.axes.inference import Typing
from passes.channels.norm_constants import NEUTRAL_BIAS, has_bias, inverse_scale, norm_constants
from passes.graph.model import Array
from passes.graph.nodes import fresh
from passes.planning.plan import GroupPlan, projections
from passes.statistics.linear_layers import LinearLayer
from passes.statistics.weighted_layers import weighted_layers
from passes.streams.identity_layers import stays_identity
from passes.surgery.apply_plan import Solution, apply_plans
from passes.transforms.bias import separate_bias
from passes.weights.stored_tensors import array_of, tensor_of

BROADCASTS = 7
"""Opset from which on an Add broadcasts as NumPy does."""


@dataclass(frozen=True)
class StudentLayer:
    """A layer of the original, and the initializers with its weights and its bias in the student. ``weight`` is empty
    where the weights stay as they are, ``bias`` where the layer can have none. ``start``: the weights at first, in
    ``groups`` along their first axis, of which whole ones may have been removed."""

    layer: LinearLayer
    weight: str
    bias: str
    start: Array
    groups: int = 1


@dataclass
class Student:
    """``model``: the compressed model; ``layers``: those from the first one on that has lost channels, but for a first
    convolution on large maps; ``keep``: kept channels; ``projected``: see `passes.planning.plan.projections`;
    ``normalised``: the groups among these that norms read; ``values``: weights and biases of ``layers``, but for the
    kernels of depthwise convolutions. These are few weights, and as constants, without a gradient, they take a fourth
    of the time."""

    model: onnx.ModelProto
    typing: Typing
    keep: Mapping[Atom, Array]
    projected: Mapping[Atom, sparse.csr_array] = field(default_factory=dict)
    normalised: Sequence[ChannelGroup] = ()
    layers: list[StudentLayer] = field(default_factory=list)
    values: dict[str, Array] = field(default_factory=dict)

    def kept(self, name: str, array: Array) -> Array:
        """A tensor of the original at the kept channels, or what takes their place. The student's norms have other
        scales and biases."""
        kept = partial(at_kept, terms=self.typing.axes[name], keep=self.keep, projected=self.projected)
        for group in (group for group in self.normalised if name in group.norms):
            scale, bias = norm_constants(self.typing.graph, group, name)
            axis = next(k for k, term in enumerate(self.typing.axes[name]) if algebra.resolve(term) is group.atom)
            shape = [-1 if k == axis else 1 for k in range(array.ndim)]
            factor = group.norms[name].factor
            scaled = (array - factor * bias.reshape(shape)) * inverse_scale(scale, bias).reshape(shape)
            array = scaled.astype(array.dtype)
            return np.asarray(kept(array) + array.dtype.type(factor * NEUTRAL_BIAS * has_bias(group, name)))
        return kept(array)

    def with_outputs(self, names: Sequence[str], values: Mapping[str, Array]) -> onnx.ModelProto:
        """The student with ``values`` of its weights. Its outputs are the tensors ``names``."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        for tensor in model.graph.initializer:
            if tensor.name in values:
                tensor.CopyFrom(tensor_of(values[tensor.name], tensor.name))
        return outputting(model, names)

    def solution(self, before: Solution, values: Mapping[str, Array]) -> Solution:
        """``before`` with ``values`` of the layers."""
        weights, biases = dict(before.weights), dict(before.biases)
        axes = self.typing.axes
        for one in self.layers:
            layer = one.layer
            if one.weight:
                weights[layer.weight] = at_full_size(values[one.weight], axes[layer.weight], self.keep)
            if layer.shift is not None:
                node, k = layer.shift
                width = [axes[layer.output][layer.axis]]
                lead = values[one.bias].shape[:-1]
                whole = at_full_size(values[one.bias].ravel(), width, self.keep)
                biases[node.outputs[0], k] = whole.reshape(*lead, -1)
        return replace(before, weights=weights, biases=biases)


def student_of(typing: Typing, plans: Sequence[GroupPlan], solution: Solution) -> Student:
    """The student that ``plans`` and ``solution`` make of the model of ``typing``."""
    keep = {plan.group.atom: plan.keep for plan in plans if plan.shrinks}
    model = apply_plans(typing, plans, solution)
    normalised = [plan.group for plan in plans if plan.projection is not None and plan.group.norms]
    found = Student(model, typing, keep, projections(plans), normalised)
    constants = {t.name: t for t in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    taken = {*constants, *makers, *(v.name for v in model.graph.input)}
    for layer in _from_first_cut(typing, keep):
        if _is_stem(typing, layer):
            continue
        node = makers.get(layer.node.outputs[0])
        shifted = None if layer.shift is None else (makers.get(layer.shift[0].outputs[0]), layer.shift[1])
        if node is None or node.op_type != layer.node.op or node.input[1] not in constants:
            continue
        weight = array_of(constants[node.input[1]])
        if weight.dtype != np.float32 or not _has_shape(typing, layer, weight, keep):
            continue
        fixed = _is_depthwise(layer, weight)
        bias = ""
        if shifted is not None:
            adds, k = shifted
            value = None if adds is None else _bias(typing, layer, adds, k, constants, keep)
            if adds is None or value is None:
                continue
            bias = fresh(f"{layer.weight}.bias", taken)
            found.values[bias] = value
            if fixed and adds is node and typing.graph.opset >= BROADCASTS:
                separate_bias(model, node, bias, weight.ndim, taken)
            else:
                adds.input.extend([""] * (k + 1 - len(adds.input)))
                adds.input[k] = bias
        own = ""
        if not fixed:
            own = node.input[1] = fresh(f"{layer.weight}.own", taken)
            found.values[own] = weight.copy()
        if own or bias:
            groups = next((a.i for a in node.attribute if a.name == "group"), 1)
            found.layers.append(StudentLayer(layer, own, bias, weight, groups))
    model.graph.initializer.extend(tensor_of(value, name) for name, value in found.values.items())
    return found


def outputting(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """``model`` with the tensors ``names`` as its outputs, in place."""
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return model


def _from_first_cut(typing: Typing, keep: Mapping[Atom, Array]) -> list[LinearLayer]:
    """The layers from the first one on whose weights lose channels."""
    layers = [layer for layer in weighted_layers(typing) if not stays_identity(typing, layer.weight, keep)]
    cut = (
        i for i, one in enumerate(layers) if any(a in keep for t in typing.axes[one.weight] for a in algebra.atoms(t))
    )
    return layers[next(cut, len(layers)) :]


def _is_stem(typing: Typing, layer: LinearLayer) -> bool:
    """Whether a convolution reads an input of the model, and has fewer weights than places: its gradient takes a large
    part of a step, for few weights."""
    shape = typing.graph.shape(layer.output) or ()
    places = math.prod(shape[2:])
    return layer.convolves and layer.data in typing.graph.inputs and places > typing.graph.array(layer.weight).size


def _is_depthwise(layer: LinearLayer, weight: Array) -> bool:
    """Whether each channel has a kernel of its own."""
    return layer.convolves and not layer.transposed and layer.groups > 1 and weight.shape[1] == 1


def _has_shape(typing: Typing, layer: LinearLayer, weight: Array, keep: Mapping[Atom, Array]) -> bool:
    """Whether the weights are those at the kept channels: not where groups of a convolution keep unlike numbers."""
    return weight.shape == tuple(kept_size(term, keep) for term in typing.axes[layer.weight])


def _bias(
    typing: Typing,
    layer: LinearLayer,
    node: onnx.NodeProto,
    k: int,
    constants: Mapping[str, onnx.TensorProto],
    keep: Mapping[Atom, Array],
) -> Array | None:
    """The bias at input ``k`` of ``node``, zeros if it has none. None where it is no constant of one float for each
    channel."""
    width = kept_size(typing.axes[layer.output][layer.axis], keep)
    name = node.input[k] if len(node.input) > k else ""
    if not name:
        return np.zeros(width, np.float32)
    if name not in constants:
        return None
    value = array_of(constants[name])
    if value.dtype != np.float32 or value.size not in (1, width):
        return None
    lead = value.shape[:-1]
    return np.ascontiguousarray(np.broadcast_to(value.reshape(*lead, -1), (*lead, width))).copy()
