"""Reports the progress of loops over groups or layers to a listener."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

Item = TypeVar("Item")
Listener = Callable[[str, int, int], None]
"""Is given the name of an item as it begins, the number of those before it, and the number of all."""

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


def steps(items: Sequence[Item], name: Callable[[Item], str]) -> Iterator[Item]:
    """Yield ``items``, and report each to the listener by its ``name``."""
    listener = _listener.get()
    for done, item in enumerate(items):
        if listener is not None:
            listener(name(item), done, len(items))
        yield item


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Report all steps in the block to ``listener``."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
