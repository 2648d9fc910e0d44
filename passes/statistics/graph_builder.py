"""Builds small ONNX models node by node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper

from passes.graph.model import Array
from passes.weights.stored_tensors import array_of, tensor_of

OPSET = 17
END = 2**31 - 1


class Builder:
    """Collects nodes and constants. Its methods return the names of the tensors they create."""

    def __init__(self, opset: int = OPSET) -> None:
        self.opset = max(OPSET, opset)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: Array) -> str:
        """Name of a new constant."""
        name = f"k{len(self.constants)}"
        self.constants.append(tensor_of(np.asarray(value), name))
        return name

    def number(self, value: float) -> str:
        """Name of a float32 scalar."""
        return self.constant(np.array(value, np.float32))

    def ints(self, *values: int) -> str:
        """Name of an int64 vector."""
        return self.constant(np.array(values, np.int64))

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node; returns its first output."""
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def inline(self, model: onnx.ModelProto, names: Mapping[str, str]) -> Mapping[str, str]:
        """Add the nodes of ``model``, whose inputs are ``names``; returns the names of all its tensors here."""
        known = {"": "", **names}
        for tensor in model.graph.initializer:
            known[tensor.name] = self.constant(array_of(tensor))
        for node in model.graph.node:
            new = onnx.NodeProto()
            new.CopyFrom(node)
            new.name = ""
            new.input[:] = [known[n] for n in node.input]
            new.output[:] = [f"t{len(self.nodes)}" + f"_{k}" * (k > 0) if n else "" for k, n in enumerate(node.output)]
            known.update(zip(node.output, new.output, strict=True))
            self.nodes.append(new)
        return known

    def mean(self, source: str, *axes: int, keepdims: int = 0) -> str:
        """Means over axes."""
        if self.opset >= 18:
            return self.op("ReduceMean", source, self.ints(*axes), keepdims=keepdims)
        return self.op("ReduceMean", source, axes=list(axes), keepdims=keepdims)

    def sum(self, source: str, *axes: int) -> str:
        """Sums over axes, which are removed."""
        return self.op("ReduceSum", source, self.ints(*axes), keepdims=0)

    def total(self, source: str) -> str:
        """The sum of all values."""
        return self.op("ReduceSum", source, keepdims=0)

    def model(self, inputs: Mapping[str, Array], outputs: Mapping[str, str], name: str) -> onnx.ModelProto:
        """The model, called ``name``. ``inputs``: name -> example array; ``outputs``: output name -> tensor name."""
        named = [helper.make_node("Identity", [source], [given]) for given, source in outputs.items()]
        ends = [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), [None] * a.ndim)
            for n, a in inputs.items()
        ]
        results = [onnx.ValueInfoProto(name=given) for given in outputs]
        graph = helper.make_graph([*self.nodes, *named], name, ends, results, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)
