"""Find the pixel values that a model without recorded input statistics expects: 0 to 1, 0 to 255, -1 to 1, ...

Exporters fold BatchNormalization into the weights, so that the scale of the input is nowhere written. Images of the
usual conventions are tried. With those of the right one, inner layers answer as a trained network's do:

- The answers of a channel before its activation vary about as much as they are away from zero. Images on too small a
  scale leave only the biases.
- The biases matter beside these answers. Images on too large a scale drown them.
- BatchNormalization that is not folded has recorded the mean and the variance of what it reads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_merge.calibration.input_statistics import PHOTO_DEVIATION, PHOTO_MEAN, Constants, InputRange
from onnx_merge.errors import OnnxMergeError
from onnx_merge.inputs.shape_observer import evenly_spaced_layers, exposing
from onnx_merge.runtime.batching import ONE, batches
from onnx_merge.runtime.providers import ProviderChoice
from onnx_merge.runtime.session import Session, loaded
from onnx_merge.tuning.calibration import PIXEL_CONVENTIONS, PixelConventionTuning
from passes.axes.registry import facts_of
from passes.graph.nodes import readers_of

Array = NDArray[Any]


@dataclass(frozen=True)
class PixelConvention:
    """``black``, ``white``: the values of black and white pixels."""

    name: str
    black: float
    white: float

    @property
    def span(self) -> float:
        """Difference of the values of white and black pixels."""
        return self.white - self.black

    def of(self, channels: int) -> InputRange:
        """The statistics of photographs in this convention."""
        black, white = np.full(channels, self.black), np.full(channels, self.white)
        return InputRange.of_pixels(black, white, "how inner layers answer to made-up images")


STANDARDISED = PixelConvention(
    "mean 0 and standard deviation 1", -PHOTO_MEAN / PHOTO_DEVIATION, (1 - PHOTO_MEAN) / PHOTO_DEVIATION
)
CONVENTIONS = (
    STANDARDISED,
    PixelConvention("0 to 1", 0.0, 1.0),
    PixelConvention("-1 to 1", -1.0, 1.0),
    PixelConvention("0 to 255", 0.0, 255.0),
    PixelConvention("0 to 255 less the mean", -PHOTO_MEAN * 255, (1 - PHOTO_MEAN) * 255),
)
"""The usual conventions. Standardised pixels include those by ImageNet's mean and deviation. The last is Caffe's."""


@dataclass(frozen=True, eq=False)
class _Response:
    """The response of a layer before its activation: a ``tensor`` with the channels along ``axis``, to which ``bias``
    (C,) was added; or what a BatchNormalization reads, with the ``recorded`` mean and variance (C,)."""

    tensor: str
    axis: int
    bias: Array | None = None
    recorded: tuple[Array, Array] | None = None


def likely_convention(
    model: onnx.ModelProto,
    images: Callable[[PixelConvention], Mapping[str, Array]],
    provider: ProviderChoice,
    most: int,
) -> tuple[PixelConvention, bool] | None:
    """The convention whose images make inner layers answer most like a trained network's, and whether it is clear that
    no convention of another scale does as well. None if the model has too few such layers, or does not run.

    ``images``: makes all inputs (N, ...) in a convention; ``most``: largest number of layers, spread evenly.
    """
    tuning, layers = PIXEL_CONVENTIONS, evenly_spaced_layers(_layers(model), most)
    if len(layers) < tuning.fewest_layers:
        return None
    session: Session | None = None
    scores: dict[PixelConvention, float] = {}
    for convention in CONVENTIONS:
        feeds = images(convention)
        try:
            session = session or loaded(exposing(model, list({layer.tensor for layer in layers})), provider)
            found = _scores(session, layers, feeds, tuning)
        except OnnxMergeError:
            return None
        if len(found) < tuning.fewest_layers:
            return None
        scores[convention] = float(np.mean(found))
    first = next(iter(scores))
    best = min(scores, key=lambda one: scores[one] + (one is not first) * tuning.tie)
    others = [
        score for one, score in scores.items() if abs(math.log(one.span / best.span)) > math.log(tuning.other_scale)
    ]
    return best, scores[best] + tuning.clear < min(others, default=np.inf)


def _scores(
    session: Session, layers: Sequence[_Response], feeds: Mapping[str, Array], tuning: PixelConventionTuning
) -> list[float]:
    """The scores of those layers that can be judged on the samples ``feeds`` (N, ...)."""
    seen: dict[str, _Moments] = {}
    names = list(dict.fromkeys(layer.tensor for layer in layers))
    for chunk, _, valid in batches(feeds, session.inputs, ONE):
        values = session.run(chunk, names)
        for layer in {layer.tensor: layer for layer in layers}.values():
            new = _Moments.of(values[layer.tensor][:valid], layer.axis, tuning.places)
            seen[layer.tensor] = seen[layer.tensor] + new if layer.tensor in seen else new
    found = (_score(layer, seen[layer.tensor], tuning) for layer in layers)
    return [one for one in found if one is not None]


def _layers(model: onnx.ModelProto) -> list[_Response]:
    """BatchNormalizations with recorded statistics; without any, layers with weights and a bias. Empty if most
    layers have no bias."""
    constants = Constants(model)
    readers = readers_of(model.graph.node)
    norms: list[_Response] = []
    biased: list[_Response] = []
    weighted = 0
    for node in model.graph.node:
        if node.op_type == "BatchNormalization" and len(node.input) == 5:
            mean, variance = (constants.get(name) for name in node.input[3:5])
            if mean is not None and variance is not None and mean.ndim == 1:
                norms.append(_Response(node.input[0], 1, recorded=(mean, variance)))
        elif facts_of(node.domain, node.op_type).macs is not None and constants.get(node.input[1]) is not None:
            weighted += 1
            biased += _biased(node, readers, constants)
    return norms or (biased if 2 * len(biased) > weighted else [])


def _biased(
    node: onnx.NodeProto, readers: Mapping[str, Sequence[onnx.NodeProto]], constants: Constants
) -> list[_Response]:
    """The response of a layer with its bias, which may be added by the next node. Empty without one."""
    axis = 1 if node.op_type in ("Conv", "ConvTranspose") else -1
    bias = constants.get(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    tensor, after = node.output[0], readers.get(node.output[0], ())
    if bias is None and len(after) == 1 and after[0].op_type == "Add":
        added = [constants.get(name) for name in after[0].input if name != tensor]
        bias, tensor = (added[0] if added else None), after[0].output[0]
    if bias is None or not bias.size or bias.size != max(bias.shape, default=0):
        return []
    return [_Response(tensor, axis, bias.reshape(-1).astype(np.float64))]


@dataclass
class _Moments:
    """Sums and sums of squares (C,) of a tensor's channels over so many ``places``."""

    sums: Array
    squares: Array
    places: int

    @classmethod
    def of(cls, values: Array, axis: int, most: int) -> _Moments:
        """Sums over the values of a tensor at no more than about ``most`` evenly spaced places. ``axis``: of its
        channels."""
        if values.ndim < 2:
            return cls(np.zeros(0), np.zeros(0), 0)
        rows = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
        rows = rows[:, :: max(1, rows.shape[1] // most)]
        with np.errstate(over="ignore"):  # images on a wrong scale may overflow
            return cls(rows.sum(1, np.float64), np.square(rows, dtype=np.float64).sum(1), rows.shape[1])

    def __add__(self, other: _Moments) -> _Moments:
        return _Moments(self.sums + other.sums, self.squares + other.squares, self.places + other.places)


def _score(layer: _Response, seen: _Moments, tuning: PixelConventionTuning) -> float | None:
    """How unlike a trained network's the answers of a layer are, 0 or more; None if they cannot be judged."""
    wanted = layer.bias if layer.recorded is None else layer.recorded[0]
    assert wanted is not None
    few = len(wanted) < tuning.fewest_channels or seen.places < tuning.fewest_places
    if few or len(seen.sums) != len(wanted):
        return None
    mean = seen.sums / seen.places
    deviation = np.sqrt(np.maximum(seen.squares / seen.places - np.square(mean), 0))
    if not np.isfinite(deviation).all() or not deviation.max() > 0:
        return tuning.worst
    if layer.recorded is not None:
        return _off_recorded(mean, deviation, layer.recorded, tuning)
    alive = deviation > tuning.dead * deviation.max()
    away = float(np.median(np.log1p(np.square(mean[alive] / deviation[alive]))))
    share = float(np.median(np.abs(wanted[alive]) / deviation[alive]))
    return min(tuning.worst, away + max(0.0, math.log(tuning.least_bias / max(share, tuning.dead))))


def _off_recorded(
    mean: Array, deviation: Array, recorded: tuple[Array, Array], tuning: PixelConventionTuning
) -> float | None:
    """The deviation from recorded statistics in the median channel. None if all channels were dead in training."""
    spread = np.sqrt(np.maximum(recorded[1].astype(np.float64), 0))
    alive = spread > tuning.dead * spread.max(initial=0.0)
    if not alive.any():
        return None
    ratio = np.maximum(deviation[alive] / spread[alive], tuning.dead)
    shift = (mean - recorded[0])[alive] / spread[alive]
    return min(tuning.worst, float(np.median(np.abs(np.log(ratio)) + np.log1p(np.square(shift)))))
