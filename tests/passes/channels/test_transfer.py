"""Which form a node gives to a channel's values, and that intervals hold what the network computes."""

import numpy as np
import pytest
from netkit import engine, net, session

from passes.axes.channel_groups import channel_groups
from passes.axes.inference import infer
from passes.axes.op_facts import Joins
from passes.channels.transfer import Filtered, Joined, Kept, Mapped, Scaled, ZeroKept, transfer
from passes.channels.value_bounds import channel_intervals, nonnegative_tensors
from passes.graph.model import Graph

WEIGHTS = {
    "w": (8, 3, 3, 3), "u": (8, 3, 3, 3), "v": (4, 8, 1, 1), "k": (8, 1, 1), "b": (8,), "k_scale": (8,), "m": (8,),
    "s_var": (8,), "one": np.array(1, np.float32), "d": (8, 1, 3, 3),
    "nought": np.array(0, np.float32), "wide": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
}  # fmt: skip


def network(nodes):
    text = f"""net (float[2,3,6,6] x, float[4] row) => (float[2,4,h,w] y) {{
        a = Conv(x, w)  c = Conv(x, u)  {nodes}  y = Conv(r, v)
    }}"""
    model = net(text, opset=24, ir_version=10, **WEIGHTS)
    typing = infer(Graph(model, engine=engine))
    (group,) = [g for g in channel_groups(typing) if g.size == 8 and any("r" in s.consumed for s in g.steps)]
    return model, typing, group


def form(nodes):
    """What the node that makes r does to the channel."""
    _, typing, group = network(nodes)
    step = next(s for s in group.steps if "r" in s.flow.record.node.outputs)
    return transfer(typing, group, step, len(step.through[0][0])), typing.graph


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ("r = Identity(a)", Kept([], padded=False)),
        ("r = MaxPool<kernel_shape=[2,2]>(a)", Kept([], padded=False)),
        ("r = AveragePool<kernel_shape=[2,2], pads=[1,1,1,1]>(a)", Kept([], padded=False)),
        ("r = AveragePool<kernel_shape=[2,2], pads=[1,1,1,1], count_include_pad=1>(a)", Kept([], padded=True)),
        ("r = GlobalAveragePool(a)", Kept([], padded=False)),
        ("r = Add(a, c)", Joined(Joins.SUM)),
        ("r = Mul(a, c)", Joined(Joins.PRODUCT)),
        ("r = Sub(a, c)", Joined(Joins.DIFFERENCE)),
        ("r = Div(a, k)", None),
        ("r = PRelu(a, k)", ZeroKept()),
        ("r = ReduceL2<axes=[2,3]>(a)", ZeroKept(by_place=False)),
        ("r = Mul(a, row)", ZeroKept(by_place=False)),
        ("r = Div(a, row)", ZeroKept(by_place=False)),
        ("r = Pad(a, wide, nought)", ZeroKept(by_place=False)),
        ("r = Pad(a, wide, one)", None),
        ("r = Div(row, a)", None),
        ("r = Add(a, row)", None),
        ("r = Sub(a, row)", None),
        ("r = ReduceLogSumExp<axes=[2,3]>(a)", None),
        ("r = Reciprocal(a)", None),
        ("r = Div(one, a)", None),
    ],
)
def test_forms(nodes, expected):
    assert form(nodes)[0] == expected


@pytest.mark.parametrize(
    ("nodes", "a", "t"),
    [
        ("r = Add(a, k)", 1, "k"),
        ("r = Add(k, a)", 1, "k"),
        ("r = Mul(a, k)", "k", 0),
        ("r = Sub(a, k)", 1, "-k"),
        ("r = Sub(k, a)", -1, "k"),
    ],
)
def test_one_constant_scales_or_shifts(nodes, a, t):
    found, graph = form(nodes)
    k = graph.array("k").ravel()
    expected = [np.broadcast_to({"k": k, "-k": -k}.get(value, value), 8) for value in (a, t)]
    assert isinstance(found, Scaled)
    assert not found.norm
    np.testing.assert_array_equal([found.a, found.t], expected)


@pytest.mark.parametrize(
    ("nodes", "a", "t"),
    [
        ("r = Add(a, number)", 1, 4),
        ("r = Sub(a, number)", 1, -4),
        ("r = Sub(number, a)", -1, 4),
        ("r = Mul(number, a)", 4, 0),
        ("r = Div(a, number)", 0.25, 0),
    ],
)
def test_one_number_scales_or_shifts(nodes, a, t):
    """A number that is computed of constants counts, too."""
    found, _ = form(f"two = Constant<value=float {{2}}>()  number = Mul(two, two)  {nodes}")
    np.testing.assert_array_equal([found.a, found.t], [np.full(8, a), np.full(8, t)])


def test_a_norm_scales():
    found, graph = form("r = BatchNormalization<epsilon=0.0>(a, k_scale, b, m, s_var)")
    scale, bias, mean, variance = (graph.array(name).astype(float) for name in ("k_scale", "b", "m", "s_var"))
    assert found.norm
    np.testing.assert_allclose(found.a, scale / np.sqrt(variance))
    np.testing.assert_allclose(found.t, bias - mean * scale / np.sqrt(variance))


@pytest.mark.parametrize(
    ("nodes", "bias"),
    [
        ("r = InstanceNormalization(a, k_scale, b)", "b"),
        ("r = Conv<group=8>(a, d, b)", "b"),
        ("r = Conv<group=8>(a, d)", None),
    ],
)
def test_filters_of_one_channel(nodes, bias):
    found, graph = form(nodes)
    assert isinstance(found, Filtered) and not found.empty.any()
    np.testing.assert_array_equal(found.t, graph.array(bias) if bias else np.zeros(8))


@pytest.mark.parametrize(("op", "monotone"), [("Relu", True), ("Sigmoid", True), ("HardSwish", False), ("Abs", False)])
def test_functions(op, monotone):
    found, _ = form(f"r = {op}(a)")
    assert isinstance(found, Mapped)
    assert found.monotone is monotone


def test_swish_has_its_own_slope():
    found, _ = form("r = Swish<alpha=2.0>(a)")
    x = np.array([-1.0, 0.5])
    np.testing.assert_allclose(found.function(x), x / (1 + np.exp(-2 * x)))


@pytest.mark.parametrize(
    "nodes",
    [
        "p = Sigmoid(a)  q = Mul(p, k)  r = Relu(q)",
        "p = Relu(a)  q = Clip(c, one)  s = Add(p, q)  r = AveragePool<kernel_shape=[2,2], pads=[1,1,1,1]>(s)",
        "p = HardSigmoid(a)  q = BatchNormalization(p, k_scale, b, m, s_var)  r = MaxPool<kernel_shape=[2,2]>(q)",
        "p = Tanh(a)  q = Add(p, k)  t = Elu(c)  r = Add(q, t)",
        "p = Relu(a)  q = Tanh(c)  s = Sub(p, q)  t = Sub(k, s)  r = Relu(t)",
        "p = Sigmoid(a)  q = Tanh(c)  r = Sub(q, p)",
    ],
)
def test_intervals_hold(nodes):
    """Every value of a channel lies in its interval, in each tensor that carries it; some intervals are bounded."""
    model, typing, group = network(nodes)
    at = channel_intervals(typing, group, nonnegative_tensors(typing.graph), {})
    made = [n for node in model.graph.node for n in node.output if n in at]
    del model.graph.output[:]
    model.graph.output.extend(type(model.graph.input[0])(name=n) for n in made)
    x = np.random.default_rng(0).normal(0, 10, (2, 3, 6, 6)).astype(np.float32)
    bounded = False
    for name, value in zip(made, session(model).run(None, {"x": x, "row": np.ones(4, np.float32)}), strict=True):
        rows = np.moveaxis(value, 1, 0).reshape(8, -1)
        assert (rows.min(1) >= at[name].low - 1e-5).all()
        assert (rows.max(1) <= at[name].high + 1e-5).all()
        bounded |= bool(np.isfinite([at[name].low, at[name].high]).any())
    assert bounded
