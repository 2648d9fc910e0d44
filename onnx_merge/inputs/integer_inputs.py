"""Infer from a model which integers its inputs take: indices into a table, classes or lengths.

An input is traced through the ops that pass its values on (Cast, Reshape, Where, subgraphs, local functions, ...) to
the nodes that bound its values:

=================================  ===========================================================================
Gather, GatherElements, GatherND   the number of rows of the table, which indices must not exceed
OneHot                             its depth
Equal                              with a constant list: its maximum + 1 (one-hot encoding as JAX exports it)
Less, Greater, ...                 with a constant list or a Range: its maximum + 2, since a length may fill it
Clip, Min, Mod                     the bound up to which values stay unchanged
=================================  ===========================================================================
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from onnx_merge.tuning.inputs import INTEGER_INPUTS
from passes.analysis.mask_inputs import masks_of_left_out
from passes.axes.op_facts import Joins, Moves
from passes.axes.registry import facts_of
from passes.shapes.constants import STANDARD_DOMAINS

Array = NDArray[Any]
Origins = frozenset[tuple[str, int]]
"""(input, constant added to it) for each input whose values a tensor holds."""

PASS_THROUGH = {*Moves} - {Moves.GATHERED, Moves.JOINED, Moves.QUANTISED}
"""How ops pass on values of their first input, or zeros; Gather also sets a limit, see below."""
UNCHANGING = ("Relu", "Abs")
"""Functions that do not change indices."""
MERGING = (Joins.CONCATENATION, Joins.CHOICE, Joins.EXTREMUM)
"""Joins whose output holds values of several inputs."""
COMPARING = {"Less", "LessOrEqual", "Greater", "GreaterOrEqual"}
FLAGGING = COMPARING | {"And", "Equal", "Not", "Or", "Xor"}
"""Ops whose output is true or false."""
INTEGER_TYPES = {
    number
    for name, number in onnx.TensorProto.DataType.items()
    if name.startswith(("INT", "UINT")) and name not in ("INT4", "UINT4")
}
"""Element types of inputs that may hold indices, classes or lengths."""


def index_bounds(model: onnx.ModelProto) -> dict[str, int]:
    """Inputs that hold indices, classes or lengths -> the number of valid values, which start at 0. Masks in which ones
    leave places out have one: zero, since attention to nothing gives NaN."""
    return dict.fromkeys(masks_of_left_out(model), 1) | _followed(model).bounds()


def unknown_ranges(model: onnx.ModelProto) -> list[str]:
    """Integer inputs whose valid values the model does not show. Masks and pixels are left out, since their ranges are
    known."""
    constants = {t.name for t in model.graph.initializer}
    known = index_bounds(model)
    return [
        value.name
        for value in model.graph.input
        if value.name not in constants and value.name not in known and _is_unbounded(value)
    ]


def _is_unbounded(value: onnx.ValueInfoProto) -> bool:
    kind = value.type.tensor_type
    dims = kind.shape.dim
    empty = any(d.HasField("dim_value") and d.dim_value == 0 for d in dims)
    pixels = kind.elem_type == onnx.TensorProto.UINT8 and len(dims) > 2
    return kind.elem_type in INTEGER_TYPES and not empty and not pixels and "mask" not in value.name.lower()


def _followed(model: onnx.ModelProto) -> _Follower:
    follower = _Follower({(f.domain, f.name): f for f in model.functions})
    constants = {t.name for t in model.graph.initializer}
    scope = _Scope({v.name: frozenset([(v.name, 0)]) for v in model.graph.input if v.name not in constants})
    follower.graph(model.graph, scope)
    return follower


@dataclass
class _Scope:
    """The tensors visible in a graph: ``origins``, ``values`` of small constants (elements in any order), and ``dims``
    (None: dynamic)."""

    origins: dict[str, Origins] = field(default_factory=dict)
    values: dict[str, Array] = field(default_factory=dict)
    dims: dict[str, tuple[int | None, ...]] = field(default_factory=dict)
    ranges: set[str] = field(default_factory=set)
    """Tensors computed by a Range whose end is not constant."""
    flags: set[str] = field(default_factory=set)
    """Tensors that hold true and false, or 1 and 0."""
    masked: set[str] = field(default_factory=set)
    """Tensors with zeros in place of some values of an input."""

    def inner(self) -> _Scope:
        values = dict(self.origins), dict(self.values), dict(self.dims)
        return _Scope(*values, set(self.ranges), set(self.flags), set(self.masked))

    def pass_on(self, old: str, new: str, other: _Scope) -> None:
        """Copy what is known of the tensor ``old`` to the tensor ``new`` of the scope ``other``."""
        if old in self.origins:
            other.origins[new] = other.origins.get(new, frozenset()) | self.origins[old]
        if old in self.values:
            other.values[new] = self.values[old]
        if old in self.dims:
            other.dims[new] = self.dims[old]
        for ours, theirs in (
            (self.ranges, other.ranges),
            (self.flags, other.flags),
            (self.masked, other.masked),
        ):
            if old in ours:
                theirs.add(new)


@dataclass
class _Follower:
    """Traces inputs through a graph. ``limits``: input -> bounds that its values must not exceed; ``hints``: input ->
    bounds above which values make no difference."""

    functions: Mapping[tuple[str, str], onnx.FunctionProto]
    limits: dict[str, list[int]] = field(default_factory=dict)
    hints: dict[str, list[int]] = field(default_factory=dict)

    def bounds(self) -> dict[str, int]:
        found = {name: max(values) for name, values in self.hints.items()}
        found |= {name: min(values) for name, values in self.limits.items()}
        return {name: value for name, value in found.items() if value > 0}

    def graph(self, graph: onnx.GraphProto, scope: _Scope) -> None:
        for tensor in graph.initializer:
            _note_constant(tensor.name, tensor, scope)
        for value in (*graph.input, *graph.value_info, *graph.output):
            if value.type.tensor_type.HasField("shape"):
                dims = value.type.tensor_type.shape.dim
                scope.dims.setdefault(value.name, tuple(d.dim_value if d.dim_value > 0 else None for d in dims))
        self.nodes(graph.node, scope)

    def nodes(self, nodes: Iterable[onnx.NodeProto], scope: _Scope) -> None:
        for node in nodes:
            function = self.functions.get((node.domain, node.op_type))
            if function is not None:
                self._call(node, function, scope)
            elif node.domain in STANDARD_DOMAINS:
                self._node(node, scope)

    def _call(self, node: onnx.NodeProto, function: onnx.FunctionProto, scope: _Scope) -> None:
        own = _Scope()
        for given, name in zip(node.input, function.input, strict=False):
            scope.pass_on(given, name, own)
        self.nodes(function.node, own)
        for name, given in zip(function.output, node.output, strict=False):
            own.pass_on(name, given, scope)

    def _node(self, node: onnx.NodeProto, scope: _Scope) -> None:
        attributes = {a.name: a for a in node.attribute}
        bodies = [a.g for a in node.attribute if a.HasField("g")]
        if bodies:
            self._bodies(node, bodies, scope)
            return
        facts = facts_of(node.domain, node.op_type)
        if node.op_type == "Constant":
            _note_constant_node(node, scope)
        elif node.op_type == "Range":
            _note_range(node, scope)
        elif (facts.moves in PASS_THROUGH or node.op_type in ("DequantizeLinear", *UNCHANGING)) and node.input:
            self._pass(node, attributes, scope)
        elif facts.joins in MERGING:
            for name in node.input[1 if facts.joins is Joins.CHOICE else 0 :]:
                if name in scope.origins:
                    scope.origins[node.output[0]] = scope.origins.get(node.output[0], frozenset()) | scope.origins[name]
        self._mask(node, scope)
        self._limit(node, attributes, scope)
        self._hint(node, attributes, scope)

    def _bodies(self, node: onnx.NodeProto, bodies: Sequence[onnx.GraphProto], scope: _Scope) -> None:
        for body in bodies:
            own = scope.inner()
            given = list(node.input) if node.op_type in ("Loop", "Scan") else []
            for outside, value in zip(given, body.input, strict=False):
                scope.pass_on(outside, value.name, own)
            self.graph(body, own)
            results = body.output[1:] if node.op_type == "Loop" else body.output
            for value, outside in zip(results, node.output, strict=False):
                own.pass_on(value.name, outside, scope)

    def _pass(self, node: onnx.NodeProto, attributes: Mapping[str, onnx.AttributeProto], scope: _Scope) -> None:
        first = node.input[0]
        kept = facts_of(node.domain, node.op_type).moves in (Moves.SAME, Moves.CONVERTED, Moves.QUANTISED)
        for output in node.output:
            if first in scope.origins and node.op_type != "DequantizeLinear":
                scope.origins[output] = scope.origins[first]
            if first in scope.values:
                scope.values[output] = scope.values[first]
            for known in (scope.ranges, scope.flags, scope.masked if output in scope.origins else set()):
                if first in known:
                    known.add(output)
            if first in scope.dims and kept:
                scope.dims[output] = scope.dims[first]
            elif first in scope.dims and node.op_type == "Transpose":
                dims = scope.dims[first]
                perm = list(attributes["perm"].ints if "perm" in attributes else range(len(dims))[::-1])
                if sorted(perm) == list(range(len(dims))):  # otherwise the declared rank is wrong
                    scope.dims[output] = tuple(dims[axis] for axis in perm)

    def _mask(self, node: onnx.NodeProto, scope: _Scope) -> None:
        """Follow a choice between two values that is written as a sum of products with flags."""
        negated = node.op_type == "Sub" and node.input[0] in scope.values and node.input[1] in scope.flags  # 1 - flag
        if node.op_type in FLAGGING or negated:
            scope.flags.add(node.output[0])
        elif node.op_type == "Mul" and scope.flags & set(node.input):
            for name in (n for n in node.input if n in scope.origins and n not in scope.flags):
                scope.origins[node.output[0]] = scope.origins[name]
                scope.masked.add(node.output[0])
        elif node.op_type == "Add" and scope.masked.issuperset(node.input):
            scope.origins[node.output[0]] = frozenset().union(*(scope.origins[name] for name in node.input))

    def _limit(self, node: onnx.NodeProto, attributes: Mapping[str, onnx.AttributeProto], scope: _Scope) -> None:
        """Record bounds above which a value is invalid."""
        if len(node.input) < 2:
            return
        dims = scope.dims.get(node.input[0], ())
        picks = scope.origins.get(node.input[1], frozenset())
        if node.input[1] in scope.masked:  # what the flags leave out may be larger
            picks = frozenset()
        axis = attributes["axis"].i if "axis" in attributes else 0
        if node.op_type in ("Gather", "GatherElements") and picks and -len(dims) <= axis < len(dims):
            self._note(self.limits, picks, dims[axis], 1)
        elif node.op_type == "GatherND" and picks and dims:
            batch = attributes["batch_dims"].i if "batch_dims" in attributes else 0
            width = (scope.dims.get(node.input[1]) or (None,))[-1] or len(dims)
            known = [n for n in dims[batch : batch + width] if n is not None]
            self._note(self.limits, picks, min(known, default=None), 1)
        elif node.op_type == "OneHot" and node.input[1] in scope.values:
            self._note(
                self.limits, scope.origins.get(node.input[0], frozenset()), _largest(scope.values[node.input[1]])
            )
        elif node.op_type == "RoiAlign" and len(node.input) > 2:  # the sample that a box lies in
            samples = dims[0] if dims else None
            self._note(self.limits, scope.origins.get(node.input[2], frozenset()), samples or 1, 1)
        if node.op_type == "Gather" and node.input[0] in scope.origins:  # the output holds values of the input
            scope.origins[node.output[0]] = scope.origins[node.input[0]]

    def _hint(self, node: onnx.NodeProto, attributes: Mapping[str, onnx.AttributeProto], scope: _Scope) -> None:
        """Record bounds above which values are equivalent."""
        kind = node.op_type
        for k, name in enumerate(node.input):
            origins = scope.origins.get(name)
            if not origins:
                continue
            others = [n for i, n in enumerate(node.input) if i != k and n]
            tops = [top for n in others if n in scope.values and (top := _largest(scope.values[n])) is not None]
            if kind == "Equal" and tops:
                self._note(self.hints, origins, max(tops) + 1)
            elif kind in COMPARING and (max(tops, default=0) > 0 or scope.ranges & set(others)):  # not with a sign
                self._note(
                    self.hints,
                    origins,
                    max([*tops, *([INTEGER_INPUTS.range_length - 1] if scope.ranges & set(others) else [])]) + 2,
                )
            elif kind == "Min":
                self._note(self.hints, origins, min(tops) + 1 if tops else None)
            elif kind == "Clip" and k == 0:
                given = scope.values.get(node.input[2]) if len(node.input) > 2 else None
                top = _attribute_top(attributes) if given is None else _largest(given)
                self._note(self.hints, origins, None if top is None else top + 1)
                scope.origins[node.output[0]] = origins
            elif kind == "Mod" and k == 0:
                scope.origins[node.output[0]] = origins
                self._note(self.hints, origins, max(tops) if tops else None)
            elif kind in ("Add", "Sub") and tops and (kind == "Add" or k == 0):
                added = max(tops) if kind == "Add" else -max(tops)
                scope.origins[node.output[0]] = frozenset((n, offset + added) for n, offset in origins)

    @staticmethod
    def _note(where: dict[str, list[int]], origins: Origins, bound: int | None, least: int = 2) -> None:
        """Record a bound. One below ``least`` is ignored, since comparing ids with the padding id 0 gives no bound."""
        if bound is not None:
            for name, offset in origins:
                if bound - offset >= least:
                    where.setdefault(name, []).append(bound - offset)


def _note_constant(name: str, tensor: onnx.TensorProto, scope: _Scope) -> None:
    scope.dims[name] = tuple(tensor.dims)
    numeric = tensor.data_type != onnx.TensorProto.STRING and tensor.data_location != onnx.TensorProto.EXTERNAL
    if numeric and math.prod(tensor.dims) <= (
        INTEGER_INPUTS.integer_elements if tensor.data_type in INTEGER_TYPES else INTEGER_INPUTS.other_elements
    ):
        scope.values[name] = numpy_helper.to_array(tensor)


def _note_constant_node(node: onnx.NodeProto, scope: _Scope) -> None:
    for attribute in node.attribute:
        if attribute.name == "value":
            _note_constant(node.output[0], attribute.t, scope)
        elif attribute.name in ("value_int", "value_ints", "value_float", "value_floats"):
            value = np.asarray(onnx.helper.get_attribute_value(attribute))
            scope.values[node.output[0]], scope.dims[node.output[0]] = value, value.shape


def _note_range(node: onnx.NodeProto, scope: _Scope) -> None:
    ends = [scope.values.get(name) for name in node.input]
    if all(end is not None and end.size == 1 for end in ends):
        start, limit, step = (end.item() for end in ends if end is not None)
        if step and abs((limit - start) / step) <= INTEGER_INPUTS.integer_elements:
            scope.values[node.output[0]] = np.arange(start, limit, step)
    else:
        scope.ranges.add(node.output[0])


def _attribute_top(attributes: Mapping[str, onnx.AttributeProto]) -> int | None:
    """The upper bound of a Clip before opset 11, where it is an attribute."""
    return math.floor(attributes["max"].f) if "max" in attributes and attributes["max"].f < 2**31 else None


def _largest(values: Array) -> int | None:
    """The maximum of a constant's values; None if it cannot be an index."""
    if not values.size or values.dtype.kind not in "iuf":
        return None
    top = float(values.max())
    return math.floor(top) if 0 <= top < 2**31 else None
