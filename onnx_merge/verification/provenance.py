"""What a model says of itself: its metadata hold what it was made from, how, and what was measured on what.

Nothing in them tells the time or a folder: the same run gives the same bytes, whoever runs it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import onnx

from onnx_merge.errors import InputError

PREFIX = "onnx_merge."
"""Of the keys in ``metadata_props``."""
VERSION, INPUT, DATA, EARLIER = "version", "input_sha256", "input_data_sha256", "earlier_inputs"
OPTIONS, MEASURED, PROMISE = "options", "measured", "promise"


@dataclass(frozen=True)
class Provenance:
    """``options`` by their long names, ``measured`` and ``promise`` as in the report (see
    `onnx_merge.verification.statement`)."""

    version: str
    """Of onnx_merge."""
    input_sha256: str | None
    """Of the .onnx file, or of the bytes that a model in memory serialises to; None over 2 GB, where there are none."""
    data_sha256: str | None = None
    """Of the input's external data; None where there are none."""
    earlier: tuple[str, ...] = ()
    """Hashes of what the input was made from, if it was a result itself, the first one first."""
    options: Mapping[str, object] = field(default_factory=dict)
    measured: Mapping[str, object] = field(default_factory=dict)
    promise: Mapping[str, object] | None = None


def stamp(model: onnx.ModelProto, provenance: Provenance | None) -> None:
    """Write ``provenance`` into the metadata of ``model``, in the place of an earlier one; None: that goes only."""
    kept = [(p.key, p.value) for p in model.metadata_props if not p.key.startswith(PREFIX)]
    del model.metadata_props[:]
    entries = [] if provenance is None else _entries(provenance)
    for key, value in [*kept, *entries]:
        model.metadata_props.add(key=key, value=value)


def lineage(model: onnx.ModelProto) -> tuple[str, ...]:
    """Hashes of what ``model`` was made from, if it is a result, the first one first.

    What was measured on it held against its own input, so that nothing else of its metadata goes on.
    """
    try:
        found = read(model)
    except InputError:  # damaged, which is no reason not to compress it
        return ()
    if found is None or found.input_sha256 is None:
        return ()
    return (*found.earlier, found.input_sha256)


def read(model: onnx.ModelProto) -> Provenance | None:
    """What the metadata of ``model`` say; None if they say nothing.

    Raises
    ------
    InputError: they are damaged.
    """
    found = {p.key.removeprefix(PREFIX): p.value for p in model.metadata_props if p.key.startswith(PREFIX)}
    if VERSION not in found or MEASURED not in found:
        return None
    promise = _table(found, PROMISE)
    return Provenance(
        found[VERSION],
        found.get(INPUT),
        found.get(DATA),
        tuple(map(str, _json(found, EARLIER, list))),
        _table(found, OPTIONS),
        _table(found, MEASURED),
        promise or None,
    )


def _entries(provenance: Provenance) -> list[tuple[str, str]]:
    values = {
        VERSION: provenance.version,
        INPUT: provenance.input_sha256,
        DATA: provenance.data_sha256,
        EARLIER: _text(list(provenance.earlier)) if provenance.earlier else None,
        OPTIONS: _text(provenance.options),
        MEASURED: _text(provenance.measured),
        PROMISE: _text(provenance.promise) if provenance.promise is not None else None,
    }
    return [(PREFIX + key, value) for key, value in values.items() if value is not None]


def _text(value: object) -> str:
    """JSON in ASCII: names may hold what UTF-8 has no bytes for."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _table(found: Mapping[str, str], key: str) -> dict[str, object]:
    table: dict[str, object] = _json(found, key, dict)
    return table


def _json(found: Mapping[str, str], key: str, kind: type[list[Any]] | type[dict[str, Any]]) -> Any:
    try:
        value = json.loads(found.get(key, "null"))
    except ValueError:
        value = False
    if value is None:
        return kind()
    if not isinstance(value, kind):
        raise InputError(f"the metadata {PREFIX}{key} are damaged: they are no JSON of the kind that they should be")
    return value
