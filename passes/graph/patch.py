"""Collects edits to a model and applies them to a copy of its protobuf in one step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from passes.graph.model import Array, Graph, Node, with_array
from passes.weights.storage_types import storage_of
from passes.weights.stored_tensors import stored_array, tensor_of


@dataclass
class Patch:
    """Edits to the model of ``graph``. `apply` performs them on a copy; the original stays unchanged."""

    graph: Graph
    arrays: dict[str, Array] = field(default_factory=dict)
    added: dict[str, Array] = field(default_factory=dict)
    inputs: defaultdict[int, dict[int, str]] = field(default_factory=lambda: defaultdict(dict))
    outputs: defaultdict[int, dict[int, str]] = field(default_factory=lambda: defaultdict(dict))
    attributes: defaultdict[int, dict[str, Any]] = field(default_factory=lambda: defaultdict(dict))
    replaced: dict[int, Sequence[onnx.NodeProto]] = field(default_factory=dict)
    before: dict[int, list[onnx.NodeProto]] = field(default_factory=dict)
    after: dict[int, list[onnx.NodeProto]] = field(default_factory=dict)

    def array(self, name: str) -> Array:
        """Return the value of an initializer after the edits so far."""
        for values in (self.arrays, self.added):
            if name in values:
                return values[name]
        return self.graph.array(name)

    def set_array(self, name: str, value: Array) -> None:
        """Set a new value of initializer ``name``, of the graph or added, cast to its previous type, and rounded to the
        type in which it is stored."""
        values = self.added if name in self.added else self.arrays
        array = np.asarray(value, order="C").astype(self.array(name).dtype, copy=False)
        tensor = self.graph.initializers.get(name) if values is self.arrays else None
        storage = storage_of(tensor) if tensor is not None else None
        if storage is not None and storage.narrow(self.graph.array(name)) is not None:
            array = storage.rounded(array)
        values[name] = stored_array(array)

    def add_array(self, stem: str, value: Array) -> str:
        """Add an initializer and return its name, which is derived from ``stem``."""
        name, n = self.graph.fresh_name(stem), 1
        while name in self.added:
            name, n = self.graph.fresh_name(f"{stem}_{n}"), n + 1
        # Unlike np.ascontiguousarray, this keeps arrays without axes.
        self.added[name] = stored_array(np.asarray(value, order="C"))
        return name

    def reroute(self, node: Node, k: int, name: str) -> None:
        """Make input ``k`` of ``node`` read tensor ``name``."""
        self.inputs[node.index][k] = name

    def set_input_array(self, node: Node, k: int, value: Array) -> None:
        """Make input ``k`` of ``node`` read a new constant that no other node reads."""
        self.reroute(node, k, self.add_array(f"{node.label}.{node.op.lower()}_input{k}", value))

    def multiply_input(self, node: Node, k: int, factor: Array) -> None:
        """Multiply the tensor that input ``k`` of ``node`` reads by a constant."""
        read = self.inputs[node.index].get(k, node.inputs[k])
        product = self.graph.fresh_name(f"{read}.masked_{node.index}_{k}_{len(self.added)}")
        factors = [read, self.add_array(f"{product}.mask", factor)]
        self.insert_before(node, [onnx.helper.make_node("Mul", factors, [product], product)])
        self.reroute(node, k, product)

    def set_attribute(self, node: Node, name: str, value: Any) -> None:
        """Set attribute ``name``; ``None`` removes it."""
        self.attributes[node.index][name] = value

    def replace(self, node: Node, nodes: Sequence[onnx.NodeProto]) -> None:
        """Replace ``node`` by ``nodes``."""
        self.replaced[node.index] = nodes

    def insert_before(self, node: Node, nodes: Sequence[onnx.NodeProto]) -> None:
        """Insert ``nodes`` before ``node``."""
        self.before.setdefault(node.index, []).extend(nodes)

    def insert_after(self, node: Node, nodes: Sequence[onnx.NodeProto], name: str, k: int = 0) -> None:
        """Insert ``nodes`` after ``node``, whose output ``k`` is renamed to ``name``."""
        self.after.setdefault(node.index, []).extend(nodes)
        self.outputs[node.index][k] = name

    def remove(self, node: Node, keep_output: bool = False) -> None:
        """Remove ``node``. With ``keep_output``, the producer of its input 0 takes over the name of its output."""
        self.replaced[node.index] = ()
        if keep_output:
            producer = self.graph.producer[node.inputs[0]]
            self.outputs[producer.index][producer.outputs.index(node.inputs[0])] = node.outputs[0]

    def apply(self) -> onnx.ModelProto:
        """Return the patched copy of the model. Unused initializers stay in it, for `passes.transforms.cleanup`."""
        source = self.graph.model
        result = copy_without_weights(source)
        graph = result.graph
        nodes: list[onnx.NodeProto] = []
        for index, node in enumerate(source.graph.node):
            nodes.extend(self.before.get(index, ()))
            nodes.extend(self.replaced[index] if index in self.replaced else [self._edited(index, node)])
            nodes.extend(self.after.get(index, ()))
        del graph.node[:]
        graph.node.extend(nodes)
        for tensor in source.graph.initializer:
            graph.initializer.append(with_array(tensor, self.arrays.get(tensor.name)))
        graph.initializer.extend(tensor_of(value, name) for name, value in self.added.items())
        for value in graph.input:  # old exporters list initializers as inputs too
            if value.name in self.arrays:
                elem = value.type.tensor_type.elem_type
                value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, elem, self.arrays[value.name].shape))
        return result

    def _edited(self, index: int, node: onnx.NodeProto) -> onnx.NodeProto:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        for k, name in self.inputs.get(index, {}).items():
            copy.input.extend([""] * (k + 1 - len(copy.input)))
            copy.input[k] = name
        for k, name in self.outputs.get(index, {}).items():
            copy.output[k] = name
        for key, value in self.attributes.get(index, {}).items():
            for old in [a for a in copy.attribute if a.name == key]:
                copy.attribute.remove(old)
            if value is not None:
                copy.attribute.append(onnx.helper.make_attribute(key, value))
        return copy


def copy_without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of ``model`` without initializers in its graph, without copying large ones first."""
    result = onnx.ModelProto()
    for descriptor, value in model.ListFields():
        if descriptor.name != "graph":
            _copy_field(result, descriptor.name, value)
    result.graph.SetInParent()
    for descriptor, value in model.graph.ListFields():
        if descriptor.name != "initializer":
            _copy_field(result.graph, descriptor.name, value)
    return result


def _copy_field(message: onnx.ModelProto | onnx.GraphProto, name: str, value: Any) -> None:
    if isinstance(value, int | float | str | bytes):
        setattr(message, name, value)
    else:
        getattr(message, name).MergeFrom(value)
