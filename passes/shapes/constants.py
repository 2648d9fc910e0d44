"""Evaluates the part of a model that depends only on constants, with the engine that runs models.

Many nodes are run in one session. If the engine cannot load or run them, they are split into halves, down to single
nodes. Nodes that fail have no values, and neither have the tensors that depend on them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from passes.interface.engine import Array, Engine
from passes.interface.errors import RunError
from passes.shapes.tuning import SHAPES
from passes.weights.stored_tensors import array_of

STANDARD_DOMAINS = ("", "ai.onnx")
"""Both names of the domain of the ONNX ops."""
RANDOM = frozenset(
    ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli", "Dropout")
)
"""Ops whose outputs differ from run to run."""
INFERENCE_ERRORS = (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError, ValueError)
"""What ONNX's shape inference raises where a model is not valid, or not as it expects."""
GROWING = frozenset(("ConstantOfShape", "Expand", "Tile", "Range", "Resize", "Upsample", "OneHot", "Pad", "EyeLike"))
"""Ops whose output may be much larger than their input. Their output size is checked before they are run."""
_INTEGERS = (f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64))
FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)
ARRAYS = frozenset((*FLOATS, *map(TensorProto.DataType.Value, ("BOOL", *_INTEGERS))))
"""Element types that an engine passes to and from arrays without changing a bit."""

Type = tuple[int, tuple[int, ...] | None]
"""Element type and shape; None if the shape is unknown."""


def computable(node: onnx.NodeProto) -> bool:
    """Whether ``node`` is a deterministic function of its inputs alone."""
    return (
        node.domain in STANDARD_DOMAINS
        and node.op_type not in RANDOM
        and ("Sequence" not in node.op_type or node.op_type == "ReverseSequence")
        and "Optional" not in node.op_type
        and any(node.input)
        and not any(a.HasField("g") or a.graphs for a in node.attribute)
    )


def constant_tensor(node: onnx.NodeProto) -> onnx.TensorProto | None:
    """Return the tensor of a Constant node; None for other nodes, sparse tensors and lists of strings."""
    if node.op_type != "Constant" or node.domain not in STANDARD_DOMAINS or len(node.attribute) != 1:
        return None
    attribute = node.attribute[0]
    if attribute.name == "value":
        tensor: onnx.TensorProto = attribute.t
        return tensor
    kinds = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    if attribute.name not in kinds:
        return None
    value = np.asarray(onnx.helper.get_attribute_value(attribute), kinds[attribute.name])
    return numpy_helper.from_array(value, node.output[0])


def constants_in(nodes: Iterable[onnx.NodeProto]) -> list[onnx.TensorProto]:
    """Return the tensors in the attribute ``value`` of Constant nodes."""
    return [a.t for node in nodes if node.op_type == "Constant" for a in node.attribute if a.name == "value"]


def types_of(
    model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], tensors: Mapping[str, onnx.TensorProto]
) -> dict[str, Type]:
    """Return the types of the outputs of ``nodes``, as far as ONNX infers them, and of the constants that they read."""
    segment = _segment(model, nodes, tensors)
    found: dict[str, Type] = {
        n: (tensors[n].data_type, tuple(tensors[n].dims)) for node in nodes for n in node.input if n in tensors
    }
    segment.graph.output.extend(onnx.ValueInfoProto(name=n) for node in nodes for n in node.output if n)
    try:
        inferred = onnx.shape_inference.infer_shapes(segment, data_prop=True)
    except INFERENCE_ERRORS:
        return found
    for value in (*inferred.graph.value_info, *inferred.graph.output):
        kind = value.type.tensor_type
        if value.type.HasField("tensor_type") and kind.elem_type:
            fixed = kind.HasField("shape") and all(d.HasField("dim_value") for d in kind.shape.dim)
            found[value.name] = (kind.elem_type, tuple(d.dim_value for d in kind.shape.dim) if fixed else None)
    return found


def tensor_size(kind: Type) -> tuple[float, float]:
    """Return (elements, bytes) of a tensor; infinite if its shape is unknown."""
    count = math.inf if kind[1] is None else math.prod(kind[1])
    return count, count * np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind[0])).itemsize


def compute(
    model: onnx.ModelProto,
    nodes: Sequence[onnx.NodeProto],
    tensors: Mapping[str, onnx.TensorProto],
    wanted: Collection[str],
    engine: Engine,
) -> dict[str, Array]:
    """Compute the tensors ``wanted`` from the constants ``tensors`` with ``nodes``, which are in graph order.

    Tensors that cannot be computed are missing. If any is, intermediate results are returned too.
    """
    found: dict[str, Array] = {}
    failed: Counter[str] = Counter()

    def attempt(part: Sequence[onnx.NodeProto], outside: Collection[str]) -> None:
        at_hand = {n for n in (*tensors, *found)}
        runnable: list[onnx.NodeProto] = []
        for node in part:
            if failed[node.op_type] < SHAPES.op_failures and all(not n or n in at_hand for n in node.input):
                runnable.append(node)
                at_hand.update(node.output)
        ends = [n for node in runnable for n in node.output if n and n in outside]
        if not ends:
            return
        known = {**tensors, **{n: numpy_helper.from_array(a, n) for n, a in found.items()}} if found else tensors
        try:
            found.update(_run(_segment(model, runnable, known), known, ends, engine))
        except RunError:
            if len(runnable) == 1:
                failed[runnable[0].op_type] += 1
                return
            half = len(runnable) // 2
            later = {n for node in runnable[half:] for n in node.input}
            attempt(runnable[:half], later.union(outside))
            attempt(runnable[half:], outside)

    attempt(nodes, wanted)
    return found


def _run(
    segment: onnx.ModelProto, tensors: Mapping[str, onnx.TensorProto], ends: Sequence[str], engine: Engine
) -> dict[str, Array]:
    segment.graph.output.extend(onnx.ValueInfoProto(name=n) for n in ends)
    feeds = {v.name: array_of(tensors[v.name]) for v in segment.graph.input}
    values = engine(segment)(feeds)
    return {n: np.asarray(values[n]) for n in ends if n in values and values[n].dtype.kind not in "OUS"}


def _segment(
    model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], tensors: Mapping[str, onnx.TensorProto]
) -> onnx.ModelProto:
    """Return a model of ``nodes`` alone. Large constants are its inputs."""
    segment = onnx.ModelProto(ir_version=max(model.ir_version, 4))
    segment.opset_import.extend(model.opset_import)
    graph = segment.graph
    graph.name = "constants"
    graph.node.extend(nodes)
    made = {n for node in nodes for n in node.output}
    for name in dict.fromkeys(n for node in nodes for n in node.input if n in tensors and n not in made):
        tensor = tensors[name]
        if math.prod(tensor.dims) >= SHAPES.fed_elements and tensor.data_type in ARRAYS:
            graph.input.append(onnx.helper.make_tensor_value_info(name, tensor.data_type, tensor.dims))
        else:
            graph.initializer.add().CopyFrom(tensor)
            graph.initializer[-1].name = name
    return segment
