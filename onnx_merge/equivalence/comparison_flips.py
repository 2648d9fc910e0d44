"""Accepts different outcomes of discrete ops (ArgMax, Greater, ...) that rounding errors alone explain.

Two models that are equal up to rounding may still differ by a whole number. ArgMax picks the other of two equal scores;
Greater separates 0.49999999 from 0.5. This module proves, op by op, that rounding is the only cause. It visits the
discrete ops whose outcomes differ in the order of computation and runs each one on the inputs that it has in the
*result*. Rounding is the cause if these inputs agree with the original's within the tolerance, and if the op computes
from them exactly the outcome of the result. The original is then rerun with that outcome in place of its own, and
everything after the op has to agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx.helper
from numpy.typing import NDArray

from onnx_merge.equivalence.deviation import deviation, tolerance, values_of
from onnx_merge.equivalence.structure import is_float
from onnx_merge.errors import OnnxMergeError
from onnx_merge.runtime.providers import ProviderChoice
from onnx_merge.runtime.session import Session
from onnx_merge.tuning.checks import EQUIVALENCE
from passes.axes.registry import facts_of
from passes.weights.stored_tensors import array_of

Array = NDArray[Any]


def only_decisions(
    original: onnx.ModelProto,
    result: onnx.ModelProto,
    feeds: Mapping[str, Array],
    provider: ProviderChoice,
    large: bool = False,
) -> dict[str, tuple[Array, Array]] | None:
    """Return each output by name as (of the original with the outcomes of ``result``, of the result), where comparable.

    None if no outcome differs, or if rounding does not explain one that does. ``large``: see `deviation`. If a
    discrete op of the original reads values that overflowed, nothing is compared: infinity times the weights of a dead
    channel is NaN.
    """
    made = {name for node in result.graph.node for name in node.output if name}
    nodes = (n for n in original.graph.node if facts_of(n.domain, n.op_type).decides)
    deciding = [n for n in nodes if all(o in made for o in n.output if o)]
    if not deciding:
        return None
    known = {t.name: t for t in original.graph.initializer}
    own = {"", *known, *feeds}
    names = list(dict.fromkeys(n for node in deciding for n in (*node.input, *node.output) if n not in own))
    outputs = [v.name for v in original.graph.output]
    try:
        after = values_of(result, [n for n in names if n in made] + outputs, feeds, provider)
        decided: dict[str, Array] = {}
        for _ in range(EQUIVALENCE.flips):
            before = values_of(*_deciding_as(original, decided, [*names, *outputs], feeds), provider)
            if large and any(_swallows_overflow(node, before) for node in deciding):
                return {}
            flipped = _first_flip(deciding, decided, before, after)
            if flipped is None:
                compared = {n: (before[n], after[n]) for n in outputs if n in before and n in after}
                return {**compared, **{n: (v, v) for n, v in decided.items() if n in outputs}} if decided else None
            inputs = _agreeing(flipped, known, feeds, before, after, large)
            if inputs is None:
                return None
            outcome = _alone(flipped, original, inputs, provider)
            if any(deviation(outcome[n], after[n]) > 0 for n in flipped.output if n):
                return None
            decided |= {n: after[n] for n in flipped.output if n}
    except (OnnxMergeError, KeyError):  # a model that cannot be inspected proves nothing
        return None
    return None


def _swallows_overflow(node: onnx.NodeProto, values: Mapping[str, Array]) -> bool:
    """Whether ``node`` reads values that are not finite and its outputs are finite or not floats."""

    def overflows(name: str) -> bool:
        value = values.get(name)
        return value is not None and is_float(value) and not bool(np.isfinite(value).all())

    return any(map(overflows, node.input)) and not any(map(overflows, node.output))


def _first_flip(
    deciding: list[onnx.NodeProto],
    decided: Mapping[str, Array],
    before: Mapping[str, Array],
    after: Mapping[str, Array],
) -> onnx.NodeProto | None:
    """Return the first op whose outcome differs. Tensors that lost channels are skipped; later ops cover them."""

    def differs(name: str) -> bool:
        a, b = before[name], after[name]
        return a.shape == b.shape and deviation(a, b) > tolerance(a)

    left = ([n for n in node.output if n and n not in decided] for node in deciding)
    return next((node for node, names in zip(deciding, left, strict=True) if any(map(differs, names))), None)


def _agreeing(
    node: onnx.NodeProto,
    known: Mapping[str, onnx.TensorProto],
    feeds: Mapping[str, Array],
    before: Mapping[str, Array],
    after: Mapping[str, Array],
    large: bool,
) -> dict[str, Array] | None:
    """Return the inputs of ``node`` in the result, if they match the original's within the tolerance.

    They have to match as a whole and element by element; otherwise None.
    """
    inputs: dict[str, Array] = {}
    for name in filter(None, node.input):
        if name in feeds:  # even if it is an initializer: defaults may be overridden
            inputs[name] = feeds[name]
            continue
        if name in known:
            inputs[name] = array_of(known[name])
            continue
        a, b = before[name], after[name]
        if deviation(a, b, large) > tolerance(a):
            return None
        if is_float(a) and a.size:
            finite = np.isfinite(a) & np.isfinite(b)  # both are finite at the same places, or overflow is ignored
            x, y = a[finite].astype(np.float64), b[finite].astype(np.float64)
            if x.size and np.abs(x - y).max() > tolerance(a) * np.abs(x).max():
                return None
        inputs[name] = b
    return inputs


def _alone(
    node: onnx.NodeProto, original: onnx.ModelProto, inputs: Mapping[str, Array], provider: ProviderChoice
) -> dict[str, Array]:
    """Run ``node`` alone on ``inputs`` and return its outputs."""
    infos = [
        onnx.helper.make_tensor_value_info(n, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in inputs.items()
    ]
    graph = onnx.helper.make_graph([node], "decision", infos, [onnx.ValueInfoProto(name=n) for n in node.output if n])
    model = onnx.helper.make_model(graph, opset_imports=original.opset_import, ir_version=original.ir_version)
    return Session(model, provider, optimisation="basic").run(inputs)


def _deciding_as(
    original: onnx.ModelProto, decided: Mapping[str, Array], names: list[str], feeds: Mapping[str, Array]
) -> tuple[onnx.ModelProto, list[str], dict[str, Array]]:
    """Return the original with the tensors ``decided`` as inputs, those of ``names`` it still computes, and its
    feeds."""
    names = [n for n in dict.fromkeys(names) if n not in decided]
    if not decided:
        return original, names, dict(feeds)
    model = onnx.ModelProto()
    model.CopyFrom(original)
    graph = model.graph
    for node in graph.node:
        for k, name in enumerate(node.output):
            if name in decided:
                node.output[k] = f"{name}/undecided"
    kept = [v for v in graph.output if v.name not in decided]
    del graph.output[:]
    graph.output.extend(kept)
    for name, array in decided.items():
        kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        graph.input.append(onnx.helper.make_tensor_value_info(name, kind, array.shape))
    stale = [k for k, v in enumerate(graph.value_info) if v.name in decided]
    for k in reversed(stale):
        del graph.value_info[k]
    return model, names, {**feeds, **decided}
