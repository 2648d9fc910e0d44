"""Which two layers are a pair, and which ops between them prevent that."""

import numpy as np
import pytest
from netkit import net
from unitkit import units

from passes.layer_pairs.differentiable_ops import Flatten, Pointwise, Pooling

SIZES = dict(a_w=(5, 3, 3, 3), a_b=(5,), y_w=(2, 5, 3, 3), y_b=(2,))
FIRST = "a = Conv<pads=[1,1,1,1]>(x, a_w, a_b)"
OPEN = (0.0, np.inf)
SECOND = "y = Conv<pads=[1,1,1,1]>(z, y_w, y_b)"


def conv_net(nodes, x="float[N,3,8,8]", y="float[N,2,P,Q] y", first=FIRST, second=SECOND, opset=17, **weights):
    """Two convolutions with ``nodes`` between."""
    return net(f"net ({x} x) => ({y}) {{ {first} {nodes} {second} }}", opset=opset, **{**SIZES, **weights})


def stages(model):
    (unit,) = units(model).values()
    return [type(s) for s in unit.stages]


def test_stages_between():
    assert stages(conv_net("z = Identity(a)")) == [Pointwise]
    assert stages(conv_net("", second=SECOND.replace("z", "a"))) == []
    pool = "p = MaxPool<kernel_shape=[2,2],strides=[2,2]>(r)"
    assert stages(conv_net(f"s = Sigmoid(a) r = Mul(a, s) {pool} z = Relu(p)")) == [Pointwise, Pooling, Pointwise]
    head = dict(y="float[N,2] y", second="y = Gemm<transB=1>(z, y_w, y_b)")
    assert stages(conv_net(f"r = Relu(a) {pool} z = Flatten(p)", y_w=(2, 80), **head)) == [Pointwise, Pooling, Flatten]


def test_constants_keep_the_channels_that_stay():
    slope = np.arange(5, dtype=np.float32).reshape(5, 1, 1)
    (unit,) = units(conv_net("z = PRelu(a, s)", s=slope), kept=np.array([1, 4])).values()
    np.testing.assert_array_equal(unit.stages[0].constants["s"], slope[[1, 4]])


def test_a_chain_has_a_unit_for_each_pair():
    body = f"{FIRST} r = Relu(a) b = Conv(r, b_w, b_b) z = Relu(b) {SECOND}"
    model = net(f"net (float[N,3,8,8] x) => (float[N,2,8,8] y) {{ {body} }}", **SIZES, b_w=(5, 5, 1, 1), b_b=(5,))
    (one,), (two,) = units(model, "a").items(), units(model, "b").items()
    assert (one[0], one[1].first.node.label) == ("b", "a") and (two[0], two[1].first.node.label) == ("y", "b")


@pytest.mark.parametrize(
    "tail, result, bounds",
    [
        ("", "y", None),
        ("q = Relu(y)", "q", OPEN),
        ("q = Relu(y)", "q, float[N,2,P,Q] y", None),
        ("r = Relu(y) s = Relu(y) q = Add(r, s)", "q", OPEN),
        ("s = Sigmoid(y) r = Relu(y) q = Mul(s, r)", "q", None),
        ("q = LeakyRelu(y)", "q", None),
        ("q = Sigmoid(y)", "q", None),
        ("t = Add(y, o) q = Relu(t)", "q", OPEN),
        ("t = Sum(o, y, o) q = Relu(t)", "q", OPEN),
        ("t = Add(y, o) r = Relu(t) q = Add(t, r)", "q", None),
        ("t = Add(y, o) q = Relu(t)", "q, float[N,2,P,Q] t", None),
        ("t = Mul(y, o) q = Relu(t)", "q", None),
        ("r = Relu(y) t = Add(y, o) q = Add(r, t)", "q", None),
        ("q = Clip(y, zero, six)", "q", (0.0, 6.0)),
        ("t = Add(y, o) q = Clip(t, zero, six)", "q", (0.0, 6.0)),
        ("q = Clip(y, zero)", "q", OPEN),
        ("q = Clip(y, , six)", "q", (-np.inf, 6.0)),
        ("q = Clip(y)", "q", None),
        ("q = Clip(y, six, zero)", "q", None),
        ("r = Relu(y) s = Clip(y, zero, six) q = Add(r, s)", "q", None),
        ("m = ReduceMax<keepdims=0>(o) q = Clip(y, zero, m)", "q", None),
        ("m = ReduceMax<keepdims=0>(y) q = Clip(y, zero, m)", "q", None),
    ],
)
def test_the_bounds_of_what_alone_reads(tail, result, bounds):
    model = conv_net(
        "z = Relu(a)",
        "float[N,2,8,8] o, float[N,3,8,8]",
        f"float[N,2,P,Q] {result}",
        second=f"{SECOND} {tail}",
        zero=np.array(0, np.float32),
        six=np.array(6, np.float32),
    )
    assert units(model)["y"].bounds == bounds


def test_the_bounds_of_a_clip_that_has_them_as_attributes():
    model = conv_net("z = Relu(a)", y="float[N,2,P,Q] q", second=f"{SECOND} q = Clip<min=0.0,max=6.0>(y)", opset=10)
    assert units(model)["y"].bounds == (0.0, 6.0)


def test_no_bounds_where_a_body_reads_too():
    """What a control-flow body reads counts as more than the Relu."""
    inner = "then () => (float[N,2,P,Q] m) { m = Neg(y) }", "other () => (float[N,2,P,Q] n) { n = Exp(y) }"
    branch = f"w = If (c) <then_branch = {inner[0]}, else_branch = {inner[1]}> q = Relu(y)"
    model = conv_net(
        "z = Relu(a)", "bool c, float[N,3,8,8]", "float[N,2,P,Q] q, float[N,2,P,Q] w", second=f"{SECOND} {branch}"
    )
    assert units(model)["y"].bounds is None


POOL = "MaxPool<kernel_shape=[2,2],strides=[2,2]>"
REFUSED = {
    "read-twice": conv_net("z = Relu(a) q = Exp(a)", y="float[N,2,P,Q] y, float[N,5,P,Q] q"),
    "read-twice-by-layers": conv_net(
        "z = Relu(a) q = Conv(z, q_w)", y="float[N,2,P,Q] y, float[N,4,P,Q] q", q_w=(4, 5, 1, 1)
    ),
    "graph-output": conv_net("z = Relu(a)", y="float[N,2,P,Q] y, float[N,5,P,Q] a"),
    "stage-is-graph-output": conv_net("z = Relu(a)", y="float[N,2,P,Q] y, float[N,5,P,Q] z"),
    "grouped": conv_net(
        "r = Relu(a) z = Conv<group=2>(r, g_w)", a_w=(6, 3, 3, 3), a_b=(6,), g_w=(6, 3, 1, 1), y_w=(2, 6, 3, 3)
    ),
    "grouped-second": conv_net(
        "z = Relu(a)", first="a = Conv<pads=[1,1,1,1]>(x, a_w)", second="y = Conv<group=2>(z, y_w)",
        a_w=(6, 3, 3, 3), y_w=(4, 3, 1, 1),
    ),
    "depthwise-of-dynamic-size": conv_net(
        "r = Relu(a) z = Conv<group=5,pads=[1,1,1,1]>(r, g_w)", "float[N,3,H,W]", g_w=(5, 1, 3, 3)
    ),
    "multiplying": conv_net("r = Relu(a) z = Conv<group=5>(r, g_w)", g_w=(10, 1, 1, 1), y_w=(2, 10, 3, 3)),
    "filtered-by-the-data": conv_net(
        "r = Relu(a) z = Conv<group=5>(r, g_w)", "float[5,1,1,1] g_w, float[N,3,8,8]"
    ),
    "overlapping-pool": conv_net("r = Relu(a) z = MaxPool<kernel_shape=[3,3],strides=[2,2],pads=[1,1,1,1]>(r)"),
    "pool-of-stride-one": conv_net("r = Relu(a) z = MaxPool<kernel_shape=[2,2]>(r)"),
    "padded-pool": conv_net("r = Relu(a) z = AveragePool<kernel_shape=[2,2],strides=[2,2],pads=[1,1,1,1]>(r)"),
    "pool-that-leaves-some-out": conv_net("r = Relu(a) z = MaxPool<kernel_shape=[3,3],strides=[3,3]>(r)"),
    "pool-with-places": conv_net(
        f"r = Relu(a) z, places = {POOL}(r)", y="float[N,2,P,Q] y, int64[N,5,P,Q] places"
    ),
    "two-layers-in-an-add": conv_net(
        "b = Conv<pads=[1,1,1,1]>(x, b_w) s = Add(a, b) z = Relu(s)", b_w=(5, 3, 3, 3)
    ),
    "scaled-by-the-data": conv_net(
        "g = GlobalAveragePool(a) e = Sigmoid(g) z = Mul(a, e)"
    ),
    "scaled-by-other-data": conv_net("z = Mul(a, m)", "float[N,1,1,1] m, float[N,3,8,8]"),
    "softmax": conv_net("z = Softmax<axis=1>(a)"),
    "transposed": conv_net("r = Relu(a) z = Transpose<perm=[0,1,3,2]>(r)"),
    "half": conv_net(
        "z = Relu(a)", "float16[N,3,8,8]", "float16[N,2,P,Q] y",
        **{n: np.ones(s, np.float16) for n, s in SIZES.items()},
    ),
    "dynamic-pool": conv_net(f"r = Relu(a) z = {POOL}(r)", "float[N,3,H,W]"),
    "dynamic-global-pool": conv_net("r = Relu(a) z = GlobalAveragePool(r)", "float[N,3,H,W]"),
    "spread-by-a-constant": conv_net("g = GlobalAveragePool(a) z = Add(g, place)", place=(1, 5, 4, 4)),
    "mean-of-as-many-rows-as-channels": net(
        "net (float[N,5,4] x) => (float[N,3] y) { a = MatMul(x, a_w) r = Relu(a)"
        " z = ReduceMean<axes=[1],keepdims=0>(r) y = Gemm(z, y_w, y_b) }",
        a_w=(4, 5), y_w=(5, 3), y_b=(3,),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_no_unit(name):
    assert not units(REFUSED[name])


def test_a_dynamic_size_is_no_matter_without_pools():
    assert len(units(conv_net("z = Relu(a)", "float[N,3,H,W]"))) == 1


def test_groups_that_stay_whole_have_no_unit():
    assert not units(conv_net("z = Relu(a)"), kept=None)
