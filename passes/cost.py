"""What a model costs: parameters, multiply-adds, bytes and nodes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import onnx

from passes.graph.model import Graph, Node
from passes.graph.model import nbytes as tensor_bytes
from passes.graph.patch import copy_without_weights


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
        params=sum(int(np.prod(t.dims)) for t in model.graph.initializer if _is_float(t)),
        macs=sum(node_macs(graph, node) for node in graph.nodes) // batch(graph),
        bytes=model_bytes(model),
        nodes=len(graph.nodes),
        ops=dict(Counter(node.op for node in graph.nodes).most_common()),
    )


def model_bytes(model: onnx.ModelProto) -> int:
    """Serialised size with external data; over 2 GB, where protobuf has no word for it, to within some kilobytes."""
    tensors = model.graph.initializer
    external = sum(tensor_bytes(t) for t in tensors if t.external_data)
    inside = sum(t.ByteSize() for t in tensors)
    return external + int(model.ByteSize() if inside < 2**30 else inside + copy_without_weights(model).ByteSize())


def batch(graph: Graph) -> int:
    """Samples that the concrete shapes stand for: the stand-in size of a dynamic first axis, or one."""
    for name in graph.inputs:
        if (name, 0) in graph.info.dynamic:
            return graph.info.shapes[name][0]
    return 1


def node_macs(graph: Graph, node: Node) -> int:
    """Multiply-adds of one node at the concrete shapes; all but Conv, ConvTranspose, Gemm and MatMul count as free."""
    if node.op not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
        return 0
    a, b, y = (graph.shape(name) for name in (node.inputs[0], node.inputs[1], node.outputs[0]))
    if a is None or b is None or y is None:
        return 0
    if node.op == "Conv":  # each output value sums over the weights of one filter
        return int(np.prod(y)) * int(np.prod(b[1:]))
    if node.op == "ConvTranspose":  # each input value is spread by the weights of one filter
        return int(np.prod(a)) * int(np.prod(b[1:]))
    inner = a[0] if node.attrs.get("transA", 0) else a[-1]
    return int(np.prod(y)) * inner


def _is_float(tensor: onnx.TensorProto) -> bool:
    integers = (onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.BOOL, onnx.TensorProto.STRING)
    return tensor.data_type not in integers
