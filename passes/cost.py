"""What a model costs: parameters, multiply-adds, bytes and nodes."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
import onnx

from passes.graph.model import STANDARD_DOMAINS, Graph, Node
from passes.graph.patch import copy_without_weights
from passes.sparse import sparse_values


@dataclass(frozen=True)
class Cost:
    """``params``: weights and other floating-point constants; ``macs``: multiply-adds of one sample (dynamic sizes at
    their stand-ins, the batch at one); ``bytes``: of the serialised model; ``ops``: how often each op type occurs."""

    params: int
    macs: int
    bytes: int
    nodes: int
    ops: dict[str, int]


def cost(graph: Graph) -> Cost:
    """Cost of a model."""
    model = graph.model
    return Cost(
        params=sum(
            int(np.prod(t.dims)) for t in (*model.graph.initializer, *sparse_values(model.graph)) if is_float(t)
        ),
        macs=sum(node_macs(graph, node) for node in graph.nodes) // batch(graph),
        bytes=model_bytes(model),
        nodes=len(graph.nodes),
        ops=dict(Counter(node.op for node in graph.nodes).most_common()),
    )


def model_bytes(model: onnx.ModelProto) -> int:
    """Serialised size with external data; over 2 GB, where protobuf has no word for it, to within some kilobytes."""
    tensors = model.graph.initializer
    external = sum(_tensor_bytes(t) for t in tensors if t.external_data)
    inside = sum(t.ByteSize() for t in tensors)
    return external + int(model.ByteSize() if inside < 2**30 else inside + copy_without_weights(model).ByteSize())


def _tensor_bytes(tensor: onnx.TensorProto) -> int:
    """Bytes of a tensor's values as stored."""
    width = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)).itemsize
    return int(np.prod(tensor.dims)) * width


def batch(graph: Graph) -> int:
    """Samples that the concrete shapes stand for: the stand-in size of a dynamic first axis, or one."""
    for name in graph.inputs:
        if (name, 0) in graph.info.dynamic and name not in graph.overridable:
            return graph.info.shapes[name][0]
    return 1


def samples_held(graph: Graph) -> int:
    """Samples that go through at once at the concrete shapes, going by the inputs' first axes."""
    fed = (name for name in graph.inputs if name not in graph.overridable)
    sizes = (graph.info.shapes[name][0] for name in fed if graph.info.shapes.get(name))
    return max(1, min(sizes, default=1))


def node_macs(graph: Graph, node: Node) -> int:
    """Multiply-adds of one node at the concrete shapes; all but Conv, ConvTranspose, Gemm and MatMul count as free."""
    axes = mac_axes(graph, node)
    return math.prod(graph.info.shapes[name][axis] for name, axis in axes) if axes else 0


def mac_axes(graph: Graph, node: Node) -> list[tuple[str, int]]:
    """(tensor, axis) of each loop of the node, the product of whose sizes are its multiply-adds; none if it is free."""
    if node.op not in ("Conv", "ConvTranspose", "Gemm", "MatMul") or node.domain not in STANDARD_DOMAINS:
        return []
    a, b, y = node.inputs[0], node.inputs[1], node.outputs[0]
    shapes = [graph.shape(name) for name in (a, b, y)]
    if any(shape is None for shape in shapes):
        return []
    of_a, of_b, of_y = ([(name, axis) for axis in range(len(graph.info.shapes[name]))] for name in (a, b, y))
    if node.op == "Conv":  # each output value sums over the weights of one filter
        return of_y + of_b[1:]
    if node.op == "ConvTranspose":  # each input value is spread by the weights of one filter
        return of_a + of_b[1:]
    return of_y + [of_a[0 if node.attrs.get("transA", 0) else -1]]


def is_float(tensor: onnx.TensorProto) -> bool:
    """Whether a constant counts as parameters."""
    integers = (onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.BOOL, onnx.TensorProto.STRING)
    return tensor.data_type not in integers
