"""Converts sparse weights to dense ones, where that takes little more memory.

Channels can be cut from dense weights only.
"""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import numpy_helper

from passes.settings.tuning import TUNING


def sparse_to_dense(graph: onnx.GraphProto) -> None:
    """Convert sparse tensors of ``graph`` to dense ones. Very sparse tensors become, or stay, Constant nodes."""
    nodes: list[onnx.NodeProto] = []
    for sparse in graph.sparse_initializer:
        name = sparse.values.name
        tensor = dense(sparse, name)
        if tensor is not None:
            graph.initializer.append(tensor)
        else:
            nodes.append(onnx.helper.make_node("Constant", [], [name], sparse_value=sparse))
    if nodes:
        nodes.extend(graph.node)
        del graph.node[:]
        graph.node.extend(nodes)
    del graph.sparse_initializer[:]
    for node in graph.node:
        if node.op_type == "Constant" and len(node.attribute) == 1 and node.attribute[0].HasField("sparse_tensor"):
            tensor = dense(node.attribute[0].sparse_tensor, node.output[0])
            if tensor is not None:
                node.attribute[0].CopyFrom(onnx.helper.make_attribute("value", tensor))


def dense(sparse: onnx.SparseTensorProto, name: str) -> onnx.TensorProto | None:
    """The dense tensor. None where it is much larger, or where the type is not a plain number type.

    Positions are (entries,), linear, or (entries, rank).
    """
    size = math.prod(sparse.dims)
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(sparse.values.data_type))
    width = dtype.itemsize
    entries = math.prod(sparse.values.dims)
    stored = entries * width + math.prod(sparse.indices.dims) * 8
    if dtype.kind not in "fiub" or size * width > TUNING.transforms.dense_growth * stored:
        return None
    indices = numpy_helper.to_array(sparse.indices) if entries else np.empty(0, np.int64)
    found = np.zeros(tuple(sparse.dims), dtype)
    if entries:
        places = np.ravel_multi_index(tuple(indices.T), found.shape) if indices.ndim == 2 else indices
        found.reshape(-1)[places] = numpy_helper.to_array(sparse.values).reshape(-1)
    return numpy_helper.from_array(found, name)


def sparse_values(graph: onnx.GraphProto) -> list[onnx.TensorProto]:
    """The stored values of the sparse tensors of ``graph``, without positions."""
    attributes = [a for node in graph.node if node.op_type == "Constant" for a in node.attribute]
    held = [a.sparse_tensor for a in attributes if a.HasField("sparse_tensor")]
    return [sparse.values for sparse in (*graph.sparse_initializer, *held)]
