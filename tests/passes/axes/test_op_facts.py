"""What each op states of its values and its function is true of it, by running it in the cases of its rule."""

from types import SimpleNamespace

import numpy as np
import pytest
from factkit import STATED, calls, each, having, read
from families import FIRING

from passes.axes.op_facts import ABSENT, Activation, Moves, OpFacts
from passes.axes.registry import every_fact, facts, facts_of, find_gradient, rules

GRID = np.linspace(-8, 8, 81)


def test_every_op_states_its_facts():
    """An op with a rule states facts, or that it has none; the registry refuses both twice."""
    assert rules().keys() <= every_fact().keys()
    with pytest.raises(ValueError, match="Relu has its facts twice"):
        facts("Relu", known=ABSENT)
    assert facts_of("ai.onnx", "Relu") is facts_of("", "Relu")
    assert facts_of("elsewhere", "Relu") is ABSENT


def test_absent_claims_nothing():
    assert not any(vars(ABSENT).values())
    assert OpFacts() == ABSENT


NOT_CLAIMED = {
    "range": "Acos Acosh Ceil Cosh GlobalLpPool GlobalMaxPool Hardmax LpPool Pow ReduceL1 ReduceL2 ReduceLogSumExp "
    "ReduceSumSquare ThresholdedRelu",
    "moves": "Resize TopK Upsample",
}
"""Ops that do not state what their outputs here would let one think: no analysis needs it, or it does not hold always.
The next op either states it or stands here."""


def test_facts_are_stated_or_declared_absent():
    never_negative, hands_on = {}, {}
    for case in FIRING:
        known = facts_of("", case.op)
        for call in calls(case):
            out, own = call.output, next(iter(call.inputs), np.zeros(0))
            floats = [v for v in call.inputs if v is not None and v.dtype.kind == out.dtype.kind == "f"]
            signs = bool(floats) and min(v.min() for v in floats) < 0 <= np.nanmin(out)
            moved = bool(floats) and out.dtype == own.dtype and np.isin(out, own).all()
            never_negative[case.op] = never_negative.get(case.op, known.range is None) and signs
            claims = known.moves or known.pool or known.convex_hull
            hands_on[case.op] = hands_on.get(case.op, not claims) and moved
    assert {op for op, silent in never_negative.items() if silent} == set(NOT_CLAIMED["range"].split())
    assert {op for op, silent in hands_on.items() if silent} == set(NOT_CLAIMED["moves"].split())


@having(lambda known: known.range is not None)
def test_range(case):
    for call, known in each(case):
        low, high = known.values(call.graph, call.node)
        for scale in (1, 10):
            values = {f"x{k}": call.inputs[k] * scale for k in call.data}
            out = call(**values)[call.node.outputs[0]]
            out = out[~np.isnan(out)]  # a root of negative numbers
            assert out.min() >= low
            assert out.max() <= high


@having(lambda known: known.keeps_sign)
def test_sign_is_kept(case):
    for call, known in each(case):
        held = [k for k in (range(len(call.inputs)) if known.joins else [0]) if call.inputs[k] is not None]
        assert call(**{f"x{k}": np.abs(call.inputs[k]) for k in held})[call.node.outputs[0]].min() >= 0


@having(lambda known: known.convex_hull)
def test_hull(case):
    for call, known in each(case):
        assert known.in_convex_hull(call.node)
        values = read(call, None if known.joins else [0])
        assert values.min() - 1e-6 <= call.output.min()
        assert call.output.max() <= values.max() + 1e-6


@having(lambda known: known.function and known.moves is not Moves.QUANTISED)  # those take other numbers
def test_function(case):
    for call, known in each(case):
        function = known.function.of(call.graph, call.node)
        if function is None:  # of two operands
            assert len(call.data) == 2
            continue
        found = function(GRID)
        np.testing.assert_allclose(found, call.at(GRID), rtol=1e-5, atol=1e-6)
        if known.function.monotone:
            assert (np.diff(found) >= 0).all()
            ends = function(np.array([-np.inf, np.inf]))
            assert ends[0] <= found[0]
            assert found[-1] <= ends[1]


@pytest.mark.parametrize(
    ("op", "attrs"), [("LeakyRelu", {"alpha": -0.5}), ("Elu", {"alpha": -1.0}), ("HardSigmoid", {"alpha": -1.0})]
)
def test_no_function_where_it_would_decrease(op, attrs):
    assert STATED[op].function.of(None, SimpleNamespace(attrs=attrs)) is None


@having(lambda known: known.pointwise)
def test_what_is_pointwise_is_a_function_of_each_value_and_has_a_gradient(case):
    for call, _ in each(case):
        assert not isinstance(find_gradient("", case.op), str)
        if len(call.data) == 1:
            k = call.data[0]
            bumped = call.inputs[k].copy()
            bumped[(0,) * bumped.ndim] += 0.5
            changed = call(**{f"x{k}": bumped})[call.node.outputs[0]] != call.output
            assert not changed.ravel()[1:].any() or call.output.size > bumped.size


@having(lambda known: known.activation)
def test_activation(case):
    for call, known in each(case):
        if len(call.data) == 1:
            low, high = call.at(np.array([-30.0, 30.0]))
            if known.activation is Activation.GATE:
                assert [low, high] == pytest.approx(known.range, abs=1e-4)
            else:
                assert abs(low) < abs(high)
                assert high == pytest.approx(30, rel=0.1)


@having(lambda known: known.decides)
def test_what_decides_has_a_step(case):
    """Somewhere, a hardly different input gives an output that is far off."""
    for call, _ in each(case):
        if call.data != [0] or call.inputs[0].dtype.kind != "f" or case.op in ("Cast", "CastLike", "MaxPool"):
            continue  # a Cast between floats has small steps; the places that MaxPool gives are no channels
        special = (np.nan, np.inf) if case.op.startswith("Is") else ()
        assert any(_steps(call, np.random.default_rng(seed), [-1, -0.5, 0, 0.5, 1, *special]) for seed in range(30))


def _steps(call, rng, special):
    """Whether an output changes by more than 0.3, or to NaN, when the input changes by at most 0.01, also about special
    values."""
    shape, dtype = call.inputs[0].shape, call.inputs[0].dtype
    x = np.where(rng.random(shape) < 0.5, rng.choice(special, shape), rng.normal(size=shape))
    near = np.nan_to_num(x + rng.uniform(-0.01, 0.01, shape), posinf=1.0)
    pairs = zip(call(x0=x.astype(dtype)).values(), call(x0=near.astype(dtype)).values(), strict=True)
    numbers = ([np.nan_to_num(v.astype(np.float64), nan=1e6) for v in pair] for pair in pairs)
    return any(np.abs(a - b).max() > 0.3 for a, b in numbers)
