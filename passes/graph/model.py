"""A linked, typed, read-only view of an ONNX model.

onnx-graphsurgeon parses nodes, attributes and captured tensors; edits do not go through it, because its exporter
drops metadata, doc strings and value_info. They are collected in a `Patch` and applied to the protobuf.
"""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx import numpy_helper

from passes.graph.evaluate import evaluate
from passes.graph.shapes import GROWING, SMALL, Observer, Shape, ShapeInfo, infer_shapes

Array = NDArray[Any]
STANDARD_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True, eq=False, slots=True)
class Node:
    """A node of the main graph; ``index`` is its place in the protobuf, absent inputs and outputs are ``""``."""

    index: int
    op: str
    domain: str
    label: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Any]
    captures: frozenset[str]
    """Outer tensors that the node's subgraphs read."""


class Graph:
    """View of the main graph of ``model``; ``shapes`` are concrete (see `passes.graph.shapes`)."""

    def __init__(
        self,
        model: onnx.ModelProto,
        input_shapes: Mapping[str, Shape] | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.model = model
        self.opset = next((o.version for o in model.opset_import if o.domain in STANDARD_DOMAINS), 1)
        self.initializers = {t.name: t for t in model.graph.initializer}
        self.info: ShapeInfo = infer_shapes(model, input_shapes, observer)
        self.nodes = _parse_nodes(model)
        self.inputs = [v.name for v in model.graph.input if v.name not in self.initializers]
        self.outputs = [v.name for v in model.graph.output]
        self.producer: dict[str, Node] = {n: node for node in self.nodes for n in node.outputs if n}
        self.users: dict[str, list[tuple[Node, int]]] = defaultdict(list)
        for node in self.nodes:
            for k, name in enumerate(node.inputs):
                self.users[name].append((node, k))
        self.captured = frozenset().union(*(node.captures for node in self.nodes))
        self.constants = self._constants()
        self._inner = frozenset(name for node in model.graph.node for g in _bodies(node) for name in _names_in(g))
        self._arrays: dict[str, Array] = {}

    def __getstate__(self) -> dict[str, Any]:
        """To be sent to another process: what lies in ``model`` already does not go twice."""
        for node in self.nodes:
            for value in node.attrs.values():
                _read_lazy(value)
        return {**vars(self), "initializers": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.initializers = {t.name: t for t in self.model.graph.initializer}

    def _constants(self) -> frozenset[str]:
        """Initializers, and tensors computed from nothing but constants."""
        found = {*self.initializers, *(t.values.name for t in self.model.graph.sparse_initializer)}
        for node in self.nodes:
            random = node.op.startswith(("Random", "Multinomial", "Bernoulli"))
            if not random and not node.captures and all(not n or n in found for n in node.inputs):
                found.update(n for n in node.outputs if n)
        return frozenset(found)

    def array(self, name: str) -> Array:
        """Value of a constant, read or computed once; see `knows`."""
        if name not in self._arrays and not self.knows(name):
            raise KeyError(name)
        return self._arrays[name]

    def knows(self, name: str) -> bool:
        """Whether ``name`` is an initializer, or computed from nothing but initializers without growing large."""
        if name in self.initializers and name not in self._arrays:
            self._arrays[name] = numpy_helper.to_array(self.initializers[name])
        elif name in self.constants and name in self.producer and name not in self._arrays:
            node = self.producer[name]
            grows = node.op in GROWING and math.prod(self.shape(name) or ()) > SMALL
            if not grows and all(self.knows(n) for n in node.inputs if n):
                opsets = {o.domain: o.version for o in self.model.opset_import}
                self._arrays.update(evaluate(self.model.graph.node[node.index], opsets, self._arrays))
        return name in self._arrays

    def with_arrays(self, arrays: Mapping[str, Array]) -> Graph:
        """The same graph with other values in some initializers."""
        other = copy.copy(self)
        other.model = copy_with_arrays(self.model, arrays)
        other.initializers = {t.name: t for t in other.model.graph.initializer}
        other._arrays = {}
        return other

    def shape(self, name: str) -> Shape | None:
        """Concrete shape of a tensor, or nothing where it cannot be known."""
        return self.info.shapes.get(name)

    def value(self, name: str) -> Array | None:
        """Value of a tensor if it is the same whatever the dynamic dims: a constant, or arithmetic on fixed shapes."""
        if name in self.initializers:
            return self.array(name)
        return None if name in self.info.varying else self.info.values.get(name)

    def fresh_name(self, stem: str) -> str:
        """A tensor name that is not in use, inside control-flow bodies neither."""
        taken = self.info.shapes.keys() | self.initializers.keys() | self.producer.keys() | set(self.inputs)
        name, n = stem, 1
        while name in taken or name in self._inner:
            name, n = f"{stem}_{n}", n + 1
        return name


def _parse_nodes(model: onnx.ModelProto) -> list[Node]:
    """Nodes of the main graph, parsed by onnx-graphsurgeon from a copy that holds no weights."""
    bare = onnx.ModelProto(ir_version=model.ir_version)
    bare.opset_import.extend(model.opset_import)
    bare.graph.name = model.graph.name
    bare.graph.node.extend(model.graph.node)
    for node in bare.graph.node:
        binary = [a for a in node.attribute if not _is_text(a)]
        for attribute in binary:  # engines and other opaque payloads of custom ops
            node.attribute.remove(attribute)
    gs.logger.G_LOGGER.severity = gs.logger.G_LOGGER.CRITICAL
    parsed = gs.import_onnx(bare)
    nodes: list[Node] = []
    for index, node in enumerate(parsed.nodes):
        inner = [a for a in node.attrs.values() if isinstance(a, gs.Graph)]
        nodes.append(
            Node(
                index=index,
                op=node.op,
                domain="" if node.domain in (None, "ai.onnx") else node.domain,  # the standard domain's two names
                label=node.name or (node.outputs[0].name if node.outputs else f"{node.op}_{index}"),
                inputs=tuple(t.name for t in node.inputs),
                outputs=tuple(t.name for t in node.outputs),
                attrs=node.attrs,
                captures=frozenset().union(*(_captures(g) for g in inner)),
            )
        )
    return nodes


def _read_lazy(value: object) -> None:
    """Read tensors in attributes, for which onnx-graphsurgeon keeps protobuf's containers, which cannot be pickled."""
    if isinstance(value, gs.Constant):
        _ = value.values
    elif isinstance(value, gs.Graph):
        for tensor in value.tensors().values():
            _read_lazy(tensor)
        for node in value.nodes:
            for inner in node.attrs.values():
                _read_lazy(inner)


def _is_text(attribute: onnx.AttributeProto) -> bool:
    try:
        return all(isinstance(s.decode(), str) for s in (attribute.s, *attribute.strings))
    except UnicodeDecodeError:
        return False


def _captures(graph: gs.Graph) -> frozenset[str]:
    """Names that ``graph`` or a graph inside it reads but does not define."""
    read: set[str] = {t.name for t in graph.outputs}
    for node in graph.nodes:
        read.update(t.name for t in node.inputs)
        for attribute in node.attrs.values():
            if isinstance(attribute, gs.Graph):
                read |= _captures(attribute)
    defined = {t.name for node in graph.nodes for t in node.outputs} | {t.name for t in graph.inputs}
    defined |= {name for name, t in graph.tensors().items() if isinstance(t, gs.Constant)}
    return frozenset(read - defined - {""})


def copy_with_arrays(model: onnx.ModelProto, arrays: Mapping[str, Array]) -> onnx.ModelProto:
    """A copy of ``model`` with other values in some initializers."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for tensor in result.graph.initializer:
        if tensor.name in arrays:
            tensor.CopyFrom(with_array(tensor, np.asarray(arrays[tensor.name])))
    return result


def with_array(tensor: onnx.TensorProto, array: Array | None) -> onnx.TensorProto:
    """An initializer of the name and the doc string of ``tensor`` that holds ``array``; ``tensor`` itself for None."""
    if array is None:
        return tensor
    result = numpy_helper.from_array(array, tensor.name)
    if tensor.doc_string:  # to set an empty one would take two bytes
        result.doc_string = tensor.doc_string
    return result


def _bodies(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The graphs in a node's attributes."""
    return [g for a in node.attribute for g in (*((a.g,) if a.HasField("g") else ()), *a.graphs)]


def _names_in(graph: onnx.GraphProto) -> Iterator[str]:
    """Every tensor name that ``graph`` or a graph inside it reads or defines."""
    yield from (v.name for v in (*graph.input, *graph.output, *graph.initializer))
    for node in graph.node:
        yield from (*node.input, *node.output)
        for inner in _bodies(node):
            yield from _names_in(inner)
