"""Writes means over channels in forms in which channels can be removed: of pooled values as layers, of products of two
activations as sums times 1 / C.

Global response normalisation (ConvNeXt V2, Woo et al., CVPR 2023, sec. 3.2) divides a number for each channel, its norm
over all places, by the mean of these numbers. A reduction over the channels would keep all of them. A layer with the
weights 1 / C is the same mean. Like every layer it can lose inputs, and its weights can be solved for.

Correlations of two images' features, the cost volumes of stereo and flow networks (DispNetC, Mayer et al., CVPR 2016,
sec. 4; in groups of channels: GwcNet, Guo et al., CVPR 2019, sec. 3.2), are means of products. They divide by the
number of all channels, removed ones included: a sum over those that stay, times 1 / C, has the same value.

Norms of the values themselves (LayerNorm, RMSNorm), which reduce over the channels at every place, are left as they
are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper

from passes.axes.node_reader import NodeReader
from passes.graph.kinds import inferred_types
from passes.graph.model import Array, Graph, Node
from passes.graph.patch import Patch
from passes.shapes.constants import FLOATS
from passes.shapes.sizes import Size

SINGLE_OR_DOUBLE = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)
"""Types in which a sum over channels does not overflow where their mean does not."""


def means_to_layers(graph: Graph) -> onnx.ModelProto:
    """The model of ``graph`` with a MatMul or Conv in the place of each mean or sum of pooled values; the same model if
    it has none."""
    found = {node: axis for node in graph.nodes if (axis := _reduced_axis(graph, node)) is not None}
    if not found:
        return graph.model
    patch, types = Patch(graph), inferred_types(graph.model)
    for node, axis in found.items():
        kind = types.get(node.inputs[0])
        # onnxruntime's CPU provider has no convolution of double values.
        if kind in FLOATS and (_is_last(graph, node, axis) or kind != onnx.TensorProto.DOUBLE):
            patch.replace(node, [_layer(graph, node, axis, helper.tensor_dtype_to_np_dtype(kind), patch)])
    return patch.apply() if patch.replaced else graph.model


def means_to_sums(graph: Graph) -> tuple[onnx.ModelProto, dict[str, str]]:
    """The model of ``graph`` with a sum and a factor in the place of each mean of products, the same model if it has
    none; new tensor -> one of ``graph`` that has its shape."""
    found = [node for node in graph.nodes if _is_mean_of_products(graph, node)]
    patch, like, types = Patch(graph), dict[str, str](), inferred_types(graph.model) if found else {}
    for node in found:
        kind = types.get(node.inputs[0])
        if kind in SINGLE_OR_DOUBLE:
            nodes = _sum_and_factor(graph, node, helper.tensor_dtype_to_np_dtype(kind), patch)
            patch.replace(node, nodes)
            like[nodes[0].output[0]] = node.outputs[0]
    return (patch.apply() if like else graph.model), like


def _reduced_axis(graph: Graph, node: Node) -> int | None:
    """The axis of the channels; None if the node is no such mean or sum."""
    shape = graph.info.sizes.get(node.inputs[0]) if node.inputs else None
    if node.op not in ("ReduceMean", "ReduceSum") or node.domain or shape is None or not node.attrs.get("keepdims", 1):
        return None
    given = _single_axis(graph, node)
    if given is None:
        return None
    axis, rank = given, len(shape)
    others = [n for k, n in enumerate(shape) if k not in (0, axis)]
    if not others or any(n != 1 for n in others) or isinstance(shape[axis], Size) or axis not in (1, rank - 1):
        return None
    centred = any(user.op == "Sub" for user, _ in graph.users[node.outputs[0]])
    return None if centred or not _is_pooled(graph, node.inputs[0]) else axis


def _is_pooled(graph: Graph, name: str) -> bool:
    """Whether a reduction over places makes ``name``, by way of nodes with one data operand."""
    maker = graph.producer.get(name)
    while maker is not None and not maker.op.startswith(("Reduce", "Global")):
        data = [n for n in maker.inputs if n and n not in graph.constants]
        maker = graph.producer.get(data[0]) if len(data) == 1 else None
    return maker is not None


def _single_axis(graph: Graph, node: Node) -> int | None:
    """The axis that a reduction is over, None if it is over several, or over one that is not known."""
    reader = NodeReader(graph, node)
    given = reader.value(1) if reader.has(1) else np.array(node.attrs.get("axes") or [], np.int64)
    if given is None or given.size != 1:
        return None
    return int(given.ravel()[0]) % len(reader.shape())


def _is_mean_of_products(graph: Graph, node: Node) -> bool:
    """Whether the node is the mean, over one axis of a fixed size, of products of two different activations of equal
    shapes. The products may be reshaped before, into groups of channels."""
    if node.op != "ReduceMean" or node.domain or graph.info.sizes.get(node.inputs[0]) is None:
        return False
    axis = _single_axis(graph, node)
    if axis is None or isinstance(graph.info.sizes[node.inputs[0]][axis], Size):
        return False
    maker = graph.producer.get(node.inputs[0])
    while maker is not None and maker.op in ("Reshape", "Transpose", "Unsqueeze", "Squeeze"):
        maker = graph.producer.get(maker.inputs[0])
    if maker is None or maker.op != "Mul" or maker.domain or len({*maker.inputs} - graph.constants) != 2:
        return False
    one, other = (graph.info.sizes.get(name) for name in maker.inputs)
    return one is not None and one == other


def _sum_and_factor(graph: Graph, node: Node, kind: np.dtype[Any], patch: Patch) -> list[onnx.NodeProto]:
    """The mean as a sum over the same axis times 1 / C, of type ``kind``."""
    axis = _single_axis(graph, node)
    assert axis is not None
    total = graph.fresh_name(f"{node.outputs[0]}.sum")
    keep = {"keepdims": node.attrs.get("keepdims", 1)}
    if graph.opset >= 13:
        axes = patch.add_array(f"{node.label}.axes", np.array([axis], np.int64))
        summed = helper.make_node("ReduceSum", [node.inputs[0], axes], [total], node.label, **keep)
    else:
        summed = helper.make_node("ReduceSum", [node.inputs[0]], [total], node.label, axes=[axis], **keep)
    size = graph.info.shapes[node.inputs[0]][axis]
    factor = patch.add_array(f"{node.label}.factor", np.array(1 / size, kind))
    return [summed, helper.make_node("Mul", [total, factor], list(node.outputs), f"{node.label}.share")]


def _is_last(graph: Graph, node: Node, axis: int) -> bool:
    return axis == len(graph.info.shapes[node.inputs[0]]) - 1


def _layer(graph: Graph, node: Node, axis: int, kind: np.dtype[Any], patch: Patch) -> onnx.NodeProto:
    """The layer that computes the mean or the sum over ``axis``, with weights of type ``kind``."""
    shape = graph.info.shapes[node.inputs[0]]
    size, last = shape[axis], _is_last(graph, node, axis)
    each: Array = np.full(
        (size, 1) if last else (1, size, *[1] * (len(shape) - 2)), 1 / size if node.op == "ReduceMean" else 1
    )
    weights = patch.add_array(f"{node.label}.weights", each.astype(kind))
    return helper.make_node("MatMul" if last else "Conv", [node.inputs[0], weights], list(node.outputs), node.label)
