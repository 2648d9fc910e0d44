"""Models that differ only in names and weights become one: weights are inputs, tensors have names by their place.

On a GPU, loading a session and its first run, in which cuDNN plans the convolutions, take tens of times as long as a
later run. A session of such a model serves all that are alike: each width that is tried of a network, and its blocks
that repeat.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from passes.graph.nodes import subgraphs
from passes.shapes.constants import STANDARD_DOMAINS
from passes.weights.stored_tensors import array_of

Array = NDArray[Any]
ANY = frozenset(range(8))
WEIGHTS: Mapping[str, frozenset[int]] = {
    **dict.fromkeys(("Conv", "ConvTranspose"), frozenset({1, 2})),
    **dict.fromkeys(("Gemm", "MatMul", "Add", "Sub", "Mul", "Div"), ANY),
    "BatchNormalization": frozenset({1, 2, 3, 4}),
    "PRelu": frozenset({1}),
    "Gather": frozenset({0}),
}
"""Operator -> inputs of real numbers that its kernels take as well from an input of the model as from a constant."""
SIZES: Mapping[str, frozenset[int]] = {
    **dict.fromkeys(("Reshape", "Expand", "Pad"), frozenset({1})),
    "Slice": frozenset({1, 2, 3, 4}),
}
"""Operator -> inputs of integers that its kernels take as well from an input of the model as from a constant."""
ALLOWED: Mapping[int, Mapping[str, frozenset[int]]] = {
    TensorProto.FLOAT: WEIGHTS,
    TensorProto.FLOAT16: WEIGHTS,
    TensorProto.INT64: SIZES,
}
BIAS = 2
"""Input of convolutions. Those without a bias get one of zeros, so that one that is moved into it changes nothing."""


@dataclass(frozen=True, eq=False)
class ReusableModel:
    """``model``: the same for all that differ in names and weights only, and so is ``content``, the serialised one;
    ``weights``: its inputs that were constants; ``inputs``: name in the original -> name in it; ``outputs``: names in
    the original, in order."""

    model: onnx.ModelProto
    content: bytes
    weights: Mapping[str, Array]
    inputs: Mapping[str, str]
    outputs: tuple[str, ...]


def reusable(model: onnx.ModelProto) -> ReusableModel | None:
    """``model`` in a form that others share. None for a model with nested graphs or functions, whose names stay, and
    for one that reads a tensor before it is computed."""
    graph = model.graph
    if any(map(subgraphs, graph.node)) or model.functions or graph.sparse_initializer:
        return None
    writer, outputs = _StructureWriter(model), tuple(o.name for o in graph.output)
    try:
        for node in graph.node:
            writer.add(node)
        for name in outputs:
            writer.read(name)
    except KeyError:
        return None
    shared = writer.model
    shared.graph.output.extend(onnx.ValueInfoProto(name=writer.names[name]) for name in outputs)
    content = shared.SerializeToString(deterministic=True)
    return ReusableModel(shared, content, writer.weights, writer.inputs, outputs)


class _StructureWriter:
    """Writes the shared ``model``. Tensors are numbered as nodes come: constants as they are read."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._constants = {t.name: t for t in model.graph.initializer}
        self._as_weights = _weights(model.graph, self._constants)
        self.model = onnx.ModelProto(ir_version=max(model.ir_version, 4))
        self.model.opset_import.extend(model.opset_import)
        self.model.graph.name = "reusable"
        self.names, self.weights = {"": ""}, dict[str, Array]()
        self._count = 0
        for value in model.graph.input:
            if value.name not in self._constants:
                self._named(self.model.graph.input.add(), value)
        self.inputs = {name: own for name, own in self.names.items() if name}

    def add(self, node: onnx.NodeProto) -> None:
        """Add a copy of ``node``."""
        copy = _copied(self.model.graph.node.add(), node)
        copy.name = ""
        copy.input[:] = [self.read(name) for name in node.input]
        if _lacks_bias(node) and node.input[1] in self._as_weights:
            weight = self._constants[node.input[1]]
            copy.input[:] = [*copy.input[:BIAS], self._weight(_zeros(node, weight), weight.data_type)]
        for name in node.output:
            if name:
                self.names[name] = self._new()
        copy.output[:] = [self.names[name] for name in node.output]

    def read(self, name: str) -> str:
        """The new name of a tensor. A constant that is read for the first time becomes an input or a constant."""
        if name not in self.names:
            tensor = self._constants[name]
            if name in self._as_weights:
                self.names[name] = self._weight(array_of(tensor), tensor.data_type)
            else:
                self._named(self.model.graph.initializer.add(), tensor)
        return self.names[name]

    def _weight(self, value: Array, kind: int) -> str:
        name = self._new()
        self.weights[name] = value
        self.model.graph.input.append(helper.make_tensor_value_info(name, kind, [None] * value.ndim))
        return name

    def _named(self, copy: Any, source: Any) -> None:
        self.names[source.name] = _copied(copy, source).name = self._new()

    def _new(self) -> str:
        self._count += 1
        return f"v{self._count}"


def _copied(copy: Any, source: Any) -> Any:
    copy.CopyFrom(source)
    copy.ClearField("doc_string")
    return copy


def _lacks_bias(node: onnx.NodeProto) -> bool:
    without = len(node.input) <= BIAS or not node.input[BIAS]
    return node.op_type in ("Conv", "ConvTranspose") and node.domain in STANDARD_DOMAINS and without


def _zeros(node: onnx.NodeProto, weight: TensorProto) -> Array:
    """A bias of zeros for a convolution of ``weight`` (O, I, ...), or (I, O / groups, ...) of a transposed one."""
    groups = next((a.i for a in node.attribute if a.name == "group"), 1)
    width = weight.dims[0] if node.op_type == "Conv" else weight.dims[1] * groups
    return np.zeros(width, helper.tensor_dtype_to_np_dtype(weight.data_type))


def _weights(graph: onnx.GraphProto, constants: Mapping[str, TensorProto]) -> set[str]:
    """Names of the ``constants`` that are weights or sizes wherever they are read."""
    uses: dict[str, list[bool]] = defaultdict(list)
    for node in graph.node:
        for k, name in enumerate(node.input):
            if name in constants:
                inputs = ALLOWED.get(constants[name].data_type, {}).get(node.op_type, frozenset())
                uses[name].append(node.domain in STANDARD_DOMAINS and k in inputs)
    outputs = {o.name for o in graph.output}
    return {name for name, use in uses.items() if all(use) and name not in outputs and constants[name].dims}
