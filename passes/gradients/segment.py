"""Cuts the part of a graph that is to be differentiated, as a model in float32 or float64."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from passes.graph.kinds import inferred_types
from passes.graph.model import Graph
from passes.graph.nodes import node_reads
from passes.shapes.constants import FLOATS
from passes.weights.stored_tensors import array_of

HALF = (TensorProto.FLOAT16, TensorProto.BFLOAT16)


@dataclass(frozen=True)
class GraphCut:
    """Nodes by their index in the graph, in order, the constants that they read, and the inputs: tensors that are fed.

    Numbers of half precision have become float32.
    """

    nodes: Mapping[int, onnx.NodeProto]
    constants: Sequence[TensorProto]
    inputs: Sequence[str]


def cut(graph: Graph, outputs: Collection[str], fed: Collection[str]) -> GraphCut:
    """The nodes that ``outputs`` need, from the tensors ``fed`` and the graph's inputs on."""
    wanted = set(outputs) - set(fed)
    found: dict[int, onnx.NodeProto] = {}
    protos = graph.model.graph.node
    for index in reversed(range(len(protos))):
        if not wanted.isdisjoint(protos[index].output):
            found[index] = _in_single_precision(protos[index])
            wanted |= node_reads(protos[index]) - set(fed)
    made = {n for node in found.values() for n in node.output}
    stored = {t.name: t for t in graph.model.graph.initializer}
    constants = [_single(stored[n]) for n in sorted(wanted - made) if n in stored]
    reads = set(outputs).union(*(node_reads(node) for node in found.values())) if found else set(outputs)
    order = [*graph.inputs, *fed]
    inputs = [n for n in dict.fromkeys(order) if n in reads and n not in made and (n in fed or n not in stored)]
    return GraphCut(dict(sorted(found.items())), constants, inputs)


def element_types(graph: Graph) -> Mapping[str, int]:
    """Element types of the tensors where ONNX knows them; float32 for half precision."""
    if graph not in _TYPES:
        _TYPES[graph] = _types(graph)
    return _TYPES[graph]


_TYPES: WeakKeyDictionary[Graph, Mapping[str, int]] = WeakKeyDictionary()
"""Cache of inferred element types, one entry per graph."""


def _types(graph: Graph) -> dict[str, int]:
    found = inferred_types(graph.model)
    for node in graph.nodes:  # ONNX does not infer some, such as those of functions
        known = [found[n] for n in node.inputs if is_real(found.get(n, TensorProto.UNDEFINED))]
        for name in node.outputs:
            if known and name not in graph.integers:
                found.setdefault(name, known[0])
    return {name: TensorProto.FLOAT if kind in HALF else kind for name, kind in found.items()}


def is_real(kind: int) -> bool:
    """Whether an element type is one of real numbers."""
    return kind in FLOATS


def _single(tensor: TensorProto) -> TensorProto:
    if tensor.data_type not in HALF:
        return tensor
    return numpy_helper.from_array(array_of(tensor).astype(np.float32), tensor.name)


def _in_single_precision(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    for attribute in copy.attribute:
        if attribute.HasField("t"):
            attribute.t.CopyFrom(_single(attribute.t))
        elif attribute.name == "to" and attribute.i in HALF:
            attribute.i = TensorProto.FLOAT
    return copy
