"""Defines the results of an inspection and their JSON form, whose keys are stable since pipelines read them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal

from onnx_merge.errors import UsageError
from onnx_merge.io.model_source import FileInfo
from onnx_merge.report.environment import environment
from onnx_merge.report.json_tables import SCHEMA_VERSION, json_text
from passes.interface.reason import Reason

Status = Literal["free", "prune-only", "project-only", "frozen"]
STATUSES: tuple[Status, ...] = ("free", "prune-only", "project-only", "frozen")


@dataclass(frozen=True, slots=True)
class Member:
    """One place of a group's channels. ``role``: producer, consumer, per-channel (of a constant), passes through or
    contracted (of computed tensors). ``tensor``: the constant, or else the tensor that the node writes or sums over.
    The channels are on its ``axis``, alone or with others. Dynamic sizes of its ``shape`` are None."""

    node: str
    op: str
    role: str
    tensor: str
    axis: int
    shape: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Holding:
    """Shares of the model's MACs and parameters that depend on the channels of some groups, each counted once. The
    number of groups is included."""

    groups: int
    macs_share: float
    params_share: float


@dataclass(frozen=True, slots=True)
class ReasonHolding:
    """Shares of the MACs and parameters of the groups that are held back for one reason, each counted once. The reason
    names no nodes or tensors."""

    reason: Reason
    status: Status
    groups: int
    macs_share: float
    params_share: float


@dataclass(frozen=True, slots=True)
class InspectedGroup:
    """One channel group. ``macs`` and ``params`` depend on its channels (see `passes.cost.footprint.Holdings`). Shares
    are of the model after BatchNormalization is folded."""

    name: str
    size: int
    status: Status
    """Frozen: nothing can be removed. Prune-only: removed channels cannot be merged. Free: channels can be removed and
    merged."""
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
class InspectedLayer:
    """A layer that multiplies by weights. ``size``: channels that it produces. ``macs``: of one sample. ``group``: the
    first group that these channels belong to, None if they belong to none."""

    name: str
    op: str
    size: int
    macs: int
    group: str | None


@dataclass(frozen=True, slots=True)
class UngroupedLayer:
    """A node with multiply-adds or weights that depend on no group's channels. ``macs`` and ``params``: of that part
    only. Shares: as those of a group. ``reason``: why it is in no group."""

    node: str
    op: str
    reason: Reason
    macs: int
    params: int
    macs_share: float
    params_share: float


@dataclass(frozen=True, slots=True)
class InspectedModel:
    """The model's figures, counted as `onnx_merge.report.result.Result` counts the original."""

    nodes: int
    opset: int
    params: int
    macs: int
    bytes: int
    ops: Mapping[str, int]


@dataclass(frozen=True)
class Inspection:
    """The result of an inspection of a model's channels."""

    version: str
    input: FileInfo
    model: InspectedModel
    groups: tuple[InspectedGroup, ...]
    summary: Mapping[str, Holding]
    """Shares by status of the groups. ``none`` is the part in no group: all of ``ungrouped``, and single numbers."""
    reasons: tuple[ReasonHolding, ...]
    """Most costly first."""
    ungrouped: tuple[UngroupedLayer, ...]
    """In graph order."""
    ops_without_rule: Mapping[str, int]
    """Op type -> number of its nodes. Their axes are frozen, and the remedy is to add a rule."""
    unfolded: Mapping[str, Reason]
    """BatchNormalization nodes that could not be folded into a layer -> why."""
    notes: tuple[str, ...]
    seconds: Mapping[str, float]
    layers: tuple[InspectedLayer, ...] = ()
    """In graph order."""
    environment: Mapping[str, str] = field(default_factory=environment)
    """Versions of the software, and the machine."""

    def matching(self, expression: str) -> list[InspectedGroup]:
        """Groups whose name, or the name of one of whose producers, matches a regular expression.

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
        """The inspection as JSON: plain ASCII text that ends in a line break, which any stream can write."""
        return json_text(self.to_dict(), ascii_only=True)

    def to_dict(self) -> dict[str, object]:
        """The inspection in JSON types."""
        return {"schema_version": SCHEMA_VERSION, **_plain(self)}


def _plain(value: Any) -> Any:
    """``value`` in JSON types: dataclasses as objects, reasons as text."""
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
    UsageError: the text is not a regular expression.
    """
    try:
        return re.compile(expression)
    except re.error as error:
        raise UsageError(f"{expression!r} is not a regular expression: {error}") from error
