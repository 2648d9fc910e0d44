"""Detects samples that activate a model unlike its training data, by running it once on a few of them.

In a trained network nearly every unit switches: a ReLU is open at some places and closed at others, and a gate is
somewhere between its two ends. BatchNormalization has recorded the statistics of its inputs in training. Samples of
another scale or kind than the training data leave most units of most layers on one side, or differ from the recorded
statistics by a large factor. The behaviour of a compressed model on such samples then says little.

==========================================  =====================================================================
units                                       stuck if, over all samples and places,
==========================================  =====================================================================
ReLU and similar, SiLU, GELU, HardSwish     the input has one sign
Sigmoid, Tanh, HardSigmoid (gates)          the output is within `LayerActivityTuning.saturation` of an end
==========================================  =====================================================================

Units that no layer with weights follows are outputs, which may well be near their ends. Single layers of trained
networks may be nearly dead, whole networks are not: weight decay can leave 15 of 16 units of a layer closed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_merge.errors import OnnxMergeError
from onnx_merge.evaluation.activation_units import ActivationUnit, units
from onnx_merge.inputs.shape_observer import evenly_spaced_layers, exposing
from onnx_merge.runtime.batching import ONE, batches
from onnx_merge.runtime.providers import ProviderChoice
from onnx_merge.runtime.session import loaded
from onnx_merge.tuning.evaluation import LAYER_ACTIVITY
from passes.axes.registry import facts_of
from passes.numerics.arrays import sample_count
from passes.samples.sample_files import samples_at
from passes.weights.stored_tensors import array_of

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class LayerActivity:
    """Activity of one layer.

    ``off``: for an activation, the share of stuck units. For a BatchNormalization, the deviation from its recorded
    statistics in the median channel: the factor between the spreads (1 or more), or the difference of the means in
    recorded standard deviations.
    """

    name: str
    op: str
    off: float

    @property
    def is_off(self) -> bool:
        """Whether a trained network's layer would not behave so on its own data."""
        known = self.op == "BatchNormalization"
        return self.off >= (LAYER_ACTIVITY.statistics_factor if known else LAYER_ACTIVITY.stuck_units)

    def __str__(self) -> str:
        if self.op == "BatchNormalization":
            return f"what {self.name} reads is {self.off:.3g} times off what it recorded in training"
        return f"{100 * self.off:.3g}% of the units of {self.name} ({self.op}) never switch"


def layers(
    model: onnx.ModelProto, feeds: Mapping[str, Array], provider: ProviderChoice, most: int
) -> list[LayerActivity]:
    """Return the activity of the activations and BatchNormalizations of the main graph on ``feeds`` (N, ...).

    ``most``: largest number of layers, spread evenly over the model. Their tensors are held in memory for one sample.
    Empty if the model cannot be run with more outputs.
    """
    looked = evenly_spaced_layers(units(model), most)
    if not looked:
        return []
    wanted = list(dict.fromkeys((unit.tensor, unit.kind == "norm") for unit in looked))
    tensors = list(dict.fromkeys(name for name, _ in wanted))
    one_dimensional = any(n.op_type == "Conv" for n in model.graph.node)
    seen = {mark: _Seen(mark[1]) for mark in wanted}
    try:
        session = loaded(exposing(model, tensors), provider)
        for chunk, _, valid in batches(representative(feeds), session.inputs, ONE):
            values = session.run(chunk, tensors)
            for mark in wanted:
                value = values[mark[0]]
                seen[mark].add(value[:valid] if value.ndim else value, one_dimensional)
    except OnnxMergeError:
        return []
    constants = {t.name: t for t in model.graph.initializer}
    found = (_layer(unit, seen[unit.tensor, unit.kind == "norm"], constants) for unit in looked)
    return [layer for layer in found if layer is not None]


def complaint(found: Sequence[LayerActivity]) -> str | None:
    """Return a line about a network that is off, naming its worst layer; None about any other network."""
    for recorded in (True, False):
        kind = [layer for layer in found if (layer.op == "BatchNormalization") == recorded]
        off = [layer for layer in kind if layer.is_off]
        few = len(kind) <= LAYER_ACTIVITY.few_layers
        if off and (len(off) == len(kind) if few else len(off) > LAYER_ACTIVITY.inactive_layers * len(kind)):
            worst = max(off, key=lambda layer: layer.off)
            where = f"in {len(off)} of {len(kind)} layers that were looked at" if len(kind) > 1 else "in its only layer"
            return f"inner layers are off what a trained network shows, {where}: {worst}"
    return None


class _Seen:
    """Statistics of a tensor's channels (C,) over all samples: extremes, or sums and sums of squares with ``moments``.
    ``places``: number of places at which each channel was observed."""

    def __init__(self, moments: bool) -> None:
        self.places = 0
        self._moments = moments
        self.low: Array = np.zeros(0)
        self.high: Array = np.zeros(0)
        self.sums: Array = np.zeros(0)
        self.squares: Array = np.zeros(0)

    def add(self, value: Array, convolved: bool) -> None:
        """Add ``value``: (N, C, ...), or (N, ..., C) if it has rank 3 and the model has no convolution."""
        if value.ndim < 2 or not value.size or value.dtype.kind != "f":
            return
        axis = 1 if value.ndim > 3 or (convolved and value.ndim == 3) else value.ndim - 1
        rows = np.moveaxis(value, axis, 0).reshape(value.shape[axis], -1).astype(np.float32, copy=False)
        if self.places and len(self.sums if self._moments else self.low) != len(rows):
            return  # the size varies, so that this axis holds no channels
        if self._moments:
            new = rows.sum(1, np.float64), np.square(rows).sum(1, np.float64)
            self.sums, self.squares = (self.sums + new[0], self.squares + new[1]) if self.places else new
        else:
            low, high = rows.min(1), rows.max(1)
            if self.places:
                low, high = np.minimum(self.low, low), np.maximum(self.high, high)
            self.low, self.high = low, high
        self.places += rows.shape[1]


def _layer(unit: ActivationUnit, seen: _Seen, constants: Mapping[str, onnx.TensorProto]) -> LayerActivity | None:
    if seen.places < LAYER_ACTIVITY.fewest_places:
        return None
    if unit.kind == "switch":
        return LayerActivity(unit.name, unit.node.op_type, float(np.mean((seen.low > 0) | (seen.high <= 0))))
    if unit.kind == "gate":
        ends = facts_of("", unit.node.op_type).range
        assert isinstance(ends, tuple)
        bottom, top = ends
        near = LAYER_ACTIVITY.saturation * (top - bottom)
        return LayerActivity(
            unit.name, unit.node.op_type, float(np.mean((seen.high < bottom + near) | (seen.low > top - near)))
        )
    recorded = [constants.get(name) for name in unit.node.input[3:5]]
    if recorded[0] is None or recorded[1] is None:
        return None
    mean, variance = (array_of(t).astype(np.float64) for t in recorded if t is not None)
    if mean.shape != seen.sums.shape:
        return None
    centre = seen.sums / seen.places
    deviation = np.sqrt(np.maximum(seen.squares / seen.places - centre**2, 0))
    wanted = np.sqrt(np.maximum(variance, 0))
    # a dead channel has a variance near 0, relative to which any value is large
    alive = wanted > 1e-3 * max(float(wanted.max()), 1e-12)
    if not alive.any():
        return None
    ratio = np.maximum(deviation[alive] / wanted[alive], 1e-3)
    shift = np.abs(centre - mean)[alive] / wanted[alive]
    return LayerActivity(
        unit.name, unit.node.op_type, float(np.median(np.maximum(np.maximum(ratio, 1 / ratio), shift)))
    )


def representative(feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Return at most `LayerActivityTuning.samples` of the samples, fewer if they are large, evenly spaced because files
    are often sorted."""
    count = sample_count(feeds)
    each = sum(a.size for a in feeds.values() if a.ndim) // max(1, count)
    fitting = max(LAYER_ACTIVITY.fewest_samples, LAYER_ACTIVITY.elements // max(1, each))
    taken = min(count, LAYER_ACTIVITY.samples, fitting)
    rows = np.unique(np.linspace(0, count - 1, taken).round().astype(int)) if count else np.zeros(0, int)
    return samples_at(feeds, rows)
