"""Computes the residuals of a layer pair, their gradient and their curvature in the runtime.

    a = W_1 x + b_1    z = f(a)    y = W_2 z + b_2    r = y* - y    or, where a Relu or a Clip reads y + o:

    r = y* - y                   where low < y* + o < high
      = -max(y + o - low, 0)     where y* + o <= low
      = max(high - y - o, 0)     where y* + o >= high

y* is the target. o is the sum of the other operands that are added to y. The second form counts what passes between the
bounds. It is an upper bound of the error behind them (compare Zhang et al., Accelerating very deep convolutional
networks, TPAMI 2016, sec. 3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from passes.axes.op_facts import Range
from passes.gradients.differentiate import GradientModel, gradient_model
from passes.graph.model import Array, Graph
from passes.interface.engine import Engine, Loaded, retaining, share_threads
from passes.layer_pairs.differentiable_ops import Pointwise
from passes.layer_pairs.layer_pair import LayerPair
from passes.numerics.gauss_newton import Affine, StepMetric
from passes.numerics.threads import at_once
from passes.settings.tuning import TUNING, Tuning
from passes.shapes.inference import Assignment, Shape
from passes.statistics.graph_builder import Builder
from passes.statistics.im2col import Window, columns, patches
from passes.statistics.linear_layers import LinearLayer
from passes.statistics.moments import gram_strips, joined_gram

PAIR = "layer pair"
"""Name of the models that are built here."""
Feed = dict[str, Array]
"""``x``: input of the first layer; ``y``: target; ``o``: what is added to the output, if anything is; ``roots``: of the
weights of places, where they do not count alike."""


@dataclass(frozen=True)
class Sizes:
    """``kernels``: kernel shapes of both layers, empty for dense ones; ``hidden``: shape of the second one's input."""

    kernels: tuple[tuple[int, ...], tuple[int, ...]]
    hidden: tuple[int, ...]


@dataclass(frozen=True)
class _Forward:
    """Names of the tensors of a pair. ``on``: factors of the residuals, 0 where they do not count; None if all do."""

    steps: list[tuple[str, str]]
    hidden: str
    residual: str
    on: str | None


class LayerPairModel:
    """``pair`` on samples ``feeds``. At most ``workers`` of these run at the same time. Weights are (O, D) with D over
    (tap, channel), as in `patches`."""

    def __init__(
        self,
        pair: LayerPair,
        sizes: Sizes,
        feeds: Sequence[Feed],
        engine: Engine,
        opset: int,
        tuning: Tuning = TUNING,
        workers: int = 1,
    ) -> None:
        self._pair, self._sizes, self._feeds, self._engine, self._opset = pair, sizes, feeds, engine, opset
        self._tuning = tuning
        share, self._workers = share_threads(engine, min(workers, len(feeds)))
        self._share = retaining(share)
        self._loaded: dict[str, Loaded] = {}
        self._slope: GradientModel | None = None

    def slope(self, point: Sequence[Affine]) -> tuple[float, list[Affine]]:
        """||r||^2 and minus half its gradient."""
        weights = self._named(point, "wb")
        if self._slope is None:
            self._slope = self._slope_model(weights)
            self._loaded["slope"] = self._share(self._slope.model)
        given = self._slope.gradients
        weights[self._slope.seeds["loss"]] = np.array(-0.5, np.float32)
        sums: Feed = {}
        run, indices = self._loaded["slope"], range(len(self._feeds))
        for found in at_once(lambda index: run({**self._feeds[index], **weights}), indices, self._workers):
            sums = _added(sums, found)
        layers = (self._pair.first, self._pair.second)
        blocks = [
            Affine(_rows(layer, sums[given[f"w{k}"]], kernel), sums[given[f"b{k}"]])
            for k, (layer, kernel) in enumerate(zip(layers, self._sizes.kernels, strict=True), 1)
        ]
        return float(sums["loss"]), blocks

    def curvature(self, point: Sequence[Affine], change: Sequence[Affine], every: int = 1) -> float:
        """||J change||^2 with the residuals' Jacobian J. One sample in ``every`` suffices to estimate one number."""
        weights = {**self._named(point, "wb"), **self._named(change, "vc")}
        if "curve" not in self._loaded:
            self._loaded["curve"] = self._share(self._bend_model(weights))
        batches = min(every, max(1, len(self._feeds) // 2))  # at least two of them, with fewer samples each
        parts = [_first_rows(feed, every // batches) for feed in self._feeds[::batches]]
        share = sum(len(feed["y"]) for feed in parts) / sum(len(feed["y"]) for feed in self._feeds)
        found = at_once(lambda feed: self._loaded["curve"]({**feed, **weights}), parts, self._workers)
        return sum(float(made["curve"]) for made in found) / share

    def metrics(
        self, point: Sequence[Affine], strides: tuple[int, int], dampings: tuple[float, float]
    ) -> list[StepMetric]:
        """Metrics of both layers at ``point``, with features taken at every ``strides``-th place."""
        weights, features = self._named(point, "wb"), [p.weights.shape[1] for p in point]
        self._loaded["metrics"] = self._engine(self._metrics_model(weights, strides, features))
        sums: Feed = {}
        for feed in self._feeds:  # one by one: the matrices of wide layers take more memory than the samples
            sums = _added(sums, self._loaded["metrics"]({**feed, **weights}))
        made: list[StepMetric] = []
        for k, layer in enumerate((self._pair.first, self._pair.second)):
            outer = self._outer(point[1].weights, sums["gates"][0]) if k == 0 else None
            count, total = float(sums[f"count{k}"]), sums[f"sum{k}"][0]
            second = joined_gram(sums, features[k], f"gram{k}", self._tuning.statistics)[0]
            biased, numerics = layer.shift is not None, self._tuning.numerics
            made.append(StepMetric(count, total, second, outer, dampings[k], biased, numerics))
        return made

    def _outer(self, weights: Array, gates: Array) -> Array:
        """(K, K): W_2^T W_2 of the hidden channels, weighted by how often both pass their gradient together."""
        hidden = len(gates)
        if self._sizes.kernels[1]:
            rows = weights.reshape(-1, hidden)
        else:  # flattened input: places vary within a channel
            rows = np.moveaxis(weights.reshape(len(weights), hidden, -1), 1, 2).reshape(-1, hidden)
        return np.asarray((rows.T @ rows) * gates / max(float(np.diag(gates).max()), 1e-30))

    def _named(self, point: Sequence[Affine], names: str) -> Feed:
        """Weights in the layout of the nodes, (O, I) for dense layers."""
        made: Feed = {}
        layers = (self._pair.first, self._pair.second)
        for k, (layer, affine, kernel) in enumerate(zip(layers, point, self._sizes.kernels, strict=True), 1):
            weights = affine.weights.astype(np.float32)
            if kernel:
                weights = np.moveaxis(weights.reshape(len(weights), *kernel, -1), (0, -1), layer.weight_axes)
            made[f"{names[0]}{k}"] = np.ascontiguousarray(weights)
            made[f"{names[1]}{k}"] = affine.bias.astype(np.float32)
        return made

    def _forward(self, build: Builder) -> _Forward:
        at = _applied(build, self._pair.first, "x", "w1", "b1")
        steps: list[tuple[str, str]] = []
        for stage in self._pair.stages:
            out, memory = stage.forward(build, at)
            steps.append((at, memory))
            at = out
        y = _applied(build, self._pair.second, at, "w2", "b2")
        residual = build.op("Sub", "y", y)
        roots = "roots" if "roots" in self._feeds[0] else None
        on: str | None = None
        if self._pair.bounds is not None:
            given, wanted = (build.op("Add", n, "o") if "o" in self._feeds[0] else n for n in (y, "y"))
            residual, on = _between(build, self._pair.bounds, residual, given, wanted)
        if roots is not None:
            residual, on = build.op("Mul", residual, roots), roots if on is None else build.op("Mul", on, roots)
        return _Forward(steps, at, residual, on)

    def _slope_model(self, weights: Feed) -> GradientModel:
        build = Builder(self._opset)
        r = self._forward(build).residual
        given = {**self._feeds[0], **weights}
        model = build.model(given, {"loss": build.total(build.op("Mul", r, r))}, PAIR)
        for value in model.graph.input:
            shape = given[value.name].shape
            value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, shape))

        def shapes(of: onnx.ModelProto, sizes: Assignment, names: Sequence[str]) -> dict[str, Shape]:
            whole = onnx.ModelProto()
            whole.CopyFrom(of)
            whole.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n != "loss")
            return {name: value.shape for name, value in self._engine(whole)(given).items()}

        graph = Graph(model, observer=shapes, engine=self._engine)
        return gradient_model(graph, list(weights), seeded=["loss"], kept=["loss"])

    def _bend_model(self, weights: Feed) -> onnx.ModelProto:
        build = Builder(self._opset)
        done = self._forward(build)
        change = _applied(build, self._pair.first, "x", "v1", "c1")
        for stage, (x, memory) in zip(self._pair.stages, done.steps, strict=True):
            change = stage.tangent(build, x, memory, change)
        second = self._pair.second
        through = _applied(build, second, change, "w2", build.constant(np.zeros_like(weights["b2"])))
        total = build.op("Add", through, _applied(build, second, done.hidden, "v2", "c2"))
        if done.on is not None:
            total = build.op("Mul", total, done.on)
        return build.model({**self._feeds[0], **weights}, {"curve": build.total(build.op("Mul", total, total))}, PAIR)

    def _metrics_model(self, weights: Feed, strides: tuple[int, int], features: Sequence[int]) -> onnx.ModelProto:
        build = Builder(self._opset)
        done = self._forward(build)
        outputs: dict[str, str] = {}
        for k, (layer, source) in enumerate(((self._pair.first, "x"), (self._pair.second, done.hidden))):
            window = Window(1, _widths(layer, weights[f"w{k + 1}"])[1], strides[k])
            p = patches(build, layer, window, source, self._sizes.kernels[k])
            outputs |= gram_strips(build, p, features[k], f"gram{k}", self._tuning.statistics)
            outputs[f"sum{k}"] = build.sum(p, 2)
            places = build.op("Gather", build.op("Shape", p), build.constant(np.array(2)))
            outputs[f"count{k}"] = build.op("Cast", places, to=onnx.TensorProto.DOUBLE)
        at, gate = done.steps[0] if done.steps else (done.hidden, "")
        if not (self._pair.stages and isinstance(self._pair.stages[0], Pointwise)):  # no slope: always open
            gate = build.op("Expand", build.number(1), build.op("Shape", at))
        hidden = len(weights["b1"])
        gates = columns(build, self._pair.first, Window(1, hidden, strides[0]), gate, hidden)
        outputs["gates"] = build.op("MatMul", gates, build.op("Transpose", gates, perm=[0, 2, 1]))
        return build.model({**self._feeds[0], **weights}, outputs, PAIR)


def _between(build: Builder, bounds: Range, residual: str, given: str, wanted: str) -> tuple[str, str]:
    """The ``residual`` of what passes between ``bounds``, and 1 where it depends on ``given``, else 0. ``given``,
    ``wanted``: what is cut off there."""
    low, high = (build.number(bound) for bound in bounds)
    passing: list[str] = []
    if np.isfinite(bounds[0]):
        inside, over = (build.op("Greater", name, low) for name in (wanted, given))
        residual = build.op("Where", inside, residual, build.op("Neg", build.op("Relu", build.op("Sub", given, low))))
        passing.append(build.op("Or", inside, over))
    if np.isfinite(bounds[1]):
        inside, under = (build.op("Less", name, high) for name in (wanted, given))
        residual = build.op("Where", inside, residual, build.op("Relu", build.op("Sub", high, given)))
        passing.append(build.op("Or", inside, under))
    on = passing[0] if len(passing) == 1 else build.op("And", *passing)
    return residual, build.op("Cast", on, to=onnx.TensorProto.FLOAT)


def _applied(build: Builder, layer: LinearLayer, x: str, weights: str, bias: str) -> str:
    if layer.convolves:
        names = ("strides", "pads", "dilations", "output_padding")
        given = {n: list(layer.node.attrs[n]) for n in names if n in layer.node.attrs}
        return build.op(layer.node.op, x, weights, bias, **given)
    return build.op("Add", build.op("MatMul", x, build.op("Transpose", weights, perm=[1, 0])), bias)


def _first_rows(feed: Feed, every: int) -> Feed:
    """The first samples, one in ``every``; all of them where the tensors do not have a row for each sample."""
    counts = {len(array) for array in feed.values()}
    rows = max(1, min(counts) // every)
    return feed if len(counts) > 1 else {name: array[:rows] for name, array in feed.items()}


def _rows(layer: LinearLayer, weights: Array, kernel: Sequence[int]) -> Array:
    """Weights in the layout of the nodes as (O, D)."""
    rows = np.moveaxis(weights, layer.weight_axes, (0, -1)) if kernel else weights
    return rows.reshape(len(rows), -1)


def _widths(layer: LinearLayer, weights: Array) -> tuple[int, int]:
    """Numbers of outputs and inputs of weights in the layout of `LayerPairModel._named`."""
    first, second = weights.shape[:2]
    return (second, first) if layer.transposed else (first, second)


def _added(sums: Feed, found: Mapping[str, Array]) -> Feed:
    return {n: sums.get(n, np.float64(0)) + v.astype(np.float64) for n, v in found.items()}
