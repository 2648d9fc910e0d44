"""Reads and writes a model's provenance in its metadata: its input, the options, and the measurements.

The metadata hold neither times nor folders: the same run gives the same bytes for every user.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import onnx

from onnx_merge.errors import InputError

PREFIX = "onnx_merge."
"""Prefix of the keys in ``metadata_props``."""
VERSION, INPUT, DATA, EARLIER = "version", "input_sha256", "input_data_sha256", "earlier_inputs"
OPTIONS, MEASURED, PROMISE = "options", "measured", "promise"


@dataclass(frozen=True)
class Provenance:
    """Provenance of a result. ``options``: by their long names. ``measured``, ``promise``: as in the report (see
    `onnx_merge.verification.statement`)."""

    version: str
    """Version of onnx_merge."""
    input_sha256: str | None
    """Hash of the .onnx file, or of a serialised model in memory. None above 2 GB, where a model cannot be
    serialised."""
    data_sha256: str | None = None
    """Hash of the input's external data; None if there are none."""
    earlier: tuple[str, ...] = ()
    """If the input was a result itself: hashes of the models it was made from, the first one first."""
    options: Mapping[str, object] = field(default_factory=dict)
    measured: Mapping[str, object] = field(default_factory=dict)
    promise: Mapping[str, object] | None = None


def stamp(model: onnx.ModelProto, provenance: Provenance | None) -> None:
    """Write ``provenance`` into the metadata of ``model``, replacing an earlier one. None only removes the earlier
    one."""
    kept = [(p.key, p.value) for p in model.metadata_props if not p.key.startswith(PREFIX)]
    del model.metadata_props[:]
    entries = [] if provenance is None else _entries(provenance)
    for key, value in [*kept, *entries]:
        model.metadata_props.add(key=key, value=value)


def lineage(model: onnx.ModelProto) -> tuple[str, ...]:
    """Return the hashes of the models that ``model`` was made from, if it is a result; the first one first.

    Its measurements compare it with its own input. They do not hold for a model made from it and are not passed on.
    """
    try:
        found = read(model)
    except InputError:  # a model with damaged metadata can still be compressed
        return ()
    if found is None or found.input_sha256 is None:
        return ()
    return (*found.earlier, found.input_sha256)


def read(model: onnx.ModelProto) -> Provenance | None:
    """Return the provenance in the metadata of ``model``; None if there is none.

    Raises
    ------
    InputError: the metadata are damaged.
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
    """Serialise to JSON in ASCII: names may hold surrogates that UTF-8 cannot encode."""
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
