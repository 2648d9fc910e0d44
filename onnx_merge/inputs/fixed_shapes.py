"""Declare shapes that the user gives for inputs of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import onnx

from onnx_merge.errors import UsageError
from onnx_merge.inputs.dimensions import symbol
from onnx_merge.inputs.feeds import describe
from onnx_merge.io.model_source import Source


def with_fixed_shapes(source: Source, given: Sequence[tuple[str, tuple[int, ...]]]) -> Source:
    """``source`` with the shapes ``given`` declared for inputs of its model.

    A symbol whose size is fixed by them is replaced wherever it is declared.

    Raises
    ------
    UsageError: the model has no such input, the shape contradicts its declaration, or another input has no declared
        shape.
    """
    _require_shapes(source.model, {name for name, _ in given})
    if not given:
        return source
    model = onnx.ModelProto()
    model.CopyFrom(source.model)
    inputs = {v.name: v for v in model.graph.input}
    sizes: dict[str, int] = {}
    for name, shape in given:
        if name not in inputs:
            raise UsageError(_unknown(name, shape, inputs))
        _note(inputs[name], shape, sizes)
    for name, shape in given:
        kind = inputs[name].type.tensor_type
        del kind.shape.dim[:]
        for size in shape:
            kind.shape.dim.add(dim_value=size)
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        _fix(value, sizes)
    return replace(source, model=model)


def _unknown(name: str, shape: tuple[int, ...], inputs: Mapping[str, onnx.ValueInfoProto]) -> str:
    """What is wrong with a name that is no input's; for the name of a dimension, how its size is given."""
    for each in inputs.values():
        dims = [d.dim_param or str(d.dim_value or "?") for d in each.type.tensor_type.shape.dim]
        if name in dims and name:
            whole = ",".join(str(shape[0]) if d == name else d for d in dims)
            problem = f"fix-shape: {name!r} is a dimension of input {each.name!r}, not an input"
            return f"{problem}: give the input's whole shape in numbers, {each.name}:{whole}"
    return f"fix-shape: the model has no input {name!r}: it has {', '.join(sorted(inputs))}"


def _require_shapes(model: onnx.ModelProto, given: set[str]) -> None:
    """Refuse inputs without a declared shape, because their rank is unknown."""
    known = given | {t.name for t in model.graph.initializer}
    for value in model.graph.input:
        tensor = value.type.HasField("tensor_type") and not value.type.tensor_type.HasField("shape")
        if tensor and value.name not in known:
            raise UsageError(
                f"input {value.name!r} has no declared shape: declare one with --fix-shape, for instance "
                f"--fix-shape {value.name}:1,3,224,224"
            )


def _note(declared: onnx.ValueInfoProto, shape: tuple[int, ...], sizes: dict[str, int]) -> None:
    """Check that ``shape`` fits the declaration, and add the sizes of its symbols to ``sizes``."""
    kind = declared.type.tensor_type
    if not declared.type.HasField("tensor_type"):
        raise UsageError(f"fix-shape: {declared.name!r} is no tensor, and has no shape")
    if not kind.HasField("shape"):
        return
    dims = [d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in kind.shape.dim]
    fixed = [(d, n) for d, n in zip(dims, shape, strict=False) if isinstance(d, int) and d > 0]
    if len(dims) != len(shape) or any(d != n for d, n in fixed):
        raise UsageError(f"fix-shape: {declared.name!r} has shape {describe(dims)}, which {shape} does not fit")
    for dim, size in zip(dims, shape, strict=True):
        name = symbol(dim)
        if name is not None and sizes.setdefault(name, size) != size:
            raise UsageError(f"fix-shape: dimension {name!r} cannot be both {sizes[name]} and {size}")


def _fix(value: onnx.ValueInfoProto, sizes: Mapping[str, int]) -> None:
    if value.type.HasField("tensor_type"):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in sizes:
                dim.dim_value = sizes[dim.dim_param]
