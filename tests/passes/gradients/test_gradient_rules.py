"""Every op with an axis rule has a gradient, or says why not; gradients hold in the cases of the rules."""

import numpy as np
import pytest
from factkit import calls
from families import FIRING
from gradkit import SINGLE, assert_are_slopes, doubled, gradients, start
from onnx import ModelProto, numpy_helper

from passes.axes.registry import find_gradient, gradient, no_gradient, rules, zero_gradient
from passes.gradients.errors import NoGradientError

WITHOUT = {
    "gives no real numbers": "And ArgMax ArgMin BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Equal Greater "
    "GreaterOrEqual IsInf IsNaN Less LessOrEqual Not Or QuantizeLinear Xor",
    "gives no real numbers that depend on its input's": "ConstantOfShape Shape Size",
    "has no input": "Constant",
    "reads no real numbers but its scales": "DequantizeLinear",
    "reads computed places, and no rule gives its gradient": "DeformConv GridSample RoiAlign",
    "runs along time, and no rule gives its gradient": "GRU LSTM RNN",
}
"""The next op without a gradient says so in its file, and stands here."""
JUMPS = {
    "Floor", "Ceil", "Round", "Sign", "Hardmax", "Mod", "Shrink", "TopK", "ThresholdedRelu",
}  # fmt: skip
"""Whose values in the cases may lie near a step."""
SINGLE_PRECISION = {
    "Conv", "ConvTranspose", "Gelu", "Erf", "LRN", "GroupNormalization", "MeanVarianceNormalization", "Attention",
    "RotaryEmbedding", "GlobalLpPool",
}  # fmt: skip
"""Which neither onnxruntime nor the reference computes in float64."""
ABOVE_ZERO = {
    "Acos", "Asin", "Atanh", "Log", "Sqrt", "Pow", "LpPool", "ReduceLogSum",
}  # fmt: skip
ASKED = {"RotaryEmbedding": 1, "Attention": 3, "Clip": 1}
"""How many of the inputs have a gradient."""
FORMS_WITHOUT = ("batch_dims=1", 'reduction="m')
"""Forms of ops with a gradient that have none: GatherND in each sample, the largest, least or product of updates."""


def at(op, x):
    """Values where the op has a slope."""
    if op == "Acosh":
        return 1.5 + np.abs(x)
    return 0.1 + 0.8 * np.abs(np.tanh(x)) if op in ABOVE_ZERO else x


def test_every_op_has_a_gradient_or_says_why_not():
    found = {op: find_gradient(domain, op) for domain, op in rules()}
    missing = {op: why for op, why in found.items() if isinstance(why, str)}
    assert missing == {op: why for why, ops in WITHOUT.items() for op in ops.split()}


def test_ops_have_one_gradient():
    for register in (gradient("Relu"), lambda _: zero_gradient("Floor"), lambda _: no_gradient("LSTM", why="")):
        with pytest.raises(ValueError, match="has two gradients"):
            register(None)
    assert find_gradient("", "NoSuchOp") == find_gradient("elsewhere", "Relu") == "has no gradient rule"
    assert find_gradient("ai.onnx", "Relu") is find_gradient("", "Relu")


def bound(model, values, names):
    """The model with inputs other than ``names`` as constants."""
    copy = ModelProto.FromString(model.SerializeToString())
    kept = [v for v in copy.graph.input if v.name in names]
    del copy.graph.input[:]
    copy.graph.input.extend(kept)
    copy.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(v), n) for n, v in values.items() if v is not None and n not in names
    )
    return copy


HAVE = [case for case in FIRING if not isinstance(find_gradient("", case.op), str) and case.opset > 4]
REFUSED = [case for case in HAVE if any(form in case.nodes for form in FORMS_WITHOUT)]
CASES = [case for case in HAVE if case not in REFUSED]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.id)
def test_forms_without_a_gradient_say_so(case):
    (call,) = calls(case)
    values = dict(zip(call.node.inputs, call.inputs, strict=True))
    with pytest.raises(NoGradientError, match="has no gradient where it"):
        gradients(bound(call.model, values, ["a"]), ["a"], {"r": call.output}, {"a": values["a"]})


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_slopes_in_the_cases_of_the_rules(case):
    for call in calls(case):
        single = case.op in SINGLE_PRECISION
        kind = np.float32 if single else np.float64
        values = {n: v for n, v in zip(call.node.inputs, call.inputs, strict=True) if n}
        held = [call.node.inputs[k] for k in SINGLE.get(case.op, ()) if k < len(call.node.inputs)]
        wrt = [n for n, v in values.items() if v.dtype.kind == "f" and n not in held][: ASKED.get(case.op)]
        (y,) = call.node.outputs[:1]
        if call.output.dtype.kind != "f" or not wrt:
            continue  # a Cast from or to integers
        values = {n: v.astype(kind) if n in wrt else v for n, v in values.items()}
        values[wrt[0]] = at(case.op, values[wrt[0]]).astype(kind)
        model = bound(call.model, values, wrt)
        model = model if single else doubled(model)
        run = start(model)
        seed = np.random.default_rng(3).standard_normal(call.output.shape).astype(run(values)[y].dtype)
        found = gradients(model, wrt, {y: seed}, values)

        def value(given, run=run, seed=seed, y=y):
            return float(np.sum(run(given)[y].astype(np.float64) * seed))

        if case.op in JUMPS:
            assert all(np.isfinite(g).all() for g in found.values())
        else:
            assert_are_slopes(found, value, values, 1e-2 if single else 1e-5, 1e-2 if single else 1e-6)
