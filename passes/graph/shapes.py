"""Concrete shapes of every tensor, which of their dims are dynamic, and the values of small computed tensors.

Dynamic dims get a stand-in size. Everything is computed under two different assignments of stand-ins: what differs
between the two is dynamic, what is equal is a fact about the model. ONNX shape inference does most of the work,
on a skeleton of the model without its large weights; integer arithmetic on shapes is evaluated node by node; what
is still unknown is asked of an observer that runs the model once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from passes.graph.evaluate import evaluate
from passes.graph.inputs import overridable

Shape = tuple[int, ...]
Observer = Callable[[onnx.ModelProto, Mapping[str, Shape], list[str]], Mapping[str, Shape]]
"""(model, input shapes, names of tensors) -> their shapes, found by running the model once."""

SMALL = 4096
"""Elements up to which a computed tensor is evaluated and an initializer is kept in the skeleton."""
STAND_INS = ((2, 64), (3, 128))
"""Sizes of a dynamic first axis and of any other one, in the two assignments."""
RIGID = ((1, 64), (1, 128))
"""The same for models whose batch is dynamic in name only: somewhere they reshape to a batch of one."""


@dataclass
class ShapeInfo:
    """``shapes``: every known shape; ``dynamic``: (tensor, axis) whose size may differ; ``values``: computed small
    tensors; ``origins``: for each computed value the tensors whose Shape it was computed from."""

    shapes: dict[str, Shape] = field(default_factory=dict)
    dynamic: set[tuple[str, int]] = field(default_factory=set)
    values: dict[str, NDArray[np.generic]] = field(default_factory=dict)
    varying: set[str] = field(default_factory=set)
    origins: dict[str, frozenset[str]] = field(default_factory=dict)
    rigid: str | None = None
    """The node that shows the first axis to be dynamic in name only; shapes are those of a batch of one then."""


def input_shapes(
    model: onnx.ModelProto, stand_ins: tuple[int, int], overrides: Mapping[str, Shape]
) -> dict[str, Shape]:
    """A concrete shape for every input that has a tensor shape; dims that share a symbol share a size."""
    defaults = overridable(model)
    constants = {t.name for t in model.graph.initializer} - defaults
    by_symbol: dict[str, int] = {}
    found: dict[str, Shape] = {t.name: tuple(t.dims) for t in model.graph.initializer if t.name in defaults}
    for value in model.graph.input:
        kind = value.type.tensor_type
        if value.name in found or value.name in constants:
            continue
        if not value.type.HasField("tensor_type") or not kind.HasField("shape"):
            continue
        if value.name in overrides:
            found[value.name] = overrides[value.name]
            continue
        dims: list[int] = []
        for position, dim in enumerate(kind.shape.dim):
            if dim.HasField("dim_value") and dim.dim_value > 0:
                dims.append(dim.dim_value)
                continue
            stand_in = stand_ins[min(position, 1)]
            dims.append(by_symbol.setdefault(dim.dim_param, stand_in) if dim.dim_param else stand_in)
        found[value.name] = tuple(dims)
    return found


def skeleton(model: onnx.ModelProto, sizes: Mapping[str, Shape]) -> onnx.ModelProto:
    """The model with large initializers turned into inputs, fixed input shapes and no recorded shapes."""
    bones = onnx.ModelProto(ir_version=max(model.ir_version, 4))
    bones.opset_import.extend(model.opset_import)
    bones.functions.extend(model.functions)
    graph = bones.graph
    graph.name = model.graph.name or "graph"
    graph.node.extend(model.graph.node)
    graph.sparse_initializer.extend(model.graph.sparse_initializer)
    for value in model.graph.output:
        bare = graph.output.add(name=value.name)
        if value.type.HasField("tensor_type"):
            bare.type.tensor_type.elem_type = value.type.tensor_type.elem_type
        else:
            bare.type.CopyFrom(value.type)
    defaults = overridable(model)
    constants = {t.name for t in model.graph.initializer} - defaults
    for value in model.graph.input:
        if value.name not in constants:
            kept = graph.input.add()
            kept.CopyFrom(value)
            if value.name in sizes:
                del kept.type.tensor_type.shape.dim[:]
                for n in sizes[value.name]:
                    kept.type.tensor_type.shape.dim.add(dim_value=n)
    for tensor in model.graph.initializer:
        if tensor.name in defaults:
            continue
        if int(np.prod(tensor.dims)) <= SMALL:
            graph.initializer.add().CopyFrom(tensor)
        else:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return bones


def infer_shapes(
    model: onnx.ModelProto, overrides: Mapping[str, Shape] | None = None, observer: Observer | None = None
) -> ShapeInfo:
    """Shapes of all tensors of the main graph under the first assignment, with what the second one shows to vary."""
    first, second = (_under(model, stand_ins, overrides or {}, observer) for stand_ins in STAND_INS)
    rigid = _joins_samples(model, first.shapes, second.shapes)
    if rigid is not None:
        first, second = (_under(model, stand_ins, overrides or {}, observer) for stand_ins in RIGID)
        first.rigid = rigid
    for name, shape in first.shapes.items():
        other = second.shapes.get(name)
        if other is None or len(other) != len(shape):
            first.dynamic.update((name, axis) for axis in range(len(shape)))
        else:
            first.dynamic.update((name, axis) for axis, (a, b) in enumerate(zip(shape, other, strict=True)) if a != b)
    for value in model.graph.input:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if not (dim.HasField("dim_value") and dim.dim_value > 0) and value.name in first.shapes:
                first.dynamic.add((value.name, axis))
    first.varying = {
        name for name, v in first.values.items() if not np.array_equal(v, second.values.get(name, np.empty(0)))
    }
    return first


def _joins_samples(model: onnx.ModelProto, one: Mapping[str, Shape], two: Mapping[str, Shape]) -> str | None:
    """A Reshape that cannot hold its input, or moves the batch to another place, as `[1, 16, 96, -1]` does."""
    for node in model.graph.node:
        if node.op_type != "Reshape" or any(n not in one or n not in two for n in (node.input[0], node.output[0])):
            continue
        before, after = ((one[n], two[n]) for n in (node.input[0], node.output[0]))
        if math.prod(before[0]) != math.prod(after[0]):
            return str(node.name or node.output[0])
        (outside, room), (outside_after, room_after) = _batch_place(*before), _batch_place(*after)
        if outside_after > outside * room or outside > outside_after * room_after:
            return str(node.name or node.output[0])
    return None


def _batch_place(one: Shape, two: Shape) -> tuple[int, float]:
    """(indices before the axis that the batch stands on, what else that axis may hold before the batch)."""
    (small, _), (large, _) = STAND_INS
    found = [d for d, (a, b) in enumerate(zip(one, two, strict=False)) if a != b and a * large == b * small]
    if len(one) != len(two) or len(found) != 1:
        return 1, math.inf
    return math.prod(one[: found[0]]), one[found[0]] // small


def _under(
    model: onnx.ModelProto,
    stand_ins: tuple[int, int],
    overrides: Mapping[str, Shape],
    observer: Observer | None,
) -> ShapeInfo:
    sizes = input_shapes(model, stand_ins, overrides)
    bones = skeleton(model, sizes)
    info = ShapeInfo()
    kinds = _run_inference(bones, info)
    _sweep(bones, info, kinds)
    missing = [n for node in model.graph.node for n in node.output if n and n not in info.shapes]
    if missing and observer is not None:
        info.shapes.update(observer(model, sizes, missing))
        _sweep(bones, info, kinds)
    return info


def _run_inference(bones: onnx.ModelProto, info: ShapeInfo) -> dict[str, int]:
    """Add the shapes that onnx infers in one go; the element types of all tensors."""
    inferred = onnx.shape_inference.infer_shapes(bones, data_prop=True, strict_mode=False)
    kinds: dict[str, int] = {}
    for value in (*inferred.graph.input, *inferred.graph.output, *inferred.graph.value_info):
        _note(value.name, value.type, info, kinds)
    for tensor in bones.graph.initializer:
        info.shapes[tensor.name], kinds[tensor.name] = tuple(tensor.dims), tensor.data_type
        if not tensor.external_data:
            info.values[tensor.name] = onnx.numpy_helper.to_array(tensor)
    return kinds


def _note(name: str, kind: onnx.TypeProto, info: ShapeInfo, kinds: dict[str, int]) -> None:
    """Take over what is known of a tensor's type."""
    if kind.HasField("tensor_type"):
        kinds[name] = kind.tensor_type.elem_type
        if kind.tensor_type.HasField("shape"):
            dims = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in kind.tensor_type.shape.dim)
            if -1 not in dims:
                info.shapes[name] = dims


def _sweep(bones: onnx.ModelProto, info: ShapeInfo, kinds: dict[str, int]) -> None:
    """One walk in graph order: evaluate arithmetic on shapes and small constants, infer the shapes that hang on it."""
    opsets = {o.domain: o.version for o in bones.opset_import}
    for node in bones.graph.node:
        if node.domain not in ("", "ai.onnx"):
            continue
        outputs = [n for n in node.output if n]
        found: dict[str, NDArray[Any]] = {}
        origin: frozenset[str] = frozenset()
        if all(n in info.values for n in outputs):
            continue
        if node.op_type == "Shape" and node.input[0] in info.shapes:
            bounds = {a.name: a.i for a in node.attribute}
            whole = info.shapes[node.input[0]]
            part = whole[slice(bounds.get("start", 0), bounds.get("end"))]
            found, origin = {node.output[0]: np.array(part, np.int64)}, frozenset([node.input[0]])
        elif _is_evaluable(node, info):
            found = evaluate(node, opsets, info.values)
            # What only says how large a tensor of features is to be says nothing of the numbers in it.
            sized = (
                SIZED.get(node.op_type, len(node.input)) if any(v.dtype.kind == "f" for v in found.values()) else None
            )
            origin = frozenset().union(*(info.origins.get(n, frozenset()) for n in node.input[:sized]))
        for name, value in found.items():
            info.values[name], info.origins[name], info.shapes[name] = value, origin, value.shape
        if any(n not in info.shapes for n in outputs):
            _infer_node(node, opsets, info, kinds)


def _infer_node(node: onnx.NodeProto, opsets: dict[str, int], info: ShapeInfo, kinds: dict[str, int]) -> None:
    """Shapes of one node's outputs, where onnx can tell them from what is known by now."""
    read = [n for n in node.input if n]
    if not all(n in info.shapes and n in kinds for n in read):
        return
    types = {n: onnx.helper.make_tensor_type_proto(kinds[n], info.shapes[n]) for n in read}
    known = {n: onnx.numpy_helper.from_array(info.values[n], n) for n in read if n in info.values}
    version = next(opsets[domain] for domain in ("", "ai.onnx") if domain in opsets)
    imports = [onnx.helper.make_opsetid(domain, number) for domain, number in opsets.items()]
    try:
        schema = onnx.defs.get_schema(node.op_type, version, "")
        inferred = onnx.shape_inference.infer_node_outputs(schema, node, types, known, opset_imports=imports)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, onnx.defs.SchemaError, RuntimeError):
        return  # stays unknown
    for name, kind in inferred.items():
        _note(name, kind, info, kinds)


SIZED = {"ConstantOfShape": 0, "Expand": 1, "Reshape": 1, "Tile": 1}
"""Ops of whose inputs only so many hold what the output holds; the others say how large it is."""
NOT_EVALUATED = {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli"}
GROWING = {"ConstantOfShape", "Expand", "Tile", "Range", "Resize", "Upsample", "OneHot", "Pad"}
"""Ops that may blow a small input up: their output's size is looked at first."""


def _is_evaluable(node: onnx.NodeProto, info: ShapeInfo) -> bool:
    if node.op_type in NOT_EVALUATED or not node.input or any(a.HasField("g") or a.graphs for a in node.attribute):
        return False
    if node.op_type in GROWING:
        out = info.shapes.get(node.output[0])
        small = int(np.prod(out)) if out is not None else max(np.max(np.abs(info.values.get(n, 1))) for n in node.input)
        if small > SMALL:
            return False
    return all(not n or n in info.values for n in node.input)
