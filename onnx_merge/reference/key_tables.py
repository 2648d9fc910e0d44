"""Markdown tables of the keys that JSON reports have, from their schema."""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Iterator
from typing import Any

from onnx_merge.reference.option_tables import table

Schema = dict[str, Any]
PREFIX = "#/$defs/"
COLUMNS = ("key", "type", "meaning")


def key_sections() -> str:
    """A section for each report, then one for each part that reports have in common."""
    schema = _schema()
    definitions: Schema = schema["$defs"]
    reports = [part["$ref"].removeprefix(PREFIX) for part in schema["oneOf"]]
    parts = [name for name, part in definitions.items() if name not in reports and "properties" in part]
    return "\n".join(_section(name, definitions, name in reports) for name in (*reports, *parts))


def _schema() -> Schema:
    text = importlib.resources.files("onnx_merge.report").joinpath("report.schema.json").read_text("utf-8")
    found: Schema = json.loads(text)
    return found


def _section(name: str, definitions: Schema, is_report: bool) -> str:
    part = definitions[name]
    said = part.get("description", "")
    title, text = (f"`{said.partition(':')[0]}`", said.partition(": ")[2]) if is_report else (f"`{name}`", said)
    lead = f"{text[:1].upper()}{text[1:]}.\n\n" if text else ""
    return f"### {title}\n\n{lead}{table(COLUMNS, _rows(part, definitions))}"


def _rows(part: Schema, definitions: Schema, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Keys of an object, and of objects in it that have no section of their own."""
    for key, value in part["properties"].items():
        inner, optional = _without_null(value)
        items = inner.get("items", {})
        name = f"{prefix}{key}"
        kind = f"{_type(inner, definitions)} or null" if optional else _type(inner, definitions)
        yield f"`{name}`", kind, _meaning(value, inner, definitions)
        for nested, end in ((inner, "."), (items, "[].")):
            if "properties" in nested:
                yield from _rows(nested, definitions, f"{name}{end}")


def _without_null(value: Schema) -> tuple[Schema, bool]:
    """What a key's value is if it is not null, and whether it may be."""
    kinds = value.get("anyOf")
    if kinds is not None:
        return next(kind for kind in kinds if kind != {"type": "null"}), {"type": "null"} in kinds
    if isinstance(value.get("type"), list):
        return {**value, "type": value["type"][0]}, "null" in value["type"]
    if None in value.get("enum", ()):
        return {**value, "enum": [choice for choice in value["enum"] if choice is not None]}, True
    return value, False


def _type(value: Schema, definitions: Schema) -> str:
    if "$ref" in value:
        name = value["$ref"].removeprefix(PREFIX)
        target = definitions[name]
        return f"[{name}](#{name})" if "properties" in target else _type(target, definitions)
    if "enum" in value:
        return ", ".join(f"`{choice}`" for choice in value["enum"])
    if "const" in value:
        return f"`{value['const']}`"
    if isinstance(value["type"], list):
        return " or ".join(value["type"])
    if value["type"] == "array":
        return f"array of {_type(value['items'], definitions)}"
    if isinstance(value.get("additionalProperties"), dict):
        return f"object of {_type(value['additionalProperties'], definitions)}"
    return str(value["type"])


def _meaning(value: Schema, inner: Schema, definitions: Schema) -> str:
    target = definitions.get(inner.get("$ref", "").removeprefix(PREFIX), {})
    own = "" if "properties" in target else target.get("description", "")
    return str(value.get("description") or inner.get("description") or own)
