"""What was found out about a model's channels, and its JSON form, whose keys are stable: pipelines read them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal

from onnx_merge.errors import UsageError
from onnx_merge.io.model_source import FileInfo
from onnx_merge.report.result import SCHEMA_VERSION
from passes.interface.reason import Reason

Status = Literal["free", "prune-only", "frozen"]
STATUSES: tuple[Status, ...] = ("free", "prune-only", "frozen")


@dataclass(frozen=True, slots=True)
class Member:
    """One place of a group's channels. ``role``: producer, consumer, per-channel (of a constant), passes through or
    contracted (of what is computed); ``tensor``: the constant, or else the tensor that the node writes or sums over;
    the channels stand on its ``axis``, alone or with others; dynamic sizes of its ``shape`` are None."""

    node: str
    op: str
    role: str
    tensor: str
    axis: int
    shape: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Holding:
    """Shares of the model's MACs and parameters that depend on the channels of so many groups, each counted once."""

    groups: int
    macs_share: float
    params_share: float


@dataclass(frozen=True, slots=True)
class ReasonHolding:
    """The same of the groups held back for one reason, which is told without the names of nodes and tensors."""

    reason: Reason
    status: Status
    groups: int
    macs_share: float
    params_share: float


@dataclass(frozen=True, slots=True)
class InspectedGroup:
    """One channel group. ``macs`` and ``params`` depend on its channels (see `passes.cost.footprint.Holdings`); shares
    are of the model after BatchNormalization is folded."""

    name: str
    size: int
    status: Status
    """Frozen: nothing can be removed; prune-only: what is removed cannot be merged; free: both can be done."""
    reason: Reason | None
    """Why it is not free."""
    coupled: Reason | None
    """Why it ties several layers."""
    unmixable: Reason | None
    """Why removed channels cannot be merged, whether or not the group is frozen."""
    macs: int
    params: int
    macs_share: float
    params_share: float
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    members: tuple[Member, ...]
    """In graph order."""


@dataclass(frozen=True, slots=True)
class UngroupedLayer:
    """A node that multiplies or holds weights in which no group's channels take part, or not in all of it. ``macs`` and
    ``params``: of that part; shares as those of a group; ``reason``: why."""

    node: str
    op: str
    reason: Reason
    macs: int
    params: int
    macs_share: float
    params_share: float


@dataclass(frozen=True, slots=True)
class InspectedModel:
    """The model as `onnx_merge.report.result.Result` counts it before."""

    nodes: int
    opset: int
    params: int
    macs: int
    bytes: int
    ops: Mapping[str, int]


@dataclass(frozen=True)
class Inspection:
    """All that is known of a model's channels."""

    version: str
    input: FileInfo
    model: InspectedModel
    groups: tuple[InspectedGroup, ...]
    summary: Mapping[str, Holding]
    """By status; ``none`` is what no group holds: all of ``ungrouped``, and single numbers."""
    reasons: tuple[ReasonHolding, ...]
    """Most costly first."""
    ungrouped: tuple[UngroupedLayer, ...]
    """In graph order."""
    ops_without_rule: Mapping[str, int]
    """Op type -> number of its nodes; their axes are frozen, and the remedy is to add a rule."""
    unfolded: Mapping[str, Reason]
    """BatchNormalization nodes that could not be folded into a layer -> why."""
    notes: tuple[str, ...]
    seconds: Mapping[str, float]

    def matching(self, expression: str) -> list[InspectedGroup]:
        """Groups in whose name, or in the name of one of whose producers, a regular expression is found.

        Raises
        ------
        UsageError: there are none, or it is not a regular expression.
        """
        expected = pattern(expression)
        found = [g for g in self.groups if any(expected.search(name) for name in (g.name, *g.producers))]
        if not found:
            first = f"the first is {self.groups[0].name!r}" if self.groups else "the model has none"
            raise UsageError(f"--group {expression!r} matches no group: {first}")
        return found

    def to_json(self) -> str:
        """As text that ends in a line break and is plain ASCII: any stream can take it."""
        return json.dumps({"schema_version": SCHEMA_VERSION, **_plain(self)}, indent=2, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """As JSON has it: dataclasses as objects, reasons as text."""
    if isinstance(value, Reason):
        return str(value)
    if is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def pattern(expression: str) -> re.Pattern[str]:
    """A compiled regular expression.

    Raises
    ------
    UsageError: it is none.
    """
    try:
        return re.compile(expression)
    except re.error as error:
        raise UsageError(f"{expression!r} is not a regular expression: {error}") from error
