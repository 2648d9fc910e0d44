"""Inlines calls of local functions, including functions that import another opset version than the model.

The latter are inlined only if their ops mean the same at both versions. That holds if both versions have the same
definition. It also holds if the model's version is newer, has the same inputs, outputs and attributes with the same
defaults, and only accepts more types. Functions with other ops remain calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import onnx
import onnx.inliner

from passes.graph.nodes import every_node
from passes.shapes.constants import STANDARD_DOMAINS

Key = tuple[str, str, str]
"""Identifier of a function: domain, name and overload."""


def inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return ``model`` with local functions inlined, except those whose ops have another meaning at the model's
    opset."""
    if not model.functions:
        return model
    versions = _versions(model.opset_import)
    functions = {_key(f): f for f in model.functions}
    left = {key for key, f in functions.items() if _obstacle(f, versions, functions)}
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.functions[:]
    needed: dict[str, int] = {}
    local = {function.domain for function in model.functions}
    for key, function in functions.items():
        if key not in left:
            result.functions.add().CopyFrom(function)
            for opset in result.functions[-1].opset_import:
                wanted = versions.get(_domain(opset.domain))
                if wanted is None and opset.domain in local:
                    continue
                if wanted is None:
                    needed[opset.domain] = opset.version
                else:
                    opset.version = wanted
    result.opset_import.extend(onnx.helper.make_opsetid(domain, version) for domain, version in needed.items())
    _write_defaults(result.graph.node, functions)
    for function in result.functions:
        _write_defaults(function.node, functions)
    result = onnx.inliner.inline_local_functions(result)
    kept = _reached(left, functions) if left else set()
    result.functions.extend(f for key, f in functions.items() if key in kept)
    return result


def _write_defaults(nodes: Iterable[onnx.NodeProto], functions: Mapping[Key, onnx.FunctionProto]) -> None:
    """Write attribute defaults of functions into their calls, because the inliner drops these defaults."""
    for node in every_node(nodes):
        function = functions.get((node.domain, node.op_type, node.overload))
        given = {a.name for a in node.attribute}
        if function is not None:
            node.attribute.extend(a for a in function.attribute_proto if a.name not in given)


def why_called(model: onnx.ModelProto, domain: str, op: str) -> str | None:
    """Return why calls of the local function ``op`` were not inlined; an empty result if there is no such function."""
    versions = _versions(model.opset_import)
    functions = {_key(f): f for f in model.functions}
    for key, function in functions.items():
        if key[:2] == (domain, op):
            return _obstacle(function, versions, functions) or "is a local function"
    return None


def _obstacle(
    function: onnx.FunctionProto, versions: Mapping[str, int], functions: Mapping[Key, onnx.FunctionProto]
) -> str | None:
    own = _versions(function.opset_import)
    for node in every_node(function.node):
        domain = _domain(node.domain)
        if (node.domain, node.op_type, node.overload) in functions:
            continue
        here, there = own.get(domain), versions.get(domain)
        if here is None or there is None or here == there or _same(node.op_type, domain, here, there):
            continue
        name = domain or "ai.onnx"
        return f"is a function at {name} opset {here}, the model is at {there}, and {node.op_type} differs between them"
    return None


def _same(op: str, domain: str, here: int, there: int) -> bool:
    """Whether ``op`` of opset ``here`` has the same meaning at opset ``there``."""
    try:
        old, new = (onnx.defs.get_schema(op, version, domain) for version in (here, there))
    except onnx.defs.SchemaError:
        return False
    if old.since_version == new.since_version:
        return True
    return here < there and not new.deprecated and _signature(old) == _signature(new)


def _signature(schema: onnx.defs.OpSchema) -> tuple[object, ...]:
    attributes = [
        (name, a.type, a.required, a.default_value.SerializeToString()) for name, a in sorted(schema.attributes.items())
    ]
    formal = [[(p.name, p.option) for p in side] for side in (schema.inputs, schema.outputs)]
    return attributes, formal, schema.min_input, schema.max_input, schema.min_output, schema.max_output


def _reached(left: set[Key], functions: Mapping[Key, onnx.FunctionProto]) -> set[Key]:
    """Return the functions ``left`` and those that they call, directly or indirectly."""
    found, waiting = set(left), list(left)
    while waiting:
        for node in every_node(functions[waiting.pop()].node):
            key = (node.domain, node.op_type, node.overload)
            if key in functions and key not in found:
                found.add(key)
                waiting.append(key)
    return found


def _key(function: onnx.FunctionProto) -> Key:
    return function.domain, function.name, function.overload


def _domain(domain: str) -> str:
    return "" if domain in STANDARD_DOMAINS else domain


def _versions(opsets: Iterable[onnx.OperatorSetIdProto]) -> dict[str, int]:
    return {_domain(o.domain): o.version for o in opsets}
