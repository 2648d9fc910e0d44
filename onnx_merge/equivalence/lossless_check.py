"""Checks, before anything is written, that a result of a lossless run computes what the original computes.

``--lossless`` and ``--keep 1`` promise equal outputs for every input. Samples cannot prove that, but an error shows on
random inputs of several scales: near zero, usual, and very large, where thresholds and saturation matter.

Where outputs differ by more than the tolerance, three causes are no fault of the result. The model draws random
numbers. The model is ill-conditioned: its own outputs change as much when its inputs are rounded differently. A
discrete op decides between nearly equal values (see `onnx_merge.equivalence.comparison_flips`). These causes are
examined only if outputs differ.
"""

from __future__ import annotations

import contextlib
import itertools
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_merge.equivalence.comparison_flips import only_decisions
from onnx_merge.equivalence.deviation import coarsest, deviation, first_moved, perturbed, reweighted, tolerance
from onnx_merge.equivalence.interface import inputs_with_default
from onnx_merge.equivalence.structure import is_float, place
from onnx_merge.errors import OnnxMergeError, StructureError
from onnx_merge.inputs.assignments import Assignments
from onnx_merge.inputs.dimensions import Assignment
from onnx_merge.inputs.feeds import feeds_at, index_bounds
from onnx_merge.runtime.providers import CPU, ProviderChoice
from onnx_merge.runtime.session import Session, loaded
from onnx_merge.runtime.tensor_info import TensorInfo
from onnx_merge.tuning.checks import EQUIVALENCE
from passes.weights.stored_tensors import array_of

Array = NDArray[Any]
RANDOM = "outputs were not compared exactly: the original gives others each time it is run"


@dataclass(frozen=True, eq=False)
class Draw:
    """One batch of inputs. ``scale``: factor on the floats, and upper limit of integers whose range is unknown."""

    feeds: dict[str, Array]
    scale: float
    assignment: Assignment

    def __str__(self) -> str:
        return f"{place(self.assignment)}, inputs times {self.scale:g}"


def check_unchanged(
    original: onnx.ModelProto,
    result: onnx.ModelProto,
    assignments: Assignments,
    provider: ProviderChoice = CPU,
    *,
    seed: int = 0,
) -> list[str]:
    """Check that ``result`` gives the outputs of ``original``, to `onnx_merge.equivalence.deviation.TOLERANCES`.

    Both run on ``provider``, optimised alike and little, so that they use the same kernels.

    Returns
    -------
    What could not be checked, and why.

    Raises
    ------
    StructureError: something moved; the message names the first tensor that did.
    """
    if original == result:
        return []
    try:
        before = Session(original, provider, optimisation="basic")
        inputs = before.inputs
    except OnnxMergeError as error:
        return [f"outputs were not compared exactly: {error}"]
    after = Session(result, provider, optimisation="basic")
    compared = 0
    usual = draws(inputs, assignments, index_bounds(original), seed)
    for draw in itertools.chain(usual, _overriding(original, inputs, assignments, seed)):
        try:
            expected = before.run(draw.feeds)
        except OnnxMergeError:  # the models cannot be run this way
            continue
        try:
            actual = after.run(draw.feeds)
        except OnnxMergeError as error:
            raise StructureError(f"the result does not run at {draw}, where the original does: {error}") from error
        compared += 1
        moved = _deviating_outputs({n: (v, actual[n]) for n, v in expected.items()}, draw)
        if not moved:
            continue
        if any(deviation(v, w) > tolerance(v) for v, w in _pairs(expected, before.run(draw.feeds))):
            return [RANDOM]
        if _rounding(original, before, expected, actual, moved, draw, provider):
            continue
        decided = only_decisions(original, result, draw.feeds, provider, draw.scale > 1)
        if decided is not None and not _deviating_outputs(decided, draw):
            continue
        raise StructureError(_message(original, result, moved, draw, provider))
    return (
        [] if compared else [f"outputs were not compared exactly: {assignments.problem or 'the original does not run'}"]
    )


def draws(
    inputs: tuple[TensorInfo, ...], assignments: Assignments, bounds: Mapping[str, int], seed: int
) -> Iterator[Draw]:
    """Yield inputs at every assignment and scale; large inputs at some scales only."""
    counts = [sum(int(np.prod(shape)) for shape in a.values()) for a in assignments.found]
    for place_, (assignment, count) in enumerate(zip(assignments.found, counts, strict=True)):
        whole = count <= EQUIVALENCE.small_input or count == min(counts)
        for number, scale in enumerate(EQUIVALENCE.scales):
            if whole or number == place_ % len(EQUIVALENCE.scales):
                wide = {i.name: int(scale) for i in inputs if i.dtype.kind in "iu" and scale > 1}
                own = seed + len(EQUIVALENCE.scales) * place_ + number
                yield Draw(feeds_at(inputs, assignment, own, {**wide, **bounds}, scale), scale, assignment)


def _overriding(
    original: onnx.ModelProto, inputs: tuple[TensorInfo, ...], assignments: Assignments, seed: int
) -> Iterator[Draw]:
    """Yield a draw in which inputs with a float default get other values, if there are any."""
    names = {v.name for v in inputs_with_default(original)}
    others: dict[str, Array] = {}
    for tensor in original.graph.initializer:
        array = array_of(tensor) if tensor.name in names else None
        if array is not None and is_float(array):
            rng = np.random.default_rng([seed, zlib.crc32(tensor.name.encode())])
            others[tensor.name] = np.asarray(array * (1 + rng.random(array.shape)) + 0.25).astype(array.dtype)
    for assignment in assignments.found[:1] if others else ():
        feeds = feeds_at(inputs, assignment, seed, index_bounds(original))
        yield Draw({**feeds, **others}, 1.0, assignment)


def _pairs(first: Mapping[str, Array], second: Mapping[str, Array]) -> Iterator[tuple[Array, Array]]:
    return ((value, second[name]) for name, value in first.items())


def _deviating_outputs(values: Mapping[str, tuple[Array, Array]], draw: Draw) -> dict[str, float]:
    """Return the outputs that deviate by more than their tolerance, and by how much."""
    found = {n: (tolerance(a), deviation(a, b, draw.scale > 1)) for n, (a, b) in values.items()}
    return {name: off for name, (limit, off) in found.items() if not off <= limit}


def _rounding(
    original: onnx.ModelProto,
    before: Session,
    expected: Mapping[str, Array],
    actual: Mapping[str, Array],
    moved: Mapping[str, float],
    draw: Draw,
    provider: ProviderChoice,
) -> bool:
    """Whether the original's own outputs change as much when its computation is rounded differently.

    The inputs are perturbed by 1e-7 of their values, or by 1e-3 where the model computes in half precision. Operators
    are fused, which changes their order of summation. The layers' weights are perturbed as well, which also affects
    what is computed from integers. The tolerance becomes twice the largest change, because five draws are few. Outputs
    that are not floats are never excused this way. If a rounding makes elements of the original NaN or infinite that
    were finite, or the other way round, only elements that are finite in both models are compared.
    """
    if not all(is_float(expected[name]) for name in moved):
        return False
    noise, moved = dict.fromkeys(moved, 0.0), dict(moved)
    with contextlib.suppress(OnnxMergeError):
        for other in _otherwise(original, before, draw, len(moved), provider):
            for name in moved:
                change = deviation(expected[name], other[name], draw.scale > 1)
                if np.isfinite(change):
                    noise[name] = max(noise[name], change)
                elif not np.isfinite(moved[name]) and expected[name].shape == actual[name].shape:
                    moved[name] = _where_finite(expected[name], actual[name])
            if all(off <= max(2 * noise[name], tolerance(expected[name])) for name, off in moved.items()):
                return True
    return False


def _where_finite(expected: Array, actual: Array) -> float:
    """Return the deviation over the elements that are finite in both; infinite if there are none."""
    finite = np.isfinite(expected) & np.isfinite(actual)
    return deviation(expected[finite], actual[finite]) if finite.any() else float("inf")


def _otherwise(
    original: onnx.ModelProto, before: Session, draw: Draw, seed: int, provider: ProviderChoice
) -> Iterator[dict[str, Array]]:
    """Yield outputs of the original under different roundings."""
    rounding = coarsest(original)
    for feeds in perturbed(draw.feeds, seed, rounding):
        yield before.run(feeds)
    yield loaded(original, provider).run(draw.feeds)
    for model in reweighted(original, seed, rounding):
        yield Session(model, provider, optimisation="basic").run(draw.feeds)


def _message(
    original: onnx.ModelProto,
    result: onnx.ModelProto,
    moved: Mapping[str, float],
    draw: Draw,
    provider: ProviderChoice,
) -> str:
    worst = max(moved, key=lambda name: moved[name])
    first = first_moved(original, result, draw.feeds, provider, draw.scale > 1)
    tensor, node, off = first or (worst, "", moved[worst])
    location = f"tensor {tensor!r}{f' of {node}' if node else ''} is the first that moved, by {off:.1e} of its norm"
    where = f"(output {worst!r}: {moved[worst]:.1e}) at {draw}"
    return f"the result does not compute what the original does: {location} {where}; --exclude leaves layers whole"
