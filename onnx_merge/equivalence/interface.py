"""Checks that the result keeps the original's interface: inputs, outputs and the model's header, verbatim."""

from __future__ import annotations

from collections.abc import Iterable

import onnx

from onnx_merge.errors import StructureError
from passes.shapes import overridable_inputs as inputs


def check_interface(original: onnx.ModelProto, result: onnx.ModelProto, newer_operators: bool = False) -> None:
    """Check that ``result`` declares its inputs and outputs as ``original`` does, and that its header is the same.

    Inputs that must be fed, inputs with a default that a caller may override, and outputs are compared in order: names,
    types, shapes, symbols, denotations. ``newer_operators``: whether ``result`` may use a newer opset.

    Raises
    ------
    StructureError: something is declared otherwise; the message says what.
    """
    for kind, before, after in (
        ("input", required_inputs(original), required_inputs(result)),
        ("output", list(original.graph.output), list(result.graph.output)),
    ):
        names, new_names = [v.name for v in before], [v.name for v in after]
        if names != new_names:
            raise StructureError(f"the {kind}s of the result are {new_names}, those of the original {names}")
        for old, new in zip(before, after, strict=True):
            _check_value(kind, old, new)
    defaults = {v.name: v for v in result.graph.input}
    constants = {t.name: t for t in result.graph.initializer}
    for old in inputs_with_default(original):
        if old.name not in defaults or old.name not in constants:
            raise StructureError(f"input {old.name!r}, which has a default, can no longer be given in the result")
        _check_value("input", old, defaults[old.name])
    _check_header(original, result, newer_operators)


def required_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Return the inputs that a caller must feed: those without a default."""
    constants = {t.name for t in model.graph.initializer} | {t.values.name for t in model.graph.sparse_initializer}
    return [v for v in model.graph.input if v.name not in constants]


def inputs_with_default(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Return the inputs with a default that a caller may override (see `passes.shapes.overridable_inputs`)."""
    names = inputs.overridable(model)
    return [v for v in model.graph.input if v.name in names]


def dims(value: onnx.ValueInfoProto) -> list[int | str | None] | None:
    """Return the declared dims, dynamic ones as their symbol or None. None where no shape is declared."""
    kind = value.type.tensor_type
    found = [d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in kind.shape.dim]
    return found if kind.HasField("shape") else None


def _check_value(kind: str, old: onnx.ValueInfoProto, new: onnx.ValueInfoProto) -> None:
    if _element(old) != _element(new):
        raise StructureError(
            f"{kind} {old.name!r} has another type in the result: {_element(new)}, not {_element(old)}"
        )
    if dims(old) != dims(new):
        raise StructureError(f"{kind} {old.name!r} has shape {dims(new)} in the result, not {dims(old)}")
    if old.SerializeToString(deterministic=True) != new.SerializeToString(deterministic=True):
        raise StructureError(f"{kind} {old.name!r} is not declared as in the original: text or denotations differ")


def _element(value: onnx.ValueInfoProto) -> str:
    if value.type.WhichOneof("value") == "tensor_type":
        return str(onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type))
    return " ".join(str(value.type).split())


def _check_header(original: onnx.ModelProto, result: onnx.ModelProto, newer: bool) -> None:
    """Compare names, doc strings, metadata and opset versions. Opsets may be added, and unused ones dropped."""
    for what, old, new in (
        ("name of the graph", original.graph.name, result.graph.name),
        ("text of the graph", original.graph.doc_string, result.graph.doc_string),
        ("text of the model", original.doc_string, result.doc_string),
        ("version of the model", str(original.model_version), str(result.model_version)),
        ("domain of the model", original.domain, result.domain),
    ):
        if old != new:
            raise StructureError(f"the {what} is {new[:80]!r} in the result, not {old[:80]!r}")
    for before, after in (
        (original.metadata_props, result.metadata_props),
        (original.graph.metadata_props, result.graph.metadata_props),
    ):
        if lost := _entries(before) - _entries(after):
            raise StructureError(f"the result lacks the metadata {sorted(key for key, _ in lost)}")
    versions = {o.domain: o.version for o in result.opset_import}
    for opset in original.opset_import:
        found = versions.get(opset.domain, opset.version)
        if found < opset.version or (found > opset.version and not newer):
            raise StructureError(
                f"the result uses version {found} of the operators {opset.domain or 'ai.onnx'!r}, not {opset.version}"
            )


def _entries(properties: Iterable[onnx.StringStringEntryProto]) -> set[tuple[str, str]]:
    return {(p.key, p.value) for p in properties}
