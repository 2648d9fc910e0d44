"""Registers passes of others, each behind one of ours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from passes.interface.model_pass import Pass

PLACES = ("infer", "observe", "allocate", "plan", "reconstruct", "shrink")
"""Names of the passes that another one may follow. `observe` and `reconstruct` run only on samples, and `allocate` not
where only redundant channels go."""


class CustomPass(NamedTuple):
    """``step`` runs right behind our pass of the name ``after``, and behind those registered there before it."""

    step: Pass
    after: str


_CUSTOM: list[CustomPass] = []


def add_pass(step: Pass, after: str) -> None:
    """Register a pass: from now on it is part of every compression in this process, of control-flow bodies too.

    Raises
    ------
    ValueError: there is no such place, or a pass of this name.
    """
    if after not in PLACES:
        raise ValueError(f"no pass can follow {after!r}: choose {', '.join(PLACES)}")
    if step.name in PLACES or any(one.step.name == step.name for one in _CUSTOM):
        raise ValueError(f"there are two passes {step.name!r}")
    _CUSTOM.append(CustomPass(step, after))


def custom_passes() -> tuple[CustomPass, ...]:
    """All that are registered, in order."""
    return tuple(_CUSTOM)


@contextmanager
def passes_undone_on_error() -> Iterator[None]:
    """What is registered in the block is kept only if the block raises nothing."""
    before = list(_CUSTOM)
    try:
        yield
    except BaseException:
        _CUSTOM[:] = before
        raise


def with_custom(passes: Sequence[Pass], first: str | None = None) -> list[Pass]:
    """``passes`` with the registered ones behind those that they follow. ``first``: the pass that ran right before."""
    found: list[Pass] = _following(first)
    for one in passes:
        found += [one, *_following(one.name)]
    return found


def _following(name: str | None) -> list[Pass]:
    return [one.step for one in _CUSTOM if one.after == name]
