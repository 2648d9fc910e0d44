"""What samples take in memory, and how large images may be for a model that leaves their size open."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
from numpy.typing import NDArray

from onnx_merge.inputs.feeds import IMAGE_SIZE, Sizes, index_bounds, random_feeds, resolve_shapes
from onnx_merge.runtime.batching import BatchSize
from onnx_merge.runtime.segment_runner import SegmentRunner
from onnx_merge.runtime.session import ProviderChoice, TensorInfo
from passes.statistics.activation_memory import WIDTH, Activations, measured
from passes.statistics.sample_budget import Budget

Array = NDArray[Any]
EDGES = (IMAGE_SIZE, 192, 160, 128, 96, 64)
"""Of images whose size nobody fixed, in pixels; multiples of 32 suit networks that halve them five times."""
PLENTY = 32
"""Samples of which so many fit are not too large."""
INPUTS = 8
"""Samples themselves take one part in so many of the memory, at most."""
RUNNING = 4
"""What goes through a model at once in a comparison takes one part in so many."""
COMPARED = 16
"""Bytes that are taken for each of an output while it is compared: both in float64, their difference, their squares."""


@dataclass(frozen=True)
class MemoryFit:
    """``sizes``: of inputs; ``each``: what a sample takes at them, nothing where that could not be found out;
    ``notes``: what a user should know of them."""

    memory: int
    sizes: Sizes
    each: Activations | None = None
    notes: tuple[str, ...] = ()
    unit: int = 1
    """Samples of which batches are multiples."""

    @property
    def inputs(self) -> int:
        """Bytes that samples may take."""
        return self.memory // INPUTS

    def together(self, feeds: Mapping[str, Array]) -> BatchSize:
        """Samples like those of ``feeds`` (N, ...) that may go through a model at once where outputs are compared."""
        if self.each is None:
            return BatchSize(unit=self.unit)
        given = WIDTH * sum(a.size // max(1, len(a)) for a in feeds.values() if a.ndim)
        each = self.each.live + 2 * self.each.widest + COMPARED * self.each.outputs
        each *= max(1.0, given / max(1.0, self.each.given))
        return BatchSize(max(1, int(self.memory / RUNNING / max(1.0, each))), self.unit)


def fit_to_memory(
    model: onnx.ModelProto, inputs: Sequence[TensorInfo], provider: ProviderChoice, sizes: Sizes, memory: int
) -> MemoryFit:
    """What a sample takes; where the model leaves the size of images open, one at which a fair number of them fit.

    Raises
    ------
    UsageError: ``sizes`` contradicts the model, or names what it does not have.
    InputError: an input takes strings.
    """
    weights = sum(t.ByteSize() for t in model.graph.initializer)
    if not resolve_open(inputs, sizes, EDGES[0]):
        return MemoryFit(memory, sizes, _each(model, inputs, provider, sizes))

    def at_edge(edge: int) -> Sizes:
        return {**sizes, **resolve_open(inputs, sizes, edge)}

    def at(edge: int) -> Activations | None:
        return _each(model, inputs, provider, at_edge(edge))

    # What a large image takes is told from a small one, so that too large a one is never run.
    small, least = next(((e, found) for e in reversed(EDGES) if (found := at(e)) is not None), (0, None))
    if least is None:
        return MemoryFit(memory, sizes)
    growth = _growth(at(small // 2), least)
    larger = (e for e in EDGES if e > small and _plenty(_scaled(least, (e / small) ** growth), memory, weights))
    edge, each = next(((e, found) for e in larger if (found := at(e)) is not None), (small, least))
    note = f"images are {edge} x {edge}, since few larger ones fit --memory-limit: see --input-shape"
    return MemoryFit(memory, at_edge(edge), each, () if edge == EDGES[0] else (note,))


def resolve_open(inputs: Sequence[TensorInfo], sizes: Sizes, edge: int) -> dict[str, tuple[int, ...]]:
    """Shapes with images of ``edge``, of the inputs that leave the size of images open."""
    known = resolve_shapes(inputs, None, sizes)
    found: dict[str, tuple[int, ...]] = {}
    for info in inputs:
        shape = known[info.name]
        if len(shape) != 4 or info.name in sizes:
            continue
        free = [a for a, d in enumerate(info.shape) if a and shape[a] == IMAGE_SIZE and _is_open(d, sizes)]
        if free:
            found[info.name] = tuple(edge if a in free else n for a, n in enumerate(shape))
    return found


def _is_open(dim: int | str | None, sizes: Sizes) -> bool:
    return not (isinstance(dim, int) and dim > 0) and dim not in sizes


def _each(
    model: onnx.ModelProto, inputs: Sequence[TensorInfo], provider: ProviderChoice, sizes: Sizes
) -> Activations | None:
    feed = random_feeds(inputs, None, 0, sizes, index_bounds(model))
    found = measured(model, feed, SegmentRunner(provider))
    held = max(1, min((len(a) for a in feed.values() if a.ndim), default=1))
    return found and _scaled(found, held**-0.5)


def _growth(half: Activations | None, whole: Activations) -> float:
    """Power of the number of pixels with which memory grows, told from images of half the edge: 2 for attention between
    all pixels, 1 for convolutions, and where those did not run."""
    if half is None or min(half.live, whole.live) <= 0:
        return 1.0
    return max(1.0, math.log(whole.live / half.live, 4))


def _scaled(each: Activations, by: float) -> Activations:
    """For images so many times as large along each edge."""
    return Activations(*(by * by * n for n in (each.live, each.held, each.widest, each.given, each.outputs)))


def _plenty(each: Activations, memory: int, weights: int) -> bool:
    return Budget(memory, weights, each).samples >= PLENTY
