"""Finds the element type of a computed tensor, as far as constants, casts and declared inputs show it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from passes.graph.kinds import TYPED_BY
from passes.graph.model import Graph


def element_type(graph: Graph, name: str) -> np.dtype[Any]:
    """The type of tensor ``name``, float32 where nothing shows another."""
    declared = {value.name: value.type.tensor_type.elem_type for value in graph.model.graph.input}
    while not graph.knows(name):
        maker = graph.producer.get(name)
        if maker is not None and maker.op == "Cast":
            return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(maker.attrs["to"]))
        if maker is None or not maker.inputs:
            return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(declared.get(name) or onnx.TensorProto.FLOAT))
        name = maker.inputs[TYPED_BY.get(maker.op, 0)]
    return graph.array(name).dtype
