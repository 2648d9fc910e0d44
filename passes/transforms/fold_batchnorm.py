"""Folds BatchNormalization into the layer before or after it.

With a = scale / sqrt(variance + epsilon) and t = bias - mean * a, BatchNormalization is y = a x + t on each channel.

Before:  x -> Conv(W, b) -> BatchNormalization -> y
After:   x -> Conv(a W, a b + t) -> y

Before:  x -> BatchNormalization -> Conv(W, b) -> y
After:   x -> Conv(W a, b + W t) -> y          (t = 0, or no padding: padded zeros do not pass through the norm)

Conditions: The node is in inference mode. Its constants are initializers with no other reader. There is no node between
the two. The tensor between them has no other reader (another node, the graph's output, a control-flow body). The norm
has one factor for each channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx

from passes.axes.registry import facts_of
from passes.axes.rules.convolution import pads
from passes.axes.rules.norm import batchnorm_affine
from passes.graph.model import Array, Graph, Node
from passes.graph.patch import Patch
from passes.interface.reason import INSIDE, NODE, Reason, overridden
from passes.transforms.bias import add_bias, set_bias
from passes.transforms.cleanup import cleanup


@dataclass(frozen=True)
class FoldedNorm:
    """Statistics of each output channel from a norm that was folded into weights, all (C,). They are the factor ``a``
    by which the weights were multiplied, and the mean and standard deviation of the norm's output over the training
    data. These two are the norm's bias and the absolute value of its scale."""

    a: Array
    mean: Array
    std: Array


@dataclass(frozen=True)
class Folded:
    """``model``: the folded model, or the graph's own if there was nothing to fold. ``left``: BatchNormalization node
    -> why it stays. ``norms``: weights -> the norm that was folded into them. ``like``: tensor that the graph lacks ->
    one of it that has its shape."""

    model: onnx.ModelProto
    left: dict[str, Reason]
    norms: dict[str, FoldedNorm]
    like: Mapping[str, str] = field(default_factory=dict)


def fold_batchnorm(graph: Graph) -> Folded:
    """Fold every BatchNormalization that can be."""
    left: dict[int, Reason] = {}
    folded: dict[str, FoldedNorm] = {}
    patch = Patch(graph)
    norms = [node for node in graph.nodes if node.op == "BatchNormalization" and node.domain == ""]
    for node in norms:
        reason = _constants_reason(graph, node)
        if reason is None:
            reason = _fold_into_producer(graph, node, patch, folded)
        if reason is not None:
            left[node.index] = reason
    for node in [n for n in norms if n.index in left and not _constants_reason(graph, n)]:
        reason = _fold_into_consumer(graph, node, patch)
        if reason is None:
            del left[node.index]
        else:
            left[node.index] = Reason("norm", "", "", causes=(left[node.index], reason))
    reasons = {node.label: left[node.index] for node in norms if node.index in left}
    return Folded(cleanup(patch.apply()) if len(left) < len(norms) else graph.model, reasons, folded)


def _constants_reason(graph: Graph, node: Node) -> Reason | None:
    """Why the norm is not a fixed affine map. None if it is one."""
    if node.attrs.get("training_mode", 0) or len([n for n in node.outputs if n]) > 1:
        return Reason("norm", "", "it is in training mode")
    given = next((name for name in node.inputs[1:5] if name in graph.overridable), None)
    if given is not None:
        return overridden(given)
    made = [name for name in node.inputs[1:5] if name not in graph.initializers]
    if made:
        constant = all(name in graph.constants for name in made)
        return Reason("norm", "", f"its parameters are {'computed in the graph' if constant else 'not constant'}")
    if any(len(graph.shape(name) or ()) > 1 for name in node.inputs[1:5]):
        return Reason("norm", "", "its parameters differ from place to place (spatial=0)")
    return None


def _private(graph: Graph, name: str, reader: Node) -> Reason | None:
    """Why ``name`` has other readers than ``reader``. None if it has none."""
    others = [user.label for user, _ in graph.users[name] if user is not reader]
    if name in graph.outputs:
        return Reason("tensor", name, "is a graph output")
    if name in graph.captured:
        return Reason("tensor", name, INSIDE)
    return Reason("norm", name, "its input has other readers", place=others[0]) if others else None


def _layer_reason(graph: Graph, layer: Node) -> Reason | None:
    """Why the weights of ``layer`` cannot be rewritten. None if they can."""
    for name in (n for n in layer.inputs[1:] if n):
        if name in graph.overridable:
            return overridden(name)
        if name not in graph.initializers:
            return Reason("weights", layer.label, "constant is not an initializer", place=name)
        if len(graph.users[name]) > 1 or name in graph.captured:
            return Reason("weights", layer.label, "constant is shared", place=name)
    if layer.op == "Gemm" and len(layer.inputs) > 2 and layer.inputs[2]:
        bias = graph.shape(layer.inputs[2]) or ()
        if len(bias) > 1 and bias[0] > 1:
            return Reason("weights", layer.label, "bias differs from sample to sample")
    if layer.op == "MatMul":
        shapes = [graph.shape(layer.outputs[0]), graph.shape(layer.inputs[1])]
        if None in shapes:
            return Reason("layer", layer.label, f"the shape of what {NODE} makes is unknown")
        ranks = [len(shape or ()) for shape in shapes]
        if max(ranks) > 2:
            return Reason("layer", layer.label, "multiplies stacks of matrices")
        if min(ranks) < 2:
            return Reason("layer", layer.label, "multiplies by a vector")
    if layer.op == "Gemm" and layer.attrs.get("transA", 0):
        return Reason("layer", layer.label, "transposes its input")
    return None


def _output_axis(layer: Node) -> int:
    """Axis of the weights that holds the outputs (of one group, for ConvTranspose)."""
    linear = facts_of(layer.domain, layer.op).linear
    assert linear is not None
    return linear.output_axis(layer)


def _scale_along(weight: Array, axis: int, factor: Array) -> Array:
    """``weight`` times ``factor`` (C,) along ``axis``, in the precision of the weight but at least float32."""
    shape = [1] * weight.ndim
    shape[axis] = -1
    scaled: Array = weight * factor.reshape(shape).astype(np.float64 if weight.dtype == np.float64 else np.float32)
    return scaled


def _fold_into_producer(graph: Graph, node: Node, patch: Patch, folded: dict[str, FoldedNorm]) -> Reason | None:
    """Record the fold into the layer before the norm. Returns the reason if there is none."""
    layer = graph.producer.get(node.inputs[0])
    if layer is None or facts_of(layer.domain, layer.op).linear is None:
        return Reason("norm", node.inputs[0], "its input does not come from a layer with weights")
    reason = _private(graph, node.inputs[0], node) or _layer_reason(graph, layer)
    if reason is not None:
        return reason
    affine = batchnorm_affine(graph, node)
    weight = graph.array(layer.inputs[1])
    if layer.op == "ConvTranspose":  # W: (g i) o ..., the channel is (g o)
        groups = int(layer.attrs.get("group", 1))
        factor = np.repeat(affine.a.reshape(groups, -1), weight.shape[0] // groups, axis=0)
        scaled = weight.astype(np.float64) * factor.reshape(*factor.shape, *[1] * (weight.ndim - 2))
    else:
        scaled = _scale_along(weight, _output_axis(layer), affine.a)
    patch.set_array(layer.inputs[1], scaled)
    scale, mean = (graph.array(name).astype(np.float64) for name in node.inputs[1:3])
    folded[layer.inputs[1]] = FoldedNorm(affine.a, mean, np.abs(scale))
    if layer.op == "MatMul":
        shift = patch.add_array(f"{node.label}.shift", affine.t.astype(weight.dtype))
        patch.replace(node, [onnx.helper.make_node("Add", [node.inputs[0], shift], [node.outputs[0]], node.label)])
        return None
    beta = float(layer.attrs.get("beta", 1.0)) if layer.op == "Gemm" else 1.0
    bias = graph.array(layer.inputs[2]).astype(np.float64) * beta if len(layer.inputs) > 2 and layer.inputs[2] else 0.0
    set_bias(patch, layer, (np.ravel(bias) * affine.a + affine.t).astype(weight.dtype))
    patch.remove(node, keep_output=True)
    return None


def _fold_into_consumer(graph: Graph, node: Node, patch: Patch) -> Reason | None:
    """Record the fold into every layer behind the norm. Returns the reason if there is none."""
    output = node.outputs[0]
    readers = [user for user, _ in graph.users[output]]
    if output in graph.outputs or output in graph.captured:
        return Reason("norm", output, "its output is read from outside")
    if not readers:
        return Reason("norm", output, "nothing reads its output")
    affine = batchnorm_affine(graph, node)
    for layer in readers:
        if layer.op not in ("Conv", "Gemm") or layer.domain or layer.inputs[0] != output:
            return Reason("norm", output, "its output is read by", layer.op, layer.label)
        reason = _layer_reason(graph, layer)
        if reason is not None:
            return reason
        if layer.op == "Conv" and np.any(affine.t) and pads(layer):
            return Reason("layer", layer.label, "pads with zeros, which would not be shifted")
    for layer in readers:
        weight = patch.array(layer.inputs[1]).astype(np.float64)
        groups = int(layer.attrs.get("group", 1)) if layer.op == "Conv" else 1
        if layer.op == "Conv":  # W: (g o) i ..., the channel is (g i)
            grouped = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
            per_input = (1,) * (weight.ndim - 2)
            a, t = (v.reshape(groups, 1, -1, *per_input) for v in (affine.a, affine.t))
            folded = (grouped * a).reshape(weight.shape)
            shift = (grouped * t).reshape(weight.shape[0], -1).sum(axis=1)
        else:
            axis = 1 - _output_axis(layer)
            folded = _scale_along(weight, axis, affine.a)
            shift = _scale_along(weight, axis, affine.t).sum(axis=axis) * float(layer.attrs.get("alpha", 1.0))
        patch.set_array(layer.inputs[1], folded)
        add_bias(patch, layer, shift)
        patch.reroute(layer, 0, node.inputs[0])
    patch.remove(node)
    return None
