"""Infer the statistics of input pixels from a model's normalisation or its recorded BatchNormalization statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_merge.tuning.calibration import SYNTHETIC
from passes.axes.op_facts import Joins, Moves
from passes.axes.registry import facts_of
from passes.graph.nodes import readers_of
from passes.shapes.overridable_inputs import overridable
from passes.weights.stored_tensors import array_of

Array = NDArray[Any]
GIVEN = "the options"
"""Basis of statistics that the user gave."""
PHOTO_MEAN, PHOTO_DEVIATION = 0.45, 0.26
"""Mean and standard deviation of pixels in 0..1, over many photographs."""


@dataclass(frozen=True, eq=False)
class InputRange:
    """Statistics of the input pixels.

    ``mean`` and ``deviation`` (C,) are the mean and standard deviation of each channel. ``limits`` are the values (C,)
    of black and white, in this order, None if unknown. ``basis`` names what shows them.
    """

    mean: Array
    deviation: Array
    limits: tuple[Array, Array] | None
    basis: str

    @classmethod
    def of_pixels(cls, black: Array, white: Array, basis: str) -> InputRange:
        """The statistics of photographs, black being ``black`` (C,) and white being ``white`` (C,)."""
        mean, deviation = black + PHOTO_MEAN * (white - black), PHOTO_DEVIATION * np.abs(white - black)
        return cls(mean, deviation, (black, white), basis)


@dataclass(frozen=True, eq=False)
class _Chain:
    """A tensor that is an affine function of the input: ``factor`` * x + ``shift``, both (C,), with the channels along
    ``axis``."""

    tensor: str
    factor: Array
    shift: Array
    axis: int
    rank: int


def input_range(model: onnx.ModelProto, name: str, axis: int, rank: int, images: Array) -> InputRange | None:
    """Pixel statistics of the input ``name``, whose channels are along ``axis`` of ``rank``; None if the model shows
    none.

    ``images`` (N, C, H, W) have mean 0 and standard deviation 1. They are needed if only the response statistics of the
    first convolution are recorded: the input is then scaled and shifted so that these images give those responses.
    """
    channels = images.shape[1]
    constants = Constants(model)
    readers = readers_of(node for node in model.graph.node if node.op_type != "Shape")
    chain = _Chain(name, np.ones(channels), np.zeros(channels), axis, rank)
    while len(readers.get(chain.tensor, ())) == 1:
        node = readers[chain.tensor][0]
        after = _step(chain, node, constants)
        if after is None:
            break
        chain = after
    for node in readers.get(chain.tensor, ()):
        found: tuple[Array, Array] | None = None
        if node.op_type == "BatchNormalization" and chain.axis == 1:
            recorded = [constants.get(n) for n in node.input[3:5]]
            if recorded[0] is not None and recorded[1] is not None and recorded[0].shape == (channels,):
                found = recorded[0], np.sqrt(np.maximum(recorded[1], 1e-12))
        elif node.op_type == "Conv" and chain.axis == 1 and len(readers.get(node.output[0], ())) == 1:
            found = _before_convolution(node, readers[node.output[0]][0], constants, images)
        if found is not None and np.all(chain.factor != 0):
            mean, deviation = (found[0] - chain.shift) / chain.factor, found[1] / np.abs(chain.factor)
            return InputRange(mean, deviation, _limits(mean, deviation), "statistics of the first BatchNormalization")
    return _of_normalisation(chain)


def _step(chain: _Chain, node: onnx.NodeProto, constants: Constants) -> _Chain | None:
    """``chain`` after ``node``; None if the node is not a scale and shift of each channel."""
    out = node.output[0] if node.output else ""
    facts = facts_of(node.domain, node.op_type)
    if facts.moves in (Moves.SAME, Moves.CONVERTED) and node.input[0] == chain.tensor:
        return replace(chain, tensor=out)
    if node.op_type == "Transpose":
        perm = next((list(a.ints) for a in node.attribute if a.name == "perm"), list(range(chain.rank))[::-1])
        return replace(chain, tensor=out, axis=perm.index(chain.axis)) if len(perm) == chain.rank else None
    if facts.joins not in (Joins.SUM, Joins.DIFFERENCE, Joins.PRODUCT, Joins.QUOTIENT) or len(node.input) != 2:
        return None
    first = node.input[0] == chain.tensor
    constant = constants.get(node.input[1 if first else 0])
    value = None if constant is None else _by_channel(constant, chain)
    if value is None or (facts.joins is Joins.QUOTIENT and (not first or np.any(value == 0))):
        return None
    if facts.joins in (Joins.PRODUCT, Joins.QUOTIENT):
        scale = value if facts.joins is Joins.PRODUCT else 1 / value
        return replace(chain, tensor=out, factor=chain.factor * scale, shift=chain.shift * scale)
    if facts.joins is Joins.SUM:
        return replace(chain, tensor=out, shift=chain.shift + value)
    sign = 1.0 if first else -1.0
    return replace(chain, tensor=out, factor=sign * chain.factor, shift=sign * (chain.shift - value))


def _by_channel(constant: Array, chain: _Chain) -> Array | None:
    """A constant as (C,), if it has one value for each channel or one for all; None otherwise."""
    if constant.ndim > chain.rank or not np.issubdtype(constant.dtype, np.number):
        return None
    shape = (1,) * (chain.rank - constant.ndim) + constant.shape
    channels = len(chain.factor)
    if any(size != 1 for axis, size in enumerate(shape) if axis != chain.axis) or shape[chain.axis] not in (
        1,
        channels,
    ):
        return None
    return np.broadcast_to(constant.astype(np.float64).reshape(-1), (channels,))


def _of_normalisation(chain: _Chain) -> InputRange | None:
    """Raw pixel statistics, from the mean that the model subtracts and the standard deviation that it divides by; None
    if it does neither."""
    factor, shift = chain.factor, chain.shift
    if np.any(factor == 0) or (np.allclose(factor, 1) and np.allclose(shift, 0)):
        return None
    middle = float(np.median(-shift / factor))  # the pixel value that is mapped to zero
    bytes_ = middle > 2 or (abs(middle) < 0.01 and float(np.median(np.abs(factor))) < 0.05)
    if not bytes_ and not 0.05 < middle < 0.95:
        return None
    high = 255.0 if bytes_ else 1.0
    mean = -shift / factor if 0.2 * high < middle < 0.8 * high else np.full(len(factor), PHOTO_MEAN * high)
    deviation = 1 / np.abs(factor)
    likely = (0.15 * high < deviation) & (deviation < 0.35 * high)
    deviation = np.where(likely, deviation, PHOTO_DEVIATION * high)
    return InputRange(mean, deviation, _up_to(high, len(factor)), "the model's own normalisation")


def _limits(mean: Array, deviation: Array) -> tuple[Array, Array] | None:
    """The values of black and white if these are statistics of raw pixels; else None."""
    for high in (255.0, 1.0):
        middling = np.all((0.2 * high < mean) & (mean < 0.8 * high))
        if middling and np.all((0.1 * high < deviation) & (deviation < 0.5 * high)):
            return _up_to(high, len(mean))
    return None


def _up_to(high: float, channels: int) -> tuple[Array, Array]:
    return np.zeros(channels), np.full(channels, high)


def _before_convolution(
    conv: onnx.NodeProto, norm: onnx.NodeProto, constants: Constants, images: Array
) -> tuple[Array, Array] | None:
    """Mean and standard deviation (C,) of the input whose convolution responses have the recorded statistics of
    ``norm``.

    None if they cannot be found, or if scaled ``images`` do not give these statistics.
    """
    if norm.op_type != "BatchNormalization" or norm.input[0] != conv.output[0]:
        return None
    weight, mean, variance = (constants.get(n) for n in (conv.input[1], *norm.input[3:5]))
    bias = constants.get(conv.input[2]) if len(conv.input) > 2 and conv.input[2] else np.zeros(1)
    channels = images.shape[1]
    if weight is None or mean is None or variance is None or bias is None or weight.shape[1:2] != (channels,):
        return None
    if mean.ndim != 1:  # statistics of each position (spatial=0)
        return None
    dilation = next((list(a.ints) for a in conv.attribute if a.name == "dilations"), [1, 1])
    if weight.ndim != 4 or any(
        d * (k - 1) >= n for d, k, n in zip(dilation, weight.shape[2:], images.shape[2:], strict=True)
    ):
        return None
    rows = weight.reshape(len(weight), -1).astype(np.float64)
    answers = (_patches(images, weight.shape[2:], dilation) @ rows.T).std(0)
    wanted = np.sqrt(np.maximum(variance.astype(np.float64), 0))
    alive = (answers > 1e-9) & (wanted > 1e-3 * wanted.max())
    if alive.sum() < channels:
        return None
    ratios = np.log(wanted[alive] / answers[alive])
    scale = float(np.exp(np.median(ratios)))
    if np.median(np.abs(ratios - np.median(ratios))) > 0.6:
        return None
    sums = weight.sum((2, 3), dtype=np.float64)[alive] * (scale / wanted[alive])[:, None]
    offsets = ((mean - bias)[alive] / wanted[alive]).astype(np.float64)
    inner = sums.T @ sums
    ridge = max(0.01 * float(np.trace(inner)) / channels, 1e-12)
    return scale * np.linalg.solve(inner + ridge * np.eye(channels), sums.T @ offsets), np.full(channels, scale)


def _patches(images: Array, kernel: tuple[int, ...], dilation: list[int]) -> Array:
    """Patches (P, C * KH * KW) of ``images`` (N, C, H, W), at random positions."""
    rng = np.random.default_rng(0)
    count, _, height, width = images.shape
    spread = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    patches = SYNTHETIC.patches
    n = rng.integers(0, count, patches)[:, None, None]
    y = rng.integers(0, height - spread[0], patches)[:, None, None] + dilation[0] * np.arange(kernel[0])[:, None]
    x = rng.integers(0, width - spread[1], patches)[:, None, None] + dilation[1] * np.arange(kernel[1])
    return images[n, :, y, x].transpose(0, 3, 1, 2).reshape(patches, -1)


class Constants:
    """The values of constants: Constant nodes and initializers that callers cannot override, also behind Identity.
    Values are read on demand."""

    def __init__(self, model: onnx.ModelProto) -> None:
        defaults = overridable(model)
        self._tensors: dict[str, onnx.TensorProto] = {
            t.name: t for t in model.graph.initializer if t.name not in defaults
        }
        aliases: Mapping[str, str] = {
            n.output[0]: n.input[0] for n in model.graph.node if n.op_type == "Identity" and n.input
        }
        for node in model.graph.node:
            if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
                self._tensors[node.output[0]] = node.attribute[0].t
        self._aliases = aliases

    def get(self, name: str) -> Array | None:
        """The value of the tensor ``name``; None if it is not a constant."""
        while name not in self._tensors and name in self._aliases:
            name = self._aliases[name]
        if name not in self._tensors:
            return None
        return array_of(self._tensors[name])
