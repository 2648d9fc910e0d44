"""How far values of the result are from the original's, and which tensor is the first that moved."""

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
from onnx_merge.runtime.session import BFLOAT16, ProviderChoice, Session
from passes.transforms.unshare_constants import is_weight

Array = NDArray[Any]
TOLERANCES = {
    np.dtype(np.float64): 1e-8,
    np.dtype(np.float32): 1e-5,
    np.dtype(np.float16): 1e-2,
    BFLOAT16: 1e-2,
}
"""Of the difference's norm, relative to the original's. Anything else has to be equal."""
CLEARLY = 3
"""Times the tolerance: inside a model, differences of near values may lose some digits."""
AT_ONCE = 48
"""Tensors inside a model that are looked at in one run: all of a large model's take much memory."""


ROUNDING = {np.dtype(np.float64): 1e-15, np.dtype(np.float32): 1e-7, np.dtype(np.float16): 1e-3, BFLOAT16: 8e-3}
"""Relative, of one number."""


def tolerance(expected: Array) -> float:
    """How far values of this type may be off; see `deviation`."""
    return TOLERANCES.get(expected.dtype, 0.0)


def deviation(expected: Array, actual: Array, large: bool = False) -> float:
    """|actual - expected| / |expected| of floats; of anything else, the share of elements that differ.

    Infinite where types, shapes or the places of NaN and infinities differ. ``large``: the inputs were far larger than
    a model's usually are. What overflows then does so anywhere, and is not compared.
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
    """The first tensor, in the order of computation, that both models have at one shape and that is off by more than a
    few times its tolerance, the node that makes it, and by how much; None if there is none, or it cannot be found.
    ``large``: see `deviation`.

    Tensors whose channels went, or whose name only one of the models has, are passed over.
    """
    made = {name for node in result.graph.node for name in node.output if name}
    common = [(n, node) for node in original.graph.node for n in node.output if n in made]
    for start in range(0, len(common), AT_ONCE):
        names = [name for name, _ in common[start : start + AT_ONCE]]
        try:
            before, after = (values_of(model, names, feeds, provider) for model in (original, result))
        except OnnxMergeError:
            return None
        for name, node in common[start : start + AT_ONCE]:
            if name in before and name in after and before[name].shape == after[name].shape:
                off = deviation(before[name], after[name], large)
                if off > CLEARLY * tolerance(before[name]):
                    return name, node.name or node.op_type, off
    return None


def values_of(
    model: onnx.ModelProto, names: list[str], feeds: Mapping[str, Array], provider: ProviderChoice
) -> dict[str, Array]:
    """Values inside ``model``: those of ``names`` that are tensors.

    Raises
    ------
    OnnxMergeError: the model cannot be run.
    """
    session = Session(exposing(model, names), provider, optimisation="basic")
    wanted = set(names)
    return session.run(feeds, [o.name for o in session.outputs if o.name in wanted])


def coarsest(model: onnx.ModelProto) -> float:
    """The rounding of the narrowest float that weights or casts of ``model`` have: float32 outputs may be computed
    in half precision."""
    kinds = {t.data_type for t in model.graph.initializer}
    kinds |= {a.i for n in model.graph.node if n.op_type == "Cast" for a in n.attribute if a.name == "to"}
    narrow = {onnx.TensorProto.FLOAT16: np.dtype(np.float16), onnx.TensorProto.BFLOAT16: BFLOAT16}
    return max((ROUNDING[narrow[kind]] for kind in kinds & narrow.keys()), default=0.0)


def perturbed(feeds: Mapping[str, Array], seed: int, rounding: float = 0.0) -> Iterator[dict[str, Array]]:
    """The same inputs, the floats off by about a rounding each, and by ``rounding`` at least."""
    for k in range(3):
        rng = np.random.default_rng([seed, k])
        moved = dict(feeds)
        for name, array in feeds.items():
            if is_float(array) and array.size:
                off = 1 + max(ROUNDING.get(array.dtype, 0.0), rounding) * rng.choice(np.array([-1.0, 1.0]), array.shape)
                moved[name] = np.asarray(array.astype(np.float64) * off).astype(array.dtype)
        yield moved


def reweighted(model: onnx.ModelProto, seed: int, rounding: float = 0.0) -> Iterator[onnx.ModelProto]:
    """Copies of ``model`` whose layers' weights are off as inputs are by `perturbed`: whole numbers are never off.

    Constants of other ops are left alone: what is compared with them may be meant exactly.
    """
    held = {name for node in model.graph.node for k, name in enumerate(node.input) if is_weight(node, k)}
    for k in range(2):
        rng = np.random.default_rng([seed, k])
        moved = onnx.ModelProto.FromString(model.SerializeToString())
        for tensor in moved.graph.initializer:
            if tensor.name in held and is_float(array := onnx.numpy_helper.to_array(tensor)):
                off = 1 + max(ROUNDING.get(array.dtype, 0.0), rounding) * rng.choice(np.array([-1.0, 1.0]), array.shape)
                other = np.asarray(array.astype(np.float64) * off).astype(array.dtype)
                tensor.CopyFrom(onnx.numpy_helper.from_array(other, tensor.name))
        yield moved
