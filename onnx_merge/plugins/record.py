"""Remembers which rules and passes of others take part, for reports."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

BY_CALL = "registered by a call"
"""Origin of what no installed package registered."""


class Registration(NamedTuple):
    """``what``: "rule OP" or "pass NAME"; ``origin``: name and version of a package, or `BY_CALL`."""

    what: str
    origin: str


_registered: list[Registration] = []
_origin: ContextVar[str] = ContextVar("origin", default=BY_CALL)


@contextmanager
def registering(origin: str) -> Iterator[None]:
    """What is registered in the block comes from ``origin``. It is forgotten if the block raises."""
    before, token = list(_registered), _origin.set(origin)
    try:
        yield
    except BaseException:
        _registered[:] = before
        raise
    finally:
        _origin.reset(token)


def current_origin() -> str:
    """The origin of what is registered now."""
    return _origin.get()


def remember(what: str) -> None:
    """Note a registration from the current origin."""
    _registered.append(Registration(what, _origin.get()))


def registered_from(origin: str) -> list[str]:
    """What this origin registered."""
    return [one.what for one in _registered if one.origin == origin]


def plugin_summary() -> str:
    """All that is registered, by origin: ``acme-ops 1.0: rule com.acme:Shift; ...``. Empty if nothing is."""
    origins = dict.fromkeys(one.origin for one in _registered)
    return "; ".join(f"{origin}: {', '.join(registered_from(origin))}" for origin in origins)
