"""A linked, typed, read-only view of an ONNX model.

Nodes are parsed by onnx-graphsurgeon (`passes.graph.node_parsing`). Edits do not go through it, because its exporter
drops metadata, doc strings and value_info. They are collected in a `Patch` and applied to the protobuf.
"""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from passes.graph.kinds import integer_tensors
from passes.graph.node_parsing import Node, parse_nodes, read_lazy
from passes.graph.nodes import fresh, names_in, subgraphs
from passes.interface.engine import Engine
from passes.shapes.arithmetic import is_small
from passes.shapes.constants import GROWING, STANDARD_DOMAINS, computable, compute, constant_tensor
from passes.shapes.inference import Assignment, Observer, Shape, ShapeInfo, infer_shapes
from passes.shapes.overridable_inputs import overridable
from passes.shapes.tuning import SHAPES
from passes.weights.stored_tensors import array_of, stored_array, tensor_of

__all__ = ["Array", "Graph", "Node", "copy_with_arrays", "with_array"]
Array = NDArray[Any]


class Graph:
    """View of the main graph of ``model``.

    ``assignments``, ``observer``: see `passes.shapes.inference`. ``info``: the shapes, if they are known already.
    ``initializers``: those with a known value. Initializers that callers may override are ``inputs``. ``engine``:
    computes shapes and constants; without it only initializers are known.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        assignments: Sequence[Assignment] = (),
        observer: Observer | None = None,
        engine: Engine | None = None,
        info: ShapeInfo | None = None,
    ) -> None:
        self.model = model
        self._engine = engine
        self.overridable = overridable(model)
        self.opset = next((o.version for o in model.opset_import if o.domain in STANDARD_DOMAINS), 1)
        self.initializers = self._stored()
        self.info = info or infer_shapes(model, assignments, observer, engine)
        self.nodes = parse_nodes(model)
        self.inputs = [v.name for v in model.graph.input if v.name not in self.initializers]
        self.outputs = [v.name for v in model.graph.output]
        self.producer: dict[str, Node] = {n: node for node in self.nodes for n in node.outputs if n}
        self.users: dict[str, list[tuple[Node, int]]] = defaultdict(list)
        for node in self.nodes:
            for k, name in enumerate(node.inputs):
                self.users[name].append((node, k))
        self.captured = frozenset().union(*(node.captures for node in self.nodes))
        self.constants = self._constants()
        self.integers = integer_tensors(model)
        self._inner = frozenset(name for node in model.graph.node for g in subgraphs(node) for name in names_in(g))
        self._arrays: dict[str, Array] = {}
        self._tried: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        """Pickle support for other processes: data that ``model`` already holds are not sent twice."""
        for node in self.nodes:
            for value in node.attrs.values():
                read_lazy(value)
        return {**vars(self), "initializers": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.initializers = self._stored()

    def _stored(self) -> dict[str, onnx.TensorProto]:
        return {t.name: t for t in self.model.graph.initializer if t.name not in self.overridable}

    def _constants(self) -> frozenset[str]:
        """Initializers, and tensors computed from constants only."""
        found = {*self.initializers, *(t.values.name for t in self.model.graph.sparse_initializer)}
        for node in self.nodes:
            random = node.op.startswith(("Random", "Multinomial", "Bernoulli"))
            if not random and not node.captures and all(not n or n in found for n in node.inputs):
                found.update(n for n in node.outputs if n)
        return frozenset(found)

    def array(self, name: str) -> Array:
        """Return the value of a constant, which is read or computed once; see `knows`."""
        if name not in self._arrays and not self.knows(name):
            raise KeyError(name)
        return self._arrays[name]

    def forget(self) -> None:
        """Free the values that were read. They are read again on demand."""
        self._arrays.clear()

    def is_number(self, name: str) -> bool:
        """Whether ``name`` is a single known value, of any rank."""
        shape = self.shape(name)
        return shape is not None and all(n == 1 for n in shape) and self.knows(name)

    def number(self, name: str) -> float | None:
        """The single value of ``name``; None where it has several, or is not known."""
        return float(np.ravel(self.array(name))[0]) if self.is_number(name) else None

    def only_user(self, name: str) -> Node | None:
        """The node that reads ``name``, at one input; None where anything else reads it, or nothing does."""
        users = self.users[name]
        alone = len(users) == 1 and name not in self.outputs and name not in self.captured
        return users[0][0] if alone else None

    def knows(self, name: str) -> bool:
        """Whether ``name`` is an initializer, or computed from initializers only without becoming large."""
        if name in self.initializers and name not in self._arrays:
            self._arrays[name] = array_of(self.initializers[name])
        elif name in self.constants and name in self.producer and name not in self._arrays.keys() | self._tried:
            small = [n for n in self.constants if n in self.producer and self._size(n) <= SHAPES.evaluated_elements]
            self._compute([name, *sorted(set(small) - self._tried)])
        return name in self._arrays

    def _size(self, name: str) -> float:
        shape = self.shape(name)
        return math.inf if shape is None else math.prod(shape)

    def _compute(self, names: list[str]) -> None:
        """Compute constants in one run."""
        self._tried.update(names)
        tensors, nodes, protos = dict(self.initializers), [], self.model.graph.node
        made: set[str] = set()
        for node in self._makers(names):
            proto = protos[node.index]
            held = constant_tensor(proto)
            if held is not None:
                tensors[node.outputs[0]] = held
                if node.outputs[0] in names:
                    self._arrays[node.outputs[0]] = array_of(held)
            elif (
                computable(proto)
                and all(not n or n in tensors or n in made for n in node.inputs)
                and all(self._stays_small(node, n) for n in node.outputs if n)
            ):
                nodes.append(proto)
                made.update(node.outputs)
        if nodes and self._engine is not None:
            self._arrays |= compute(self.model, nodes, tensors, set(names), self._engine)

    def _makers(self, names: list[str]) -> list[Node]:
        """Return the nodes that ``names`` are computed by, in graph order."""
        found: dict[int, Node] = {}
        waiting = [self.producer[n] for n in names]
        while waiting:
            node = waiting.pop()
            if node.index not in found:
                found[node.index] = node
                waiting += (self.producer[n] for n in node.inputs if n in self.producer)
        return [found[index] for index in sorted(found)]

    def _stays_small(self, node: Node, name: str) -> bool:
        size = self._size(name)
        if node.op in GROWING:
            return size <= SHAPES.evaluated_elements
        return size <= 8 * max(SHAPES.evaluated_elements, sum(self._size(n) for n in node.inputs if n))

    def with_arrays(self, arrays: Mapping[str, Array]) -> Graph:
        """Return the same graph with other values of some initializers."""
        other = copy.copy(self)
        other.model = copy_with_arrays(self.model, arrays)
        other.initializers = other._stored()
        other._arrays, other._tried = {}, set()
        return other

    def shape(self, name: str) -> Shape | None:
        """Return the concrete shape of a tensor; None if it is unknown."""
        return self.info.shapes.get(name)

    def value(self, name: str) -> Array | None:
        """Return the value of a tensor that does not depend on dynamic dims: a constant, or arithmetic on fixed
        shapes."""
        if name in self.initializers:
            return self.array(name)
        if name in self.info.varying:
            return None
        small = math.prod(self.shape(name) or ()) <= SHAPES.evaluated_elements
        if name not in self.info.values and name in self.constants and small and self.knows(name):
            return self.array(name)
        return self.info.values.get(name)

    def rewritten(self, model: onnx.ModelProto, like: Mapping[str, str] = MappingProxyType({})) -> Graph:
        """Return the graph of ``model`` with the shapes of this graph. No shape of its tensors may have changed.
        ``like``: new tensor -> one of this graph that has its shape."""
        old = self.info
        own = {t.name: tuple(t.dims) for t in model.graph.initializer}
        values = {t.name: array_of(t) for t in model.graph.initializer if is_small(t)}
        values = {name: value for name, value in values.items() if name not in self.overridable}
        shapes, sizes = (
            known | {n: known[o] for n, o in like.items() if o in known} for known in (old.shapes, old.sizes)
        )
        dynamic = old.dynamic | {(n, k) for n, o in like.items() for name, k in old.dynamic if name == o}
        info = replace(old, shapes={**shapes, **own}, sizes={**sizes, **own}, dynamic=dynamic)
        info.values = {**{n: v for n, v in old.values.items() if n not in self.initializers}, **values}
        return Graph(model, engine=self._engine, info=info)

    def fresh_name(self, stem: str) -> str:
        """Return a tensor name that is not in use, also not in control-flow bodies."""
        taken = {*self.info.shapes, *self.initializers, *self.producer, *self.inputs, *self._inner}
        return fresh(stem, taken)


def copy_with_arrays(model: onnx.ModelProto, arrays: Mapping[str, Array]) -> onnx.ModelProto:
    """Return a copy of ``model`` with other values of some initializers."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for tensor in result.graph.initializer:
        if tensor.name in arrays:
            tensor.CopyFrom(with_array(tensor, np.asarray(arrays[tensor.name])))
    return result


def with_array(tensor: onnx.TensorProto, array: Array | None) -> onnx.TensorProto:
    """Return an initializer with the name and doc string of ``tensor`` that holds ``array``; ``tensor`` itself for
    None."""
    if array is None:
        return tensor
    result = tensor_of(stored_array(array), tensor.name)
    if tensor.doc_string:  # setting an empty doc string would add two bytes
        result.doc_string = tensor.doc_string
    return result
