"""Replaces values that are computed from initializers alone by initializers.

Before:  t = Transpose(w), y = MatMul(x, t)     After:  y = MatMul(x, t), t an initializer

All values of predictable size are computed in one session. Left unchanged are: values that need a second copy of a
large weight, or grow; low-precision weights; graph outputs; whatever the engine cannot run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence, Set
from dataclasses import dataclass, field

import numpy as np
import onnx

from passes.graph.kinds import FLOATS
from passes.graph.nodes import drop_unused_initializers, node_reads, replace_nodes
from passes.interface.engine import Array, Engine
from passes.settings.tuning import TUNING
from passes.shapes.constants import ARRAYS, GROWING, Type, computable, compute, tensor_size, types_of
from passes.shapes.tuning import SHAPES
from passes.weights.stored_tensors import stored_array, tensor_of

NARROW = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"}
"""Ops whose low-precision operand is the form to be stored."""
SELECTING = {"NonZero", "Compress", "Unique"}
"""Ops whose output's size depends on values, but is at most the size of their input."""


@dataclass
class _Folding:
    """``tensors``: constants by name. ``fixed``: graph outputs. ``private``: constants that only foldable nodes read,
    so that none of them stays in addition to the computed result. ``done``: nodes that are already decided."""

    model: onnx.ModelProto
    tensors: dict[str, onnx.TensorProto]
    fixed: Set[str]
    private: Set[str] = field(default_factory=set)
    done: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        constants, public = set(self.tensors), set(self.fixed)
        for node in self.model.graph.node:
            if self._is_foldable(node, constants):
                constants.update(n for n in node.output if n)
            else:
                public |= node_reads(node)
        self.private = constants - public

    def _is_foldable(self, node: onnx.NodeProto, constants: Set[str]) -> bool:
        return (
            computable(node)
            and node.op_type not in NARROW
            and all(not n or n in constants for n in node.input)
            and not self.fixed & set(node.output)
        )

    def next(self) -> list[int]:
        """Nodes to compute now, by index. Nodes are left for later if the sizes of their outputs depend on other values
        yet to be computed."""
        nodes = self.model.graph.node
        candidates, constants = [], set(self.tensors)
        for index, node in enumerate(nodes):
            if index not in self.done and self._is_foldable(node, constants):
                candidates.append(index)
                constants.update(n for n in node.output if n)
        types = types_of(self.model, [nodes[i] for i in candidates], self.tensors)
        chosen, at_hand, waiting = [], set(self.tensors), set[str]()
        for index in candidates:
            node = nodes[index]
            if any(n and n not in at_hand for n in node.input):
                if not waiting.intersection(node.input):
                    self.done.add(index)
                continue
            read = [n for n in node.input if n]
            made = [types.get(n) for n in node.output if n]
            known = all(n in self.tensors for n in read)
            if any(t is None or t[1] is None for t in made):
                if not known:
                    waiting.update(node.output)
                    continue
                fits = node.op_type in SELECTING
            else:
                fits = self._fits(node, [types[n] for n in read], [t for t in made if t is not None])
            if fits and all(t is None or t[0] in ARRAYS for t in made):
                chosen.append(index)
                at_hand.update(node.output)
            else:
                self.done.add(index)
        return chosen

    def _fits(self, node: onnx.NodeProto, read: Sequence[Type], made: Sequence[Type]) -> bool:
        """Whether the result needs no second copy of a large weight, and does not grow."""
        sizes = [tensor_size(t) for t in read]
        names = [n for n in node.input if n]
        doubled = (t for n, t in zip(names, read, strict=True) if n not in self.private)
        if any(tensor_size(t)[0] > SHAPES.evaluated_elements or _is_matrix(t) for t in doubled):
            return False
        if node.op_type in GROWING and not _makes_few_integers(node, made):
            return False
        return sum(tensor_size(t)[1] for t in made) <= max(
            SHAPES.evaluated_elements * 8, sum(size for _, size in sizes)
        )

    def read_elsewhere(self, chosen: Sequence[int]) -> set[str]:
        """Names that nodes other than the ``chosen`` read."""
        others = set(range(len(self.model.graph.node))).difference(chosen)
        return set().union(*(node_reads(self.model.graph.node[i]) for i in others))


def _is_matrix(kind: Type) -> bool:
    """Whether a tensor may be the weights of a layer, even of a small one. Tensors that share such weights must go on
    sharing them."""
    shape = kind[1] or ()
    return kind[0] in FLOATS and math.prod(shape) > TUNING.transforms.small_matrix and sum(n > 1 for n in shape) > 1


def _makes_few_integers(node: onnx.NodeProto, made: Sequence[Type]) -> bool:
    """Whether the node's op grows, but is one of the few with which exporters compute shapes."""
    counts = any(a.name == "value" and a.t.data_type == onnx.TensorProto.INT64 for a in node.attribute)
    return node.op_type == "ConstantOfShape" and counts and tensor_size(made[0])[0] <= SHAPES.evaluated_elements


def fold_constants(model: onnx.ModelProto, defaults: Set[str], engine: Engine) -> None:
    """Compute, in place, what depends on initializers alone, except on the ``defaults`` among them."""
    graph = model.graph
    given = {t.name: t for t in graph.initializer if t.name not in defaults}
    folding = _Folding(model, dict(given), {v.name for v in graph.output})
    known: dict[str, Array] = {}
    while chosen := folding.next():
        nodes = [graph.node[i] for i in chosen]
        found = compute(model, nodes, folding.tensors, folding.read_elsewhere(chosen), engine)
        folding.done.update(chosen)
        known |= found
        folding.tensors |= {n: tensor_of(stored_array(np.asarray(a, order="C")), n) for n, a in found.items()}
    if known:
        _replace_by_constants(graph, folding, known.keys())
        drop_unused_initializers(graph, defaults)


def _replace_by_constants(graph: onnx.GraphProto, folding: _Folding, known: Set[str]) -> None:
    """Make the tensors ``known`` initializers, and remove the nodes and initializers that only they needed."""
    kept: list[onnx.NodeProto] = []
    read: set[str] = {v.name for v in graph.output}
    for index in reversed(range(len(graph.node))):
        node = graph.node[index]
        outputs = {n for n in node.output if n}
        needed = outputs & read - known
        if index not in folding.done or needed or not outputs:
            kept.append(node)
            read |= node_reads(node)
            known = known - outputs  # a node that stays computes all of its outputs
    replace_nodes(graph, kept[::-1])
    graph.initializer.extend(t for n, t in folding.tensors.items() if n in known and n in read)
