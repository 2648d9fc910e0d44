"""Evaluates the part of a model that depends only on shapes and small constants.

Reshape targets, Slice bounds, Resize sizes and similar integers are often computed in the graph. The runtime evaluates
them here from the shapes of tensors alone: the current shapes of the model, or those it will have after a change. The
module also records from which axes each integer comes.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from passes.interface.engine import Engine, Loaded
from passes.interface.errors import RunError
from passes.shapes.constants import FLOATS, GROWING, STANDARD_DOMAINS, computable
from passes.shapes.overridable_inputs import overridable
from passes.shapes.tuning import SHAPES

Shape = tuple[int, ...]
Values = dict[str, NDArray[Any]]

PLAIN = {
    "Abs", "Add", "And", "Cast", "Ceil", "Concat", "ConstantOfShape", "Div", "Equal", "Expand", "Flatten", "Floor",
    "Gather", "Greater", "GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Max", "Min", "Mod", "Mul", "Neg", "Not",
    "Or", "Range", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum", "Reshape", "Slice", "Split", "Sqrt", "Squeeze",
    "Sub", "Tile", "Transpose", "Unsqueeze", "Where",
}  # fmt: skip
"""Ops that exporters commonly use for arithmetic on shapes. If the runtime rejects the whole part, only these are
evaluated."""


class ShapeArithmetic:
    """The part of ``model`` that depends only on shapes. ``shapes``: of tensors, as far as they are known.

    Without an engine it is empty.
    """

    def __init__(self, model: onnx.ModelProto, shapes: Mapping[str, Shape], engine: Engine | None) -> None:
        self._engine = engine
        self._header = onnx.ModelProto(ir_version=model.ir_version)
        self._header.opset_import.extend(model.opset_import)
        given = overridable(model)
        self._constants = {t.name: t for t in model.graph.initializer if is_small(t) and t.name not in given}
        self._candidates: list[onnx.NodeProto] = []
        self.roots: dict[str, tuple[str, slice]] = {}
        """Output of a Shape or Size op -> (tensor whose sizes it returns, indices of these axes). Size returns their
        product."""
        self.totals: set[str] = set()
        """Outputs of Size ops."""
        known = set(self._constants)
        features = {name for name, t in self._constants.items() if t.dims and t.data_type in FLOATS}
        for node in model.graph.node:
            if node.domain not in STANDARD_DOMAINS:
                continue
            sized = node.op_type in ("Shape", "Size")
            if not sized and not features.isdisjoint(node.input):  # which may lose channels
                features.update(node.output)
            if sized and (node.input[0] not in known or node.input[0] in features):
                if node.input[0] in shapes:
                    bounds = {a.name: a.i for a in node.attribute}
                    part = slice(bounds.get("start", 0), bounds.get("end"))
                    self.roots[node.output[0]] = (node.input[0], part)
                    self.totals.update(node.output if node.op_type == "Size" else ())
                    known.add(node.output[0])
            elif _is_evaluable(node, known, shapes):
                self._candidates.append(node)
                known.update(n for n in node.output if n)
        self._candidates = _behind(self._candidates, self.roots.keys())
        self.nodes = self._candidates
        self._loaded: Loaded | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Pickle support for other processes, each of which loads the model itself."""
        return {**vars(self), "_loaded": None}

    def at(self, shapes: Mapping[str, Shape]) -> Values:
        """Return all values under these shapes: those of computed tensors, and the outputs of `Shape` and `Size`."""
        found: Values = {name: self._root(name, shapes[tensor]) for name, (tensor, _) in self.roots.items()}
        if not self.nodes or self._engine is None:
            return found
        try:
            return {**found, **self._run(found)}
        except RunError:
            if self.nodes is not self._candidates:
                return self._one_by_one(found)
        self.nodes, self._loaded = self._plain(), None
        return self.at(shapes)

    def _one_by_one(self, found: Values) -> Values:
        """Return ``found`` and the values of all nodes that run. Under the shapes that a model will have after a
        change, a node that fills a table (an Expand of a constant that is not yet cut) need not run; what others
        compute does not depend on it."""
        assert self._engine is not None
        found = dict(found)
        for node in self.nodes:
            read = {n: found[n] for n in node.input if n in found}
            if all(not n or n in read or n in self._constants for n in node.input):
                with contextlib.suppress(RunError):
                    inputs = [onnx.helper.make_tensor_value_info(n, _elem_type(a), a.shape) for n, a in read.items()]
                    found.update(self._engine(self._model([node], inputs))(read))
        return found

    def _root(self, name: str, shape: Shape) -> NDArray[Any]:
        if name in self.totals:
            return np.array(math.prod(map(int, shape)), np.int64)
        return np.array([int(n) for n in shape[self.roots[name][1]]], np.int64)

    def _run(self, feeds: Values) -> Mapping[str, NDArray[Any]]:
        assert self._engine is not None
        if self._loaded is None:
            self._loaded = self._engine(self._model(self.nodes, self._inputs()))
        read = {n for node in self.nodes for n in node.input}
        return self._loaded({name: value for name, value in feeds.items() if name in read})

    def _plain(self) -> list[onnx.NodeProto]:
        """Return the nodes that every runtime supports, and the nodes they depend on."""
        known = {*self._constants, *self.roots}
        nodes: list[onnx.NodeProto] = []
        for node in self._candidates:
            if node.op_type in PLAIN and all(not n or n in known for n in node.input):
                nodes.append(node)
                known.update(node.output)
        return nodes

    def _inputs(self) -> list[onnx.ValueInfoProto]:
        """Return those of the nodes together, which are outputs of Shape and Size."""
        read = {n for node in self.nodes for n in node.input}
        dims: dict[str, list[None]] = {name: [] if name in self.totals else [None] for name in self.roots.keys() & read}
        return [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.INT64, d) for n, d in dims.items()]

    def _model(self, nodes: Sequence[onnx.NodeProto], inputs: Sequence[onnx.ValueInfoProto]) -> onnx.ModelProto:
        model = onnx.ModelProto()
        model.CopyFrom(self._header)
        graph = model.graph
        graph.name = "shape_arithmetic"
        graph.node.extend(nodes)
        read = {n for node in nodes for n in node.input}
        graph.initializer.extend(t for name, t in self._constants.items() if name in read)
        graph.input.extend(inputs)
        graph.output.extend(onnx.ValueInfoProto(name=n) for node in nodes for n in node.output if n)
        return model


def _behind(nodes: list[onnx.NodeProto], roots: Iterable[str]) -> list[onnx.NodeProto]:
    """Return the nodes that depend on any of ``roots``, and the other nodes that these need."""
    reached = set(roots)
    for node in nodes:
        if reached & set(node.input):
            reached.update(n for n in node.output if n)
    kept: list[onnx.NodeProto] = []
    for node in reversed(nodes):
        if reached & set(node.output):
            kept.append(node)
            reached.update(n for n in node.input if n)
    return kept[::-1]


def _elem_type(array: NDArray[Any]) -> int:
    return int(onnx.helper.np_dtype_to_tensor_dtype(array.dtype))


def is_small(tensor: onnx.TensorProto) -> bool:
    """Whether a tensor is small and its data are in the model."""
    return math.prod(tensor.dims) <= SHAPES.evaluated_elements and not tensor.external_data


def _is_evaluable(node: onnx.NodeProto, known: set[str], shapes: Mapping[str, Shape]) -> bool:
    if not computable(node) or not all(not n or n in known for n in node.input):
        return False
    sizes = [math.prod(map(int, shapes[n])) for n in node.output if n in shapes]
    return all(n <= SHAPES.evaluated_elements for n in sizes) if sizes else node.op_type not in GROWING
