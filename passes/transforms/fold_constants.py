"""Replaces values that are computed from initializers alone by initializers.

Before:  t = Transpose(w), y = MatMul(x, t)     After:  y = MatMul(x, t), t an initializer

All values of predictable size are computed in one session. Left unchanged are: values that need a second copy of a
large weight, or grow; quantised weights; graph outputs; whatever the engine cannot run. Results of casts of float16 and
bfloat16 do not count as grown: they are marked, and stored as before in the end (`passes.transforms.narrow_storage`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field

import numpy as np
import onnx

from passes.axes.op_facts import Moves
from passes.axes.registry import facts_of
from passes.graph.nodes import drop_unused_initializers, node_reads, replace_nodes
from passes.interface.engine import Engine
from passes.settings.tuning import TUNING
from passes.shapes.constants import ARRAYS, FLOATS, GROWING, Type, computable, compute, tensor_size, types_of
from passes.shapes.tuning import SHAPES
from passes.transforms.narrow_storage import share_casts
from passes.weights.storage_types import NARROW_FLOATS, WIDE_FLOATS, StorageType, mark_storage, storage_of
from passes.weights.stored_tensors import array_of, stored_array, tensor_of

NARROW = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"}
"""Ops whose low-precision operand is the form to be stored."""
SELECTING = {"NonZero", "Compress", "Unique"}
"""Ops whose output's size depends on values, but is at most the size of their input."""
MOVING = {Moves.SAME, Moves.RESHAPED, Moves.PERMUTED, Moves.PICKED, Moves.GATHERED, Moves.JOINED}
"""How ops may move values so that all outputs are values of the inputs, and of the same storage type."""


@dataclass
class _Folding:
    """``tensors``: constants by name. ``fixed``: graph outputs. ``private``: constants that only foldable nodes read,
    so that none of them stays in addition to the computed result. ``done``: nodes that are already decided.
    ``narrow``: constants that are stored in a narrower type."""

    model: onnx.ModelProto
    tensors: dict[str, onnx.TensorProto]
    fixed: Set[str]
    private: Set[str] = field(default_factory=set)
    done: set[int] = field(default_factory=set)
    narrow: dict[str, StorageType] = field(default_factory=dict)

    def __post_init__(self) -> None:
        constants, public = set(self.tensors), set(self.fixed)
        for node in self.model.graph.node:
            if self._is_foldable(node, constants):
                constants.update(n for n in node.output if n)
            else:
                public |= node_reads(node)
        self.private = constants - public
        stored = {name: storage_of(tensor) for name, tensor in self.tensors.items()}
        self.narrow = {name: storage for name, storage in stored.items() if storage is not None}

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
            self._find_narrow(node, types)
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
        names = [n for n in node.input if n]
        doubled = (t for n, t in zip(names, read, strict=True) if n not in self.private)
        if any(tensor_size(t)[0] > SHAPES.evaluated_elements or _is_matrix(t) for t in doubled):
            return False
        if node.op_type in GROWING and not _makes_few_integers(node, made):
            return False
        grown = self._stored_bytes([n for n in node.output if n], made)
        return grown <= max(SHAPES.evaluated_elements * 8, self._stored_bytes(names, read))

    def _find_narrow(self, node: onnx.NodeProto, types: Mapping[str, Type]) -> None:
        """Note the outputs whose values are all of a narrower type: casts, and what only moves their results."""
        kinds = {n: types[n][0] for n in (*node.input, *node.output) if n in types}
        source, target = node.input[0], node.output[0]
        if node.op_type == "Cast" and kinds.get(source) in NARROW_FLOATS and kinds.get(target) in WIDE_FLOATS:
            self.narrow[target] = StorageType(kinds[source], source)
        elif facts_of(node.domain, node.op_type).moves in MOVING and source in self.narrow:
            given = [self.narrow.get(n) for n in node.input if kinds.get(n) in FLOATS]
            if all(storage is not None and storage.kind == self.narrow[source].kind for storage in given):
                self.narrow |= dict.fromkeys((n for n in node.output if n), self.narrow[source])

    def _stored_bytes(self, names: Sequence[str], types: Sequence[Type]) -> float:
        sizes = [(tensor_size(t), self.narrow.get(n)) for n, t in zip(names, types, strict=True)]
        return sum(size[1] if storage is None else size[0] * storage.itemsize for size, storage in sizes)

    def cast_constants(self, chosen: Sequence[int]) -> set[str]:
        """Cast constants of a narrow type without the engine, which may not know the type. Returns their names."""
        found: set[str] = set()
        for node in (self.model.graph.node[i] for i in chosen):
            source = self.tensors.get(node.input[0])
            name = node.output[0]
            if name in self.narrow and node.op_type == "Cast" and source is not None:
                kind = next(a.i for a in node.attribute if a.name == "to")
                wide = array_of(source).astype(onnx.helper.tensor_dtype_to_np_dtype(kind))
                self.tensors[name] = tensor_of(stored_array(wide), name)
                found.add(name)
        self.mark(found)
        return found

    def mark(self, names: Iterable[str]) -> None:
        """Mark those of the constants ``names`` that are stored in a narrower type."""
        for name in names:
            if name in self.narrow:
                mark_storage(self.tensors[name], self.narrow[name])

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
    share_casts(graph)
    given = {t.name: t for t in graph.initializer if t.name not in defaults}
    folding = _Folding(model, dict(given), {v.name for v in graph.output})
    known: set[str] = set()
    while chosen := folding.next():
        casts = folding.cast_constants(chosen)
        nodes = [graph.node[i] for i in chosen if not casts.intersection(graph.node[i].output)]
        found = compute(model, nodes, folding.tensors, folding.read_elsewhere(chosen), engine) if nodes else {}
        folding.done.update(chosen)
        folding.tensors |= {n: tensor_of(stored_array(np.asarray(a, order="C")), n) for n, a in found.items()}
        folding.mark(found)
        known |= casts | found.keys()
    if known:
        _replace_by_constants(graph, folding, known)
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
