"""The interface through which passes run models. Passes import no runtime; their caller supplies one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import onnx
from numpy.typing import NDArray

from passes.numerics.threads import at_once

Array = NDArray[Any]
Loaded = Callable[[Mapping[str, Array]], Mapping[str, Array]]
"""A loaded model: a function from inputs to outputs, both by name."""


class Engine(Protocol):
    """Loads and runs models or parts of a model."""

    def __call__(self, model: onnx.ModelProto) -> Loaded:
        """Load ``model``.

        Raises
        ------
        RunError: it cannot be loaded, or (later) cannot be run.
        """


@runtime_checkable
class ReusingEngine(Engine, Protocol):
    """An engine that may keep loaded models by their structure."""

    reuses: bool


@runtime_checkable
class DividingEngine(Engine, Protocol):
    """An engine whose models can run at the same time."""

    def share_threads(self, most: int) -> tuple[Engine, int]:
        """An engine for models that run at the same time, and how many may: ``most`` or fewer."""


@runtime_checkable
class RetainingEngine(Engine, Protocol):
    """An engine whose models can keep the memory of a run."""

    def retaining(self) -> Engine:
        """An engine whose models keep the memory of a run for the next one."""


@runtime_checkable
class PlacingEngine(Engine, Protocol):
    """An engine that runs models elsewhere than in the host's memory."""

    def placed(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        """``feed`` copied to where the engine runs models."""


def reuses_sessions(engine: Engine) -> bool:
    """Whether ``engine`` keeps loaded models by their structure, because loading takes longer than running, as on a
    GPU. There, a model that was loaded before is run as a whole rather than a part of it that was not."""
    return isinstance(engine, ReusingEngine) and engine.reuses


def share_threads(engine: Engine, most: int) -> tuple[Engine, int]:
    """An engine for models that run at the same time, each on its share of the threads, and how many may: ``most`` or
    fewer, and one where ``engine`` cannot. Small operators are computed faster so than by many threads one by one."""
    return engine.share_threads(most) if isinstance(engine, DividingEngine) and most > 1 else (engine, 1)


def retaining(engine: Engine) -> Engine:
    """An engine whose models keep the memory of a run for the next one: it takes long to get from the system. For
    models that run often and return little, since what is returned keeps it, too."""
    return engine.retaining() if isinstance(engine, RetainingEngine) else engine


def run_all(
    engine: Engine, model: onnx.ModelProto, feeds: Iterable[Mapping[str, Array]], most: int
) -> Iterator[Mapping[str, Array]]:
    """Outputs of ``model`` on each of ``feeds``, of which ``most`` may run at the same time."""
    share, workers = share_threads(engine, most)
    return at_once(share(model), feeds, workers)


def placed(engine: Engine, feed: Mapping[str, Array]) -> dict[str, Array]:
    """``feed`` where ``engine`` runs models: what many runs read is copied there once."""
    return engine.placed(feed) if isinstance(engine, PlacingEngine) else dict(feed)
