"""Computes second moments of a layer's inputs and targets in the runtime.

The model that is built:  x -> the layer's patches P (g, D, M) -> P P^T, y P^T, P 1   (M places of a batch of samples)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto

from passes.graph.model import Array
from passes.interface.engine import Engine, Loaded, retaining, share_threads
from passes.numerics.ridge import Moments, SampleRows
from passes.numerics.threads import at_once
from passes.settings.statistics_tuning import StatisticsTuning
from passes.settings.tuning import TUNING
from passes.statistics.graph_builder import END, Builder
from passes.statistics.im2col import Window, columns, patches
from passes.statistics.linear_layers import LinearLayer

MOMENTS = "moments"
"""Name of the models that are built here."""


class Batch(NamedTuple):
    """Inputs of a layer and its targets. ``roots``: of the weights of the targets' places, one along the channels' axis
    of the targets; None where all count alike."""

    x: Array
    y: Array
    roots: Array | None = None

    @property
    def feed(self) -> dict[str, Array]:
        """Inputs of a model that is built here."""
        targets = {"y": self.y} if self.roots is None else {"y": self.y, "roots": self.roots}
        return {"x": self.x, **{name: array.astype(np.float32, copy=False) for name, array in targets.items()}}


def _set_up(
    layer: LinearLayer, window: Window, weight: Array, batch: Batch
) -> tuple[Builder, dict[str, Array], str, str]:
    """A builder with patches and targets, the inputs for one batch, and the names of patches and targets."""
    build = Builder()
    inputs = batch.feed
    p = patches(build, layer, window, build.op("Cast", "x", to=TensorProto.FLOAT), weight.shape[2:])
    return build, inputs, p, columns(build, layer, window, "y", weight.shape[layer.weight_axes[0]])


def gram_strips(
    build: Builder, p: str, features: int, name: str, tuning: StatisticsTuning = TUNING.statistics
) -> dict[str, str]:
    """P P^T of ``p`` (g, D, M) as outputs for `joined_gram`: strips of rows, each starting at the diagonal."""
    cuts = _cuts(features, tuning)
    strips: dict[str, str] = {}
    for i, (start, end) in enumerate(zip(cuts, cuts[1:], strict=False)):
        rest = p if start == 0 else build.op("Slice", p, build.ints(start), build.ints(features), build.ints(1))
        rows = p if len(cuts) == 2 else build.op("Slice", p, build.ints(start), build.ints(end), build.ints(1))
        strips[f"{name}.{i}"] = build.op("MatMul", rows, build.op("Transpose", rest, perm=[0, 2, 1]))
    return strips


def joined_gram(
    found: Mapping[str, Array], features: int, name: str, tuning: StatisticsTuning = TUNING.statistics
) -> Array:
    """P P^T (g, D, D) from the outputs of a model with `gram_strips` of the same ``tuning``."""
    cuts = _cuts(features, tuning)
    product = np.empty((len(found[f"{name}.0"]), features, features))
    for i, start in enumerate(cuts[:-1]):
        strip = np.asarray(found[f"{name}.{i}"])
        product[:, start : cuts[i + 1], start:] = strip
        product[:, start:, start : cuts[i + 1]] = strip.swapaxes(1, 2)
    return product


def _cuts(features: int, tuning: StatisticsTuning) -> list[int]:
    """Row indices at which a large P P^T is cut into strips."""
    strips = tuning.gram_strips if features >= tuning.strip_features else 1
    return [features * i // strips for i in range(strips + 1)]


def halves_of(batches: Sequence[Batch]) -> list[int]:
    """The half, 0 or 1, of each batch of samples. Adjacent samples may be an image and its mirror image, so they are in
    the same half."""
    together = 2 if len(batches) >= 4 and len(batches[0][0]) % 2 else 1
    return [at // together % 2 for at in range(len(batches))]


def layer_rows(
    layer: LinearLayer, window: Window, weight: Array, batches: Sequence[Batch], engine: Engine
) -> list[list[SampleRows]]:
    """Patches and targets themselves, (batch, group), for fewer places than features."""
    build, inputs, p, y = _set_up(layer, window, weight, batches[0])
    run = engine(build.model(inputs, {"p": p, "y_out": y}, MOMENTS))
    found: list[list[SampleRows]] = []
    for batch in batches:
        out = run(batch.feed)
        found.append([SampleRows(p.T, y.T) for p, y in zip(out["p"], out["y_out"], strict=True)])
    return found


def layer_moments(
    layer: LinearLayer,
    window: Window,
    weight: Array,
    batches: Sequence[Batch],
    engine: Engine,
    tuning: StatisticsTuning = TUNING.statistics,
    workers: int = 1,
) -> list[list[Moments]]:
    """Moments of both halves of the batches, (half, group). ``workers``: most batches that run at the same time."""
    first = batches[0]  # batches may be computed at each access
    build, inputs, p, y = _set_up(layer, window, weight, first)
    roots = None
    if first.roots is not None:
        roots = columns(build, layer, replace(window, groups=1), "roots", 1)
        p, y = build.op("Mul", p, roots), build.op("Mul", y, roots)
    turned = build.op("Transpose", p, perm=[0, 2, 1])
    features = weight.size // weight.shape[layer.weight_axes[0]]
    outputs = {
        **gram_strips(build, p, features, "pp", tuning),
        "yp": build.op("MatMul", y, turned),
        "sum_p": build.mean(p if roots is None else build.op("Mul", p, roots), 2),
        "sum_y": build.mean(y if roots is None else build.op("Mul", y, roots), 2),
        "sum_yy": build.mean(build.op("Mul", y, y), 2),
        "places": build.op("Shape", p),
    }
    if roots is not None:
        outputs["weight"] = build.mean(build.op("Mul", roots, roots), 2)
    engine, workers = share_threads(engine, min(workers, len(batches)))
    run = retaining(engine)(build.model(inputs, outputs, MOMENTS))
    halves: list[list[Moments]] = [[], []]
    found = at_once(lambda at: run((batches[at] if at else first).feed), range(len(batches)), workers)
    for half, out in zip(halves_of([first] * len(batches)), found, strict=True):
        count = float(out["places"][2])
        pp, yp = joined_gram(out, features, "pp", tuning), out["yp"].astype(np.float64)
        p1, y1, yy = (out[n].astype(np.float64) * count for n in ("sum_p", "sum_y", "sum_yy"))
        if roots is not None:
            count *= float(out["weight"].ravel()[0])
        new = [Moments(count, p1[g], y1[g], pp[g], yp[g], yy[g]) for g in range(len(pp))]
        halves[half] = [a + b for a, b in zip(halves[half], new, strict=True)] if halves[half] else new
    if not halves[1]:  # a single batch whose samples are not on its first axis
        halves[1] = [Moments(0.0, 0 * m.p, 0 * m.y, 0 * m.pp, 0 * m.yp, 0 * m.yy) for m in halves[0]]
    return halves


@dataclass
class ChannelSums:
    """Sums over places: ``count`` places, ``first`` moments (C,), ``second`` moments (C, C).

    ``means`` (n, C): channel means of each of n samples. ``rows`` (count, C): the values themselves instead of
    ``second``, where there are few.
    """

    count: float
    first: Array
    second: Array | None
    means: Array
    rows: Array | None = None

    def __add__(self, other: ChannelSums) -> ChannelSums:
        both = replace(self, first=self.first.copy(), second=None if self.second is None else self.second.copy())
        both.add(other)
        return both

    def add(self, other: ChannelSums) -> None:
        """Add other sums in place."""
        self.count += other.count
        self.first += other.first
        if self.second is not None:
            self.second += other.second
        self.means = np.concatenate([self.means, other.means])
        if self.rows is not None and other.rows is not None:
            self.rows = np.concatenate([self.rows, other.rows])

    def rescaled(self, factor: Array, shift: Array) -> ChannelSums:
        """The sums of ``factor`` (x - ``shift``) for values x, both of shape (C,)."""
        first = self.first - self.count * shift
        second = self.second
        if second is not None:
            cross = np.outer(self.first, shift)
            second = np.outer(factor, factor) * (second - cross - cross.T + self.count * np.outer(shift, shift))
        rows = None if self.rows is None else factor * (self.rows - shift)
        return ChannelSums(self.count, factor * first, second, factor * (self.means - shift), rows)


def channel_sums(
    axis: int,
    occurrences: Sequence[tuple[int, int, int]],
    size: int,
    batches: Iterable[Array],
    samples: Sequence[int],
    engine: Engine,
    tuning: StatisticsTuning = TUNING.statistics,
    workers: int = 1,
    few: float = 0.0,
) -> Iterator[ChannelSums]:
    """Sums for each batch over the channels at ``occurrences`` (start, outer, inner) of a tensor's axis ``axis``.
    ``samples``: number of samples in each batch; ``workers``: most batches that run at the same time; ``few``: largest
    number of places of which all values are kept.

    Of many places of a sample every few serve (`StatisticsTuning.channel_places`), but all for the samples' means.
    """
    engine, workers = share_threads(engine, workers)
    loaded: dict[int, tuple[Loaded, int]] = {}
    each = sum(o * i for _, o, i in occurrences)
    kept: bool | None = None  # whether values are kept: the same for all batches

    def given() -> Iterator[tuple[Array, int, Loaded, int]]:
        nonlocal kept
        for x, held in zip(batches, samples, strict=True):
            if held not in loaded:
                kept = _places(axis, x, held, 1) * each / held * sum(samples) <= few if kept is None else kept
                stride = 1 if kept else _stride(axis, x, held, max(1, each * size), sum(samples), tuning)
                model = _channel_model(axis, occurrences, size, x, held, stride, kept)
                loaded[held] = (retaining(engine)(model), stride)
            yield x, held, *loaded[held]

    def sums(one: tuple[Array, int, Loaded, int]) -> ChannelSums:
        x, held, run, stride = one
        out = run({"x": x})
        count = float(_places(axis, x, held, stride) * each)
        means, first = out["means"].astype(np.float64).T, out["mean"].astype(np.float64) * count
        if kept:
            return ChannelSums(count, first, None, means, out["values"].astype(np.float64).T)
        return ChannelSums(count, first, out["gram"].astype(np.float64), means)

    yield from at_once(sums, given(), workers)


def _stride(axis: int, x: Array, samples: int, size: int, count: int, tuning: StatisticsTuning) -> int:
    """Stride between the places of a sample that are used. ``size``: of axis ``axis`` as far as it has channels;
    ``count``: number of all samples."""
    if x.ndim < 3 or axis not in (1, x.ndim - 1) or len(x) != samples:
        return 1
    held = int(x.size // (x.shape[axis] * samples))
    places = count * held
    stride = max(1, places // max(tuning.channel_places * size, tuning.fewest_channel_places))
    return min(stride + (stride > 1 and stride % 2 == 0), max(1, held))


def _places(axis: int, x: Array, samples: int, stride: int) -> int:
    """Number of places of a batch at every ``stride``-th place of a sample."""
    places = int(x.size // x.shape[axis])
    return places if stride == 1 else samples * -(-(places // samples) // stride)


def _channel_model(
    axis: int,
    occurrences: Sequence[tuple[int, int, int]],
    size: int,
    x: Array,
    samples: int,
    stride: int = 1,
    values: bool = False,
) -> onnx.ModelProto:
    """x -> moments of channels over every ``stride``-th place, and means over all places of each sample. ``values``:
    give the values (C, M) themselves, not their products."""
    build = Builder()
    if stride > 1:  # of many places
        return _strided_model(build, axis, occurrences, size, x, stride)
    others = [d for d in range(x.ndim) if d != axis]
    # the axis of the samples alone, or one that they share with others, where each sample's entries are contiguous
    along = next((d for d in others if x.shape[d] == samples), None)
    along = next((d for d in others if x.shape[d] % samples == 0), None) if along is None else along
    order = [d for d in others if d != along]
    front = [axis, *order] if along is None else [axis, along, *order]
    turned = build.op("Transpose", build.op("Cast", "x", to=TensorProto.FLOAT), perm=front)
    joined = _channels(build, build.op("Reshape", turned, build.ints(x.shape[axis], -1)), occurrences, size)
    apart = build.op("Reshape", turned, build.ints(x.shape[axis], 1 if along is None else samples, -1))
    each = _channels(build, build.mean(apart, 2), occurrences, size)
    places = build.op("Reshape", each, build.ints(size, -1, 1 if along is None else samples))
    gram = None if values else build.op("MatMul", joined, build.op("Transpose", joined, perm=[1, 0]))
    outputs = {
        **({"values": joined} if gram is None else {"gram": gram}),
        "mean": build.mean(joined, 1),
        "means": build.mean(places, 1),
    }
    return build.model({"x": x}, outputs, MOMENTS)


def _strided_model(
    build: Builder, axis: int, occurrences: Sequence[tuple[int, int, int]], size: int, x: Array, stride: int
) -> onnx.ModelProto:
    """A model of the moments for samples on the first axis, and channels on the second or on the last, at one place in
    ``stride``. What is not used is not copied."""
    ends = build.ints(0), build.ints(END)
    if axis == 1:
        flat = build.op("Reshape", build.op("Cast", "x", to=TensorProto.FLOAT), build.ints(0, 0, -1))
        some = build.op("Slice", flat, *ends, build.ints(2), build.ints(stride))
        turned, means = build.op("Transpose", some, perm=[1, 0, 2]), build.mean(flat, 2)
    else:
        flat = build.op("Reshape", build.op("Cast", "x", to=TensorProto.FLOAT), build.ints(len(x), -1, x.shape[-1]))
        some = build.op("Slice", flat, *ends, build.ints(1), build.ints(stride))
        turned, means = build.op("Transpose", some, perm=[2, 0, 1]), build.mean(flat, 1)
    joined = _channels(build, build.op("Reshape", turned, build.ints(x.shape[axis], -1)), occurrences, size)
    each = _channels(build, build.op("Transpose", means, perm=[1, 0]), occurrences, size)
    outputs = {
        "gram": build.op("MatMul", joined, build.op("Transpose", joined, perm=[1, 0])),
        "mean": build.mean(joined, 1),
        "means": build.mean(build.op("Reshape", each, build.ints(size, -1, len(x))), 1),
    }
    return build.model({"x": x}, outputs, MOMENTS)


def _channels(build: Builder, rows: str, occurrences: Sequence[tuple[int, int, int]], size: int) -> str:
    """(axis, M) -> (C, places M): every occurrence of each channel."""
    parts: list[str] = []
    for start, outer, inner in occurrences:
        ends = build.ints(start), build.ints(start + outer * size * inner)
        cut = build.op("Slice", rows, *ends, build.ints(0))
        spread = build.op("Reshape", cut, build.ints(outer, size, -1))
        parts.append(build.op("Reshape", build.op("Transpose", spread, perm=[1, 0, 2]), build.ints(size, -1)))
    return parts[0] if len(parts) == 1 else build.op("Concat", *parts, axis=1)
