"""Measures how far values of the result deviate from the original's, and finds the first tensor that deviates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
from numpy.typing import NDArray

from onnx_merge.equivalence.structure import is_float
from onnx_merge.errors import OnnxMergeError
from onnx_merge.inputs.shape_observer import exposing
from onnx_merge.runtime.providers import ProviderChoice
from onnx_merge.runtime.session import Session
from onnx_merge.runtime.tensor_info import BFLOAT16
from onnx_merge.tuning.checks import EQUIVALENCE
from passes.axes.registry import facts_of
from passes.transforms.unshare_constants import is_weight
from passes.weights.stored_tensors import array_of, stored_array, tensor_of

Array = NDArray[Any]
TOLERANCES = {
    np.dtype(np.float64): EQUIVALENCE.double_tolerance,
    np.dtype(np.float32): EQUIVALENCE.single_tolerance,
    np.dtype(np.float16): EQUIVALENCE.half_tolerance,
    BFLOAT16: EQUIVALENCE.half_tolerance,
}
"""Largest norm of the difference relative to the original's norm, by type. Other types have to be equal."""
ROUNDING = {np.dtype(np.float64): 1e-15, np.dtype(np.float32): 1e-7, np.dtype(np.float16): 1e-3, BFLOAT16: 8e-3}
"""Relative tolerance of a single element."""


def tolerance(expected: Array) -> float:
    """Return the largest `deviation` that is accepted for values of this type."""
    return TOLERANCES.get(expected.dtype, 0.0)


def deviation(expected: Array, actual: Array, large: bool = False) -> float:
    """Return |actual - expected| / |expected| of floats; of other types, the share of elements that differ.

    Infinite where types, shapes or the positions of NaN and infinities differ. ``large``: the inputs were far larger
    than usual inputs. Elements that overflow are then not compared, since any rounding decides which ones do.
    """
    if expected.dtype != actual.dtype or expected.shape != actual.shape:
        return float("inf")
    if not expected.size:
        return 0.0
    if not is_float(expected):
        return float(np.mean(expected != actual))
    a, b = expected.astype(np.float64), actual.astype(np.float64)
    finite = np.isfinite(a)
    if not finite.all():
        if large:
            finite &= np.isfinite(b)
        elif not np.array_equal(a[~finite], b[~finite], equal_nan=True):
            return float("inf")
        a, b = a[finite], b[finite]
    if not np.isfinite(b).all():
        return float("inf")
    norm, off = float(np.linalg.norm(a)), float(np.linalg.norm(a - b))
    return off / norm if norm > 0 else off


def first_moved(
    original: onnx.ModelProto,
    result: onnx.ModelProto,
    feeds: Mapping[str, Array],
    provider: ProviderChoice,
    large: bool = False,
) -> tuple[str, str, float] | None:
    """Return (tensor, node that computes it, deviation) of the first tensor inside the models that deviates.

    A tensor deviates if it is off by more than a few times its tolerance. The order is that of computation. None if no
    tensor deviates, or if the models cannot be run. ``large``: see `deviation`.

    Tensors that lost channels, or whose name exists in only one of the models, are skipped.
    """
    made = {name for node in result.graph.node for name in node.output if name}
    common = [(n, node) for node in original.graph.node for n in node.output if n in made]
    for start in range(0, len(common), EQUIVALENCE.tensors_at_once):
        names = [name for name, _ in common[start : start + EQUIVALENCE.tensors_at_once]]
        try:
            before, after = (values_of(model, names, feeds, provider) for model in (original, result))
        except OnnxMergeError:
            return None
        for name, node in common[start : start + EQUIVALENCE.tensors_at_once]:
            if name in before and name in after and before[name].shape == after[name].shape:
                off = deviation(before[name], after[name], large)
                if off > EQUIVALENCE.inner_factor * tolerance(before[name]):
                    return name, node.name or node.op_type, off
    return None


def values_of(
    model: onnx.ModelProto, names: list[str], feeds: Mapping[str, Array], provider: ProviderChoice
) -> dict[str, Array]:
    """Return the values inside ``model`` of those ``names`` that are tensors.

    Raises
    ------
    OnnxMergeError: the model cannot be run.
    """
    session = Session(exposing(model, names), provider, optimisation="basic")
    wanted = set(names)
    return session.run(feeds, [o.name for o in session.outputs if o.name in wanted])


def coarsest(model: onnx.ModelProto) -> float:
    """Return the unit roundoff of the narrowest float type among the weights and casts of ``model``.

    A float32 output may have been computed in half precision.
    """
    kinds = {t.data_type for t in model.graph.initializer}
    kinds |= {a.i for n in model.graph.node if n.op_type == "Cast" for a in n.attribute if a.name == "to"}
    narrow = {onnx.TensorProto.FLOAT16: np.dtype(np.float16), onnx.TensorProto.BFLOAT16: BFLOAT16}
    return max((ROUNDING[narrow[kind]] for kind in kinds & narrow.keys()), default=0.0)


def perturbed(feeds: Mapping[str, Array], seed: int, rounding: float = 0.0) -> Iterator[dict[str, Array]]:
    """Yield copies of the inputs whose floats are perturbed by about one rounding error, and by ``rounding`` at
    least."""
    for k in range(3):
        rng = np.random.default_rng([seed, k])
        moved = dict(feeds)
        for name, array in feeds.items():
            if is_float(array) and array.size:
                off = 1 + max(ROUNDING.get(array.dtype, 0.0), rounding) * rng.choice(np.array([-1.0, 1.0]), array.shape)
                moved[name] = np.asarray(array.astype(np.float64) * off).astype(array.dtype)
        yield moved


def reweighted(model: onnx.ModelProto, seed: int, rounding: float = 0.0) -> Iterator[onnx.ModelProto]:
    """Yield copies of ``model`` whose layers' weights are perturbed as `perturbed` does with inputs; integers are kept.

    Weights that are cast or moved before a layer reads them are among them. Constants of other ops are kept: a
    threshold may be meant exactly.
    """
    held = {name for node in model.graph.node for k, name in enumerate(node.input) if is_weight(node, k)}
    for node in reversed(model.graph.node):
        if facts_of(node.domain, node.op_type).moves is not None and not held.isdisjoint(node.output):
            held.add(node.input[0])
    for k in range(2):
        rng = np.random.default_rng([seed, k])
        moved = onnx.ModelProto()
        moved.CopyFrom(model)
        for tensor in moved.graph.initializer:
            if tensor.name in held and is_float(array := array_of(tensor)):
                off = 1 + max(ROUNDING.get(array.dtype, 0.0), rounding) * rng.choice(np.array([-1.0, 1.0]), array.shape)
                other = np.asarray(array.astype(np.float64) * off).astype(array.dtype)
                tensor.CopyFrom(tensor_of(stored_array(other), tensor.name))
        yield moved
