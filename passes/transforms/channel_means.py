"""Writes the mean over channels of pooled values as a layer, so that channels can be removed.

Global response normalisation (ConvNeXt V2, Woo et al., CVPR 2023, sec. 3.2) divides a number for each channel, its norm
over all places, by the mean of these numbers. A reduction over the channels would keep all of them. A layer with the
weights 1 / C is the same mean. Like every layer it can lose inputs, and its weights can be solved for.

Norms of the values themselves (LayerNorm, RMSNorm), which reduce over the channels at every place, are left as they
are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper

from passes.axes.node_reader import NodeReader
from passes.graph.kinds import FLOATS, inferred_types
from passes.graph.model import Array, Graph, Node
from passes.graph.patch import Patch
from passes.shapes.sizes import Size


def means_to_layers(graph: Graph) -> onnx.ModelProto:
    """The model of ``graph`` with a MatMul or Conv in the place of each such mean or sum; the same model if it has
    none."""
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


def _reduced_axis(graph: Graph, node: Node) -> int | None:
    """The axis of the channels; None if the node is no such mean or sum."""
    reader = NodeReader(graph, node)
    shape = graph.info.sizes.get(node.inputs[0]) if node.inputs else None
    if node.op not in ("ReduceMean", "ReduceSum") or node.domain or shape is None or not node.attrs.get("keepdims", 1):
        return None
    given = reader.value(1) if reader.has(1) else np.array(node.attrs.get("axes") or [], np.int64)
    if given is None or given.size != 1:
        return None
    axis, rank = int(given.ravel()[0]) % len(shape), len(shape)
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
