"""What happened to each channel group, from the plans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from passes.interface.reason import Reason

if TYPE_CHECKING:  # avoids importing the compiler (numba) for a report
    from passes.planning.plan import GroupPlan

Status = Literal["shrunk", "kept", "frozen", "excluded"]


@dataclass(frozen=True, slots=True)
class GroupResult:
    """What happened to one channel group."""

    name: str
    """Name of the first layer that produces the channels."""
    size: int
    """Channels before."""
    kept: int
    """Channels after."""
    status: Status
    reason: Reason | None
    """Why the group was not compressed, or was compressed less than requested."""
    method: str
    """merge, prune, lossless, or none."""
    error: float | None
    """Relative error of the reconstruction; None for methods that look at weights only."""
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    losses: tuple[tuple[int, float], ...] = ()
    """(channels left, noise over signal of the outputs) with this group alone cut, where that was measured."""


def group_results(
    plans: Sequence[GroupPlan],
    excluded: Mapping[str, Reason],
    measured: Mapping[str, Mapping[int, float]] | None = None,
) -> tuple[GroupResult, ...]:
    """Return one entry per plan. ``excluded``: group -> reason, for groups that the user excluded. ``measured``:
    group -> width -> loss of the outputs with this group alone cut."""
    results = []
    for plan in plans:
        group = plan.group
        status: Status = "kept"
        if plan.shrinks:
            status = "shrunk"
        elif group.frozen is not None:
            status = "frozen"
        elif group.name in excluded:
            status = "excluded"
        results.append(
            GroupResult(
                name=group.name,
                size=group.size,
                kept=len(plan.keep),
                status=status,
                reason=plan.reason,
                method=plan.method,
                error=plan.error,
                producers=tuple(group.producers),
                consumers=tuple(group.consumers),
                losses=tuple(sorted((measured or {}).get(group.name, {}).items())),
            )
        )
    return tuple(results)
