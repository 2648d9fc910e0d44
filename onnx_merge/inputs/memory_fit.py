"""Estimate the memory that samples take, and choose the size of images if the model leaves it open."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
from numpy.typing import NDArray

from onnx_merge.inputs.feeds import IMAGE_SIZE, Sizes, index_bounds, random_feeds, resolve_shapes
from onnx_merge.runtime.batching import BatchSize
from onnx_merge.runtime.providers import ProviderChoice
from onnx_merge.runtime.segment_runner import SegmentRunner
from onnx_merge.runtime.tensor_info import TensorInfo, is_open
from onnx_merge.tuning.evaluation import LAYER_ACTIVITY
from onnx_merge.tuning.inputs import SAMPLE_MEMORY
from passes.cost.cost import model_bytes
from passes.statistics.activation_memory import WIDTH, Activations, measured
from passes.statistics.sample_budget import Budget

Array = NDArray[Any]
EDGES = (IMAGE_SIZE, *SAMPLE_MEMORY.smaller_edges)
"""Candidate image edges in pixels, if nobody fixed them."""


@dataclass(frozen=True)
class MemoryFit:
    """The memory that samples take.

    ``memory`` is the limit in bytes. ``sizes`` are those of the inputs. ``each`` is the memory of one sample at these
    sizes, None if it could not be measured. ``notes`` are for the user.
    """

    memory: int
    sizes: Sizes
    each: Activations | None = None
    notes: tuple[str, ...] = ()
    unit: int = 1
    """Batch sizes must be multiples of this number of samples."""
    only: int | None = None
    """The batch size, if the model takes no other one although it declares any."""

    @property
    def inputs(self) -> int:
        """Upper limit on the bytes of the samples."""
        return self.memory // SAMPLE_MEMORY.samples_share

    def examined_layers(self, model: onnx.ModelProto) -> int:
        """The largest number of layers whose activations a run may return for one sample; 0 if the weights alone take
        too much."""
        room = self.memory // LAYER_ACTIVITY.memory_share
        if model_bytes(model) > room:
            return 0
        most = LAYER_ACTIVITY.layers
        return most if self.each is None else min(most, int(room / max(1.0, self.each.widest)))

    def together(self, feeds: Mapping[str, Array]) -> BatchSize:
        """The batch size for comparing outputs on samples like those of ``feeds`` (N, ...)."""
        if self.only is not None:
            return BatchSize(self.only, self.only)
        if self.each is None:
            return BatchSize(unit=self.unit)
        given = WIDTH * sum(a.size // max(1, len(a)) for a in feeds.values() if a.ndim)
        each = self.each.live + 2 * self.each.widest + SAMPLE_MEMORY.comparison_bytes * self.each.outputs
        each *= max(1.0, given / max(1.0, self.each.given))
        return BatchSize(max(1, int(self.memory / SAMPLE_MEMORY.batch_share / max(1.0, each))), self.unit)


def fit_to_memory(
    model: onnx.ModelProto, inputs: Sequence[TensorInfo], provider: ProviderChoice, sizes: Sizes, memory: int
) -> MemoryFit:
    """Measure the memory of a sample. If the model leaves the size of images open, take the largest edge at which
    `SampleMemoryTuning.fitting_samples` samples fit, or the smallest edge at which the model runs.

    Raises
    ------
    UsageError: ``sizes`` contradicts the model, or names a symbol or input that it does not have.
    InputError: an input takes strings.
    """
    weights = sum(t.ByteSize() for t in model.graph.initializer)
    if not resolve_open(inputs, sizes, EDGES[0]):
        return MemoryFit(memory, sizes, _each(model, inputs, provider, sizes))

    def at_edge(edge: int) -> Sizes:
        return {**sizes, **resolve_open(inputs, sizes, edge)}

    def at(edge: int) -> Activations | None:
        return _each(model, inputs, provider, at_edge(edge))

    # The memory of large images is extrapolated from small ones, so that too large images are never run.
    small, least = next(((e, found) for e in reversed(EDGES) if (found := at(e)) is not None), (0, None))
    if least is None:
        return MemoryFit(memory, sizes)
    growth = _growth(at(small // 2), least)
    larger = (
        e for e in EDGES if e > small and _is_small(_with_larger_edges(least, (e / small) ** growth), memory, weights)
    )
    edge, each = next(((e, found) for e in larger if (found := at(e)) is not None), (small, least))
    note = f"images are {edge} x {edge}, since few larger ones fit --memory-limit: see --input-shape"
    return MemoryFit(memory, at_edge(edge), each, () if edge == EDGES[0] else (note,))


def resolve_open(inputs: Sequence[TensorInfo], sizes: Sizes, edge: int) -> dict[str, tuple[int, ...]]:
    """Shapes with images of size ``edge``, for the inputs that leave the size of images open."""
    known = resolve_shapes(inputs, None, sizes)
    found: dict[str, tuple[int, ...]] = {}
    for info in inputs:
        shape = known[info.name]
        if len(shape) != 4 or info.name in sizes:
            continue
        dynamic = [a for a, d in enumerate(info.shape) if a and is_open(d) and d not in sizes]
        open_axes = [a for a in dynamic if shape[a] == IMAGE_SIZE]
        if open_axes:
            found[info.name] = tuple(edge if a in open_axes else n for a, n in enumerate(shape))
    return found


def _each(
    model: onnx.ModelProto, inputs: Sequence[TensorInfo], provider: ProviderChoice, sizes: Sizes
) -> Activations | None:
    feed = random_feeds(inputs, None, 0, sizes, index_bounds(model))
    found = measured(model, feed, SegmentRunner(provider))
    held = max(1, min((len(a) for a in feed.values() if a.ndim), default=1))
    return found and _with_larger_edges(found, held**-0.5)


def _growth(half: Activations | None, whole: Activations) -> float:
    """The exponent with which memory grows with the number of pixels, estimated from images of half the edge.

    It is 2 for attention between all pixels and 1 for convolutions; 1 also if the smaller images did not run.
    """
    if half is None or min(half.live, whole.live) <= 0:
        return 1.0
    return max(1.0, math.log(whole.live / half.live, 4))


def _with_larger_edges(each: Activations, by: float) -> Activations:
    """The memory for images whose edges are ``by`` times as long."""
    return Activations(*(by * by * n for n in (each.live, each.held, each.widest, each.given, each.outputs)))


def _is_small(each: Activations, memory: int, weights: int) -> bool:
    """Whether at least `SampleMemoryTuning.fitting_samples` samples fit into ``memory`` bytes beside the weights."""
    return Budget(memory, weights, each).samples >= SAMPLE_MEMORY.fitting_samples
