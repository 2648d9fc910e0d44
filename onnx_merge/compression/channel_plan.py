"""Writes which channels of every group stay, and reads that for another model of the same architecture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from onnx_merge.errors import InputError
from onnx_merge.io.save import write_whole
from passes.axes.channel_groups import ChannelGroup
from passes.planning.plan import GroupPlan

PLAN_VERSION = 1
"""Version of the files. It rises if a key is removed or changes meaning."""
SAME = "a plan fits models of one architecture, exported alike"


def write_plan(plans: Sequence[GroupPlan], source_sha256: str | None, version: str, path: Path) -> None:
    """Write the plan of every group that may shrink to ``path`` atomically.

    Raises
    ------
    OnnxMergeError: the file cannot be written.
    """
    groups = [
        {
            "name": plan.group.name,
            "producers": list(plan.group.producers),
            "size": plan.group.size,
            "kept": [int(channel) for channel in plan.keep],
        }
        for plan in plans
        if not plan.group.frozen
    ]
    table = {"plan_version": PLAN_VERSION, "version": version, "input_sha256": source_sha256, "groups": groups}
    write_whole((json.dumps(table, separators=(",", ":")) + "\n").encode(), path, "the plan")


def read_plan(path: Path, groups: Sequence[ChannelGroup]) -> dict[str, tuple[int, ...]]:
    """Return the channels to keep by group name, for the ``groups`` of a model.

    A group of the plan is that of the model with the same name, otherwise that with the same producers. Groups that
    norms read may be missing, as in older plans: they stay whole.

    Raises
    ------
    InputError: the file is no plan, or does not fit the model; the message names the first group that does not.
    """
    live = [group for group in groups if not group.frozen]
    by_name, by_producers = ({key(g): g for g in live} for key in (lambda g: g.name, lambda g: tuple(g.producers)))
    found: dict[str, tuple[int, ...]] = {}
    for name, producers, size, kept in _entries(path):
        group = by_name.get(name) or by_producers.get(producers)
        if group is None:
            raise InputError(f"the plan {path} has a group {name!r}, which the model lacks: {SAME}")
        if group.size != size:
            raise InputError(f"group {name!r} has {group.size} channels, but {size} in the plan {path}: {SAME}")
        found[group.name] = kept
    if missing := [group.name for group in live if group.name not in found and not group.normalised]:
        raise InputError(f"the plan {path} lacks the group {missing[0]!r} of the model: {SAME}")
    return found


def _entries(path: Path) -> list[tuple[str, tuple[str, ...], int, tuple[int, ...]]]:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"the plan {path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"{path} is no plan: it is not JSON; --save-plan writes one") from error
    if not isinstance(table, Mapping) or table.get("plan_version") != PLAN_VERSION:
        raise InputError(f"{path} is no plan of version {PLAN_VERSION}; --save-plan writes one")
    try:
        return [_entry(item) for item in table["groups"]]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"the plan {path} is damaged: {error}; --save-plan writes one") from error


def _entry(item: Any) -> tuple[str, tuple[str, ...], int, tuple[int, ...]]:
    """The name, producers, size and kept channels of a group."""
    size, kept = int(item["size"]), tuple(sorted(int(channel) for channel in item["kept"]))
    if not kept or len(set(kept)) < len(kept) or not (kept[0] >= 0 and kept[-1] < size):
        raise ValueError(f"group {item['name']!r} keeps no valid set of its {size} channels")
    return str(item["name"]), tuple(map(str, item["producers"])), size, kept
