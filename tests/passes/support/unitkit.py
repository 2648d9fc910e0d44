"""Networks with one layer pair, the pair found in them, and the same networks in float64."""

import math
from dataclasses import dataclass

import numpy as np
import onnx
from netkit import engine, net
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from passes.analysis.analyse import analyse
from passes.axes import algebra
from passes.layer_pairs.layer_pair import find_layer_pairs
from passes.layer_pairs.layer_pair_model import LayerPairModel, Sizes
from passes.numerics.gauss_newton import Affine
from passes.statistics.linear_layers import solvable_layers

KEPT = np.array([0, 2, 3])
"""Of five hidden channels."""
SAMPLES = (2, 3)
"""In each of the batches."""


class Quiet:
    def __call__(self, name):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


def typed(model):
    return analyse(model, (), None, Quiet()).typing


def units(model, hidden="a", kept=KEPT):
    """Second layers' labels -> units, where ``kept`` of the channels of ``hidden`` stay; no group loses any if none."""
    found = cut_units(model, {} if kept is None else {hidden: kept})[1]
    return {layer.node.label: unit for layer, unit in found.items()}


def cut_units(model, kept):
    """A model's axes, its units by second layer, and what stays of each atom; ``kept``: that by layer's output."""
    typing = typed(model)
    layers = solvable_layers(typing)
    axes = {layer.output: layer.axis for layer in layers.values()}
    keep = {algebra.resolve(typing.axes[name][axes[name]]): indices for name, indices in kept.items()}
    return typing, find_layer_pairs(typing, list(layers.values()), keep), keep


@dataclass
class Net:
    """``x``, ``y``: shapes of a sample; ``nodes``: from x over a to y; ``sizes``: weights as `net` takes them."""

    x: tuple
    y: tuple
    nodes: str
    sizes: dict
    opset: int = 17
    tolerance: float = 1e-4

    def model(self):
        x, y = (",".join(map(str, s)) for s in (self.x, self.y))
        return net(f"net (float[N,{x}] x) => (float[N,{y}] y) {{ {self.nodes} }}", opset=self.opset, **self.sizes)


class Exact:
    """``model`` in float64, its two layers' weights given as points."""

    def __init__(self, model, unit, inputs):
        self._unit, self.inputs = unit, inputs
        self._model = onnx.ModelProto()
        self._model.CopyFrom(model)
        self.layers = (unit.first, unit.second)
        self.weights, others = {}, []
        for tensor in model.graph.initializer:
            array = numpy_helper.to_array(tensor)
            array = array.astype(np.float64) if array.dtype == np.float32 else array
            if tensor.name in self._names():
                self.weights[tensor.name] = array
                kind = onnx.helper.make_tensor_value_info(tensor.name, onnx.TensorProto.DOUBLE, array.shape)
                self._model.graph.input.append(kind)
            else:
                others.append(numpy_helper.from_array(array, tensor.name))
        del self._model.graph.initializer[:]
        self._model.graph.initializer.extend(others)
        self._run = ReferenceEvaluator(self._model)

    def _names(self):
        return [n for layer in self.layers for n in (layer.weight, self._bias(layer)) if n]

    def _bias(self, layer):
        node, k = layer.shift or (layer.node, 9)
        return node.inputs[k] if len(node.inputs) > k else ""

    def _ordered(self, layer, array):
        """(O, taps..., I), a view."""
        return np.moveaxis(array, layer.weight_axes, (0, -1))

    def cut(self, layer):
        """Kept (outputs, inputs) of a layer."""
        o, i = (self.weights[layer.weight].shape[axis] for axis in layer.weight_axes)
        if layer is self._unit.first:
            return KEPT, np.arange(i)
        places = i // 5
        return np.arange(o), (KEPT[:, None] * places + np.arange(places)).ravel()

    def start(self):
        """The point where the net is, kept channels only."""
        found = []
        for layer in self.layers:
            outputs, inputs = self.cut(layer)
            rows = self._ordered(layer, self.weights[layer.weight])[outputs][..., inputs]
            bias = self.weights.get(self._bias(layer), np.zeros(99)).ravel()[outputs]
            found.append(Affine(rows.reshape(len(outputs), -1), bias))
        return found

    def __call__(self, point):
        """y of all samples: what has gone gives nothing."""
        feeds = {"x": self.inputs.astype(np.float64)}
        for layer, block in zip(self.layers, point, strict=True):
            outputs, inputs = self.cut(layer)
            full = self.weights[layer.weight].copy()
            ordered = self._ordered(layer, full)
            if layer is self._unit.second:
                ordered[...] = 0
            taps = [np.arange(n) for n in ordered.shape[1:-1]]
            shape = (len(outputs), *map(len, taps), len(inputs))
            ordered[np.ix_(outputs, *taps, inputs)] = block.weights.reshape(shape)
            feeds[layer.weight] = full
            name = self._bias(layer)
            if name:
                bias = self.weights[name].copy()
                bias.reshape(-1)[outputs] = block.bias
                feeds[name] = bias
            else:
                assert not block.bias.any()
        return np.asarray(self._run.run(None, feeds)[0])


@dataclass
class Problem:
    """A unit on random samples, toward random targets: as written by `LayerPairModel`, and exact."""

    unit: object
    exact: Exact
    model: LayerPairModel
    y: np.ndarray
    o: np.ndarray | None
    start: list

    def residual(self, point):
        given = self.exact(point)
        if self.unit.bounds is None:
            return self.y - given
        low, high = self.unit.bounds
        o = 0 if self.o is None else self.o
        below, above = -np.maximum(given + o - low, 0), np.maximum(high - given - o, 0)
        return np.where(self.y + o <= low, below, np.where(self.y + o >= high, above, self.y - given))

    def loss(self, point):
        return float((self.residual(point) ** 2).sum())

    def moved(self, point, change, by=1e-6):
        """The points on either side."""
        return [[p.plus(c, s * by) for p, c in zip(point, change, strict=True)] for s in (1, -1)]


def problem(case, unit, added=False, seed=0):
    rng = np.random.default_rng(seed)
    count = sum(SAMPLES)
    x = rng.standard_normal((count, *case.x)).astype(np.float32)
    exact = Exact(case.model(), unit, x)
    start = exact.start()
    given = exact(start)
    assert given.shape == (count, *case.y)
    scale = float(np.abs(given).mean())
    y, o = ((scale * rng.standard_normal(given.shape)).astype(np.float32) for _ in range(2))
    o = o if added else None
    parts, feeds, at = {"x": x, "y": y, "o": o}, [], 0
    for size in SAMPLES:
        feeds.append({n: a[at : at + size] for n, a in parts.items() if a is not None})
        at += size
    kernels = tuple(tuple(exact.weights[layer.weight].shape[2:]) if layer.convolves else () for layer in exact.layers)
    sizes = Sizes(kernels, typed(case.model()).graph.shape(unit.second.data))
    return Problem(unit, exact, LayerPairModel(unit, sizes, feeds, engine, case.opset), y, o, start)


def random_like(point, rng, biased=(True, True)):
    return [
        Affine(rng.standard_normal(p.weights.shape), rng.standard_normal(p.bias.shape) * b)
        for p, b in zip(point, biased, strict=True)
    ]


def norm(block):
    return math.sqrt(block.dot(block))
