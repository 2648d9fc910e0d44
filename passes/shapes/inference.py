"""Infers the shapes of all tensors, which of their dims are dynamic, and the values of small computed tensors.

A model with dynamic dims has many shapes. All tensors are examined under several *assignments*, which are concrete
shapes of the inputs. A dim that differs between two assignments is dynamic. So is a dim that depends on a dynamic one
by symbolic inference (`passes.shapes.symbols`). A size is known at each assignment (`passes.shapes.sizes`), so that
sizes that are equal by chance at one of them are not taken to be the same.

ONNX shape inference finds the shapes of models without dynamic dims, on a skeleton without large weights. All other
shapes, and every shape of a model with dynamic dims, are read from runs of the model by an observer. Integers computed
from shapes are evaluated by the runtime (`passes.shapes.arithmetic`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray

from passes.interface.engine import Engine
from passes.shapes.arithmetic import Shape, ShapeArithmetic, Values, is_small
from passes.shapes.batch import batch_sizes, joins_samples
from passes.shapes.constants import INFERENCE_ERRORS
from passes.shapes.declared import (
    Assignment,
    Declared,
    alone,
    assignment_at,
    batch_symbols,
    declared_dims,
    leaves_open,
    one_sample,
)
from passes.shapes.origins import Origins, trace
from passes.shapes.overridable_inputs import overridable
from passes.shapes.sizes import Size, size_of
from passes.shapes.symbols import runs_suffice, symbolic_dims
from passes.shapes.tuning import SHAPES

__all__ = ["Assignment", "Observer", "Shape", "ShapeInfo", "infer_shapes"]

Observer = Callable[[onnx.ModelProto, Assignment, list[str]], Mapping[str, Shape]]
"""(model, assignment, names of tensors) -> their shapes, from one run of the model. Empty if the model does not run."""


@dataclass
class ShapeInfo:
    """Shapes and shape arithmetic of a model.

    ``shapes``: every known shape, at the first assignment. ``sizes``: the same at all assignments. ``dynamic``:
    (tensor, axis) whose size may vary. ``values``: small computed tensors, at the first assignment. ``varying``: for
    computed tensors that depend on a dynamic size, which of their elements do. ``origins``: for each element computed
    from shapes, the axes whose sizes it comes from. ``arithmetic``: evaluates the computed tensors.
    """

    arithmetic: ShapeArithmetic
    shapes: dict[str, Shape] = field(default_factory=dict)
    sizes: dict[str, Shape] = field(default_factory=dict)
    dynamic: set[tuple[str, int]] = field(default_factory=set)
    values: Values = field(default_factory=dict)
    varying: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    origins: dict[str, Origins] = field(default_factory=dict)
    count: int = 1
    """Number of assignments."""
    rigid: str | None = None
    """The node because of which the declared dynamic batch cannot vary, or "the batch" if the model was only found to
    run on one sample. In both cases shapes are those of a batch of one. None if the batch can vary."""


def skeleton(model: onnx.ModelProto, sizes: Mapping[str, Shape]) -> onnx.ModelProto:
    """Return the model with large initializers turned into inputs, with fixed input shapes and without value_info."""
    bones = onnx.ModelProto(ir_version=max(model.ir_version, 4))
    bones.opset_import.extend(model.opset_import)
    bones.functions.extend(model.functions)
    graph = bones.graph
    graph.name = model.graph.name or "graph"
    graph.node.extend(model.graph.node)
    graph.sparse_initializer.extend(model.graph.sparse_initializer)
    for value in model.graph.output:
        graph.output.add(name=value.name)  # without a type, which inference adds
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
        if int(np.prod(tensor.dims)) <= SHAPES.evaluated_elements:
            graph.initializer.add().CopyFrom(tensor)
        else:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return bones


def infer_shapes(
    model: onnx.ModelProto,
    assignments: Sequence[Assignment] = (),
    observer: Observer | None = None,
    engine: Engine | None = None,
) -> ShapeInfo:
    """Infer the shapes of all tensors of the main graph at ``assignments`` (`ShapeTuning.default_sizes`, if none are
    given), and what varies."""
    declared = declared_dims(model)
    if not any(isinstance(d, str) for dims in declared.values() for d in dims):
        assignment = assignments[0] if assignments else assignment_at(declared, SHAPES.default_sizes[0])
        several, rigid = _fixed_shapes(model, assignment, observer, engine), None
    else:
        several, rigid = _dynamic_shapes(model, declared, assignments, observer, engine)
    info = _combined(several, ShapeArithmetic(model, several[0], engine))
    info.rigid = rigid
    info.dynamic |= {(n, k) for n, dims in declared.items() for k, d in enumerate(dims) if isinstance(d, str)}
    if any(isinstance(d, str) for dims in declared.values() for d in dims):
        symbols = declared if rigid is None else {n: alone(declared, dims) for n, dims in declared.items()}
        tried = {shapes[n][0] for shapes in several for n, dims in symbols.items() if dims and isinstance(dims[0], str)}
        shown = len(tried) > 1 and runs_suffice(model, symbols)
        depending, unknown = (set(), set()) if shown else symbolic_dims(skeleton(model, {}), symbols)
        if leaves_open(symbols, several):
            depending |= unknown
        info.dynamic |= {(n, k) for n, k in depending if n in info.shapes}
    defaults = overridable(model)
    for tensor in model.graph.initializer:
        if is_small(tensor) and tensor.name not in defaults:
            info.values[tensor.name] = onnx.numpy_helper.to_array(tensor)
    _evaluate(info, several)
    return info


def _dynamic_shapes(
    model: onnx.ModelProto,
    declared: Declared,
    assignments: Sequence[Assignment],
    observer: Observer | None,
    engine: Engine | None,
) -> tuple[list[dict[str, Shape]], str | None]:
    """Return the shapes of all tensors at the assignments, and the reason if the model takes one sample at a time only.

    In that case the shapes are those of a batch of one. See `ShapeInfo.rigid`.
    """

    def at_each(some: Sequence[Assignment]) -> list[dict[str, Shape]]:
        return [_shapes_at(model, assignment, observer, engine) for assignment in some]

    given = assignments or [assignment_at(declared, stand_ins) for stand_ins in SHAPES.default_sizes]
    batches = batch_sizes(declared, given)
    if assignments and set(batches) == {1} and batch_symbols(declared):
        return at_each(given), "the batch"
    several = at_each(given)
    rigid = joins_samples(model, batches, several)
    if rigid is None:
        return several, None
    single = [one_sample(declared, assignment) for assignment in given]
    first = [v.name for v in model.graph.output][:1]
    if assignments and observer is not None and not observer(model, single[0], first):
        return several, None  # the model does not run on one sample
    return at_each(single), rigid


def _shapes_at(
    model: onnx.ModelProto, assignment: Assignment, observer: Observer | None, engine: Engine | None
) -> dict[str, Shape]:
    """Return the shapes of all tensors at an assignment: from a run, and from inference for the others."""
    shapes: dict[str, Shape] = {t.name: tuple(t.dims) for t in model.graph.initializer} | dict(assignment)
    names = [n for node in model.graph.node for n in node.output if n]
    if observer is not None:
        shapes.update(observer(model, assignment, names))
    if any(n not in shapes for n in names):
        shapes = inferred_shapes(model, assignment, engine) | shapes
    return shapes


def _fixed_shapes(
    model: onnx.ModelProto, assignment: Assignment, observer: Observer | None, engine: Engine | None
) -> list[dict[str, Shape]]:
    """Return the shapes of all tensors of a model without dynamic dims.

    If inference does not find all of them, they are read from two runs, because some may depend on input values.
    """
    shapes = inferred_shapes(model, assignment, engine)
    missing = [n for node in model.graph.node for n in node.output if n and n not in shapes]
    if not missing or observer is None:
        return [shapes]
    return [{**observer(model, assignment, missing), **shapes} for _ in range(2)]


def inferred_shapes(model: onnx.ModelProto, assignment: Assignment, engine: Engine | None) -> dict[str, Shape]:
    """Infer shapes with ONNX, in rounds: known shapes determine values, and these determine further shapes."""
    bones = skeleton(model, assignment)
    shapes: dict[str, Shape] = {}
    known: set[str] = set()
    for _ in range(SHAPES.rounds):
        _run_inference(bones, shapes)
        values = ShapeArithmetic(model, shapes, engine).at(shapes)
        small = {n: v for n, v in values.items() if v.size <= SHAPES.evaluated_elements}
        new = {n: v for n, v in small.items() if n not in known and v.dtype != object}
        if not new or all(n in shapes for node in model.graph.node for n in node.output if n):
            break
        known |= new.keys()
        _set_values(bones.graph, new)
    return shapes


def _set_values(graph: onnx.GraphProto, values: Values) -> None:
    """Replace nodes whose outputs are all known by their values."""
    kept = [n for n in graph.node if not all(name in values for name in n.output if name)]
    outputs = {v.name for v in graph.output}
    made = {n for node in graph.node for n in node.output} - {n for node in kept for n in node.output} - outputs
    copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in kept]
    del graph.node[:]
    graph.node.extend(copies)
    graph.initializer.extend(onnx.numpy_helper.from_array(v, n) for n, v in values.items() if n in made)


def _run_inference(bones: onnx.ModelProto, shapes: dict[str, Shape]) -> None:
    """Add the shapes that one pass of ONNX inference finds."""
    try:
        inferred = onnx.shape_inference.infer_shapes(bones, data_prop=True, strict_mode=False)
    except INFERENCE_ERRORS:
        return  # shapes that cannot be inferred stay unknown
    for value in (*inferred.graph.input, *inferred.graph.output, *inferred.graph.value_info):
        kind = value.type.tensor_type
        if value.type.HasField("tensor_type") and kind.HasField("shape"):
            dims = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim)
            if -1 not in dims:
                shapes[value.name] = dims
    shapes.update((t.name, tuple(t.dims)) for t in bones.graph.initializer)


SLIDING = ("Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "DeformConv", "RoiAlign", "LSTM", "GRU")
"""Ops that need at least one element per window. On an empty input onnxruntime divides by its size, reads out of
bounds, or aborts."""


def empty_map(model: onnx.ModelProto, assignment: Assignment) -> str | None:
    """Return a tensor without elements that a sliding-window op reads at these sizes, as far as inference shows it.

    None if there is no such tensor, or if an input is declared without elements.
    """
    if any(0 in dims for dims in declared_dims(model).values()):
        return None
    try:
        inferred = onnx.shape_inference.infer_shapes(skeleton(model, assignment), data_prop=True, strict_mode=False)
    except INFERENCE_ERRORS:
        return None
    slid = {node.input[0] for node in model.graph.node if node.op_type in SLIDING}
    for value in inferred.graph.value_info:
        dims = value.type.tensor_type.shape.dim
        if value.name in slid and any(d.HasField("dim_value") and d.dim_value <= 0 for d in dims):
            return str(value.name)
    return None


def _combined(several: Sequence[Mapping[str, Shape]], arithmetic: ShapeArithmetic) -> ShapeInfo:
    """Combine the shapes at all assignments and mark the dims that differ. A tensor whose rank varies has no sizes."""
    info = ShapeInfo(arithmetic, dict(several[0]), count=len(several))
    for name, shape in several[0].items():
        others = [s[name] for s in several[1:] if len(s.get(name, ())) == len(shape) and name in s]
        if len(others) < len(several) - 1:
            info.sizes[name] = shape
            info.dynamic.update((name, axis) for axis in range(len(shape)))
            continue
        info.sizes[name] = tuple(size_of(dims) for dims in zip(shape, *others, strict=True))
        info.dynamic.update((name, axis) for axis, n in enumerate(info.sizes[name]) if isinstance(n, Size))
    return info


def _evaluate(info: ShapeInfo, several: Sequence[Mapping[str, Shape]]) -> None:
    """Add the values of tensors computed from shapes, their origins, and which of their elements vary."""
    info.arithmetic.roots = {
        n: (t, part) for n, (t, part) in info.arithmetic.roots.items() if all(t in shapes for shapes in several)
    }
    found = [info.arithmetic.at(shapes) for shapes in several]
    info.values.update({n: v for n, v in found[0].items() if v.size <= SHAPES.evaluated_elements})
    info.shapes.update({n: v.shape for n, v in info.values.items() if n not in info.shapes})
    ranks = {tensor: len(info.shapes[tensor]) for tensor, _ in info.arithmetic.roots.values()}
    steady: dict[str, list[bool]] = {}
    for name, value in info.values.items():
        if all(name in values and values[name].ndim == value.ndim for values in found):
            steady[name] = [all(v[name].shape[k] == size for v in found) for k, size in enumerate(value.shape)]
    traced = trace(info.arithmetic, info.values, ranks, steady, info.dynamic)
    info.origins = {n: o for n, o in traced.items() if any(places for places in o.ravel())}
    for name in found[0].keys() & info.values.keys():
        value = info.values[name]
        others = [values[name] for values in found[1:] if name in values]
        if len(others) < len(found) - 1 or any(other.shape != value.shape for other in others):
            varying = np.ones(value.shape, bool)
        else:
            differs = [other != value for other in others]
            varying = np.logical_or.reduce([np.zeros(value.shape, bool), *differs])
        origins = info.origins.get(name)
        if origins is not None and info.dynamic:
            varying = varying | np.array([bool(o & info.dynamic) for o in origins.ravel()], bool).reshape(value.shape)
        if varying.any():
            info.varying[name] = varying
