"""Means over the channels of pooled values become layers, those of products sums, and only these."""

import numpy as np
import pytest
from netkit import compressed, difference, engine, ints, net, observer, twin_check
from onnx.numpy_helper import from_array, to_array
from unitkit import Quiet

from passes.analysis.analyse import analyse
from passes.graph.model import Graph
from passes.transforms.channel_means import means_to_layers, means_to_sums

LAST = """net (float[N,6,5,3] x) => (float[N,6,5,4] y) {
    a = MatMul(x, a_w)  s = Add(a, a_b)  h = Relu(s)  p = ReduceL2<axes=[1,2]>(h)  m = ReduceMean<axes=[-1]>(p)
    e = Add(m, eps)  d = Div(p, e)  g = Mul(h, d)  t = Mul(g, gain)  b = Add(t, shift)  r = Add(b, h)
    y = MatMul(r, y_w)
}"""
"""Global response normalisation with the channels last, as in ConvNeXt V2."""
FIRST = """net (float[N,3,6,5] x) => (float[N,4,6,5] y) {
    a = Conv(x, a_w, a_b)  h = Relu(a)  p = ReduceL2(h, at)  m = ReduceMean(p, one)
    e = Add(m, eps)  d = Div(p, e)  g = Mul(h, d)  t = Mul(g, gain)  b = Add(t, shift)  r = Add(b, h)  y = Conv(r, y_w)
}"""
EPSILON = np.array(1e-6, np.float32)


def response(kind):
    if kind == "last":
        return net(LAST, a_w=(3, 16), a_b=(16,), eps=EPSILON, gain=(16,), shift=(16,), y_w=(16, 4))
    axes = {"at": ints(2, 3), "one": ints(1), "gain": (16, 1, 1), "shift": (16, 1, 1)}
    return net(FIRST, opset=18, a_w=(16, 3, 1, 1), a_b=(16,), eps=EPSILON, y_w=(4, 16, 1, 1), **axes)


@pytest.mark.parametrize("kind", ["last", "first"])
@pytest.mark.parametrize("method", ["prune", "merge"])
def test_the_hidden_layer_of_a_global_response_normalisation_shrinks(kind, method):
    model = response(kind)
    result = compressed(model, keep=0.5, method=method)
    (plan,) = [p for p in result.plans if p.group.name == "a"]
    assert len(plan.keep) == 8
    twin_check(model, keep=0.5, method=method)
    assert [n.op_type for n in result.model.graph.node if n.output[0] == "m"] == [
        "MatMul" if kind == "last" else "Conv"
    ]


@pytest.mark.parametrize("kind", ["last", "first"])
def test_channels_that_are_zero_go_without_a_trace(kind):
    """The mean is still that of all channels."""
    model = response(kind)
    for tensor in model.graph.initializer:
        if tensor.name in ("a_w", "a_b", "shift"):
            values = to_array(tensor).copy()
            (values.T if (tensor.name, kind) == ("a_w", "last") else values)[4:9] = 0.0
            tensor.CopyFrom(from_array(values, tensor.name))
    result = compressed(model, lossless=True)
    assert next(len(p.keep) for p in result.plans if p.group.name == "a") == 11
    assert difference(model, result.model) < 1e-6


LEFT = {
    "a LayerNorm of pooled values": """p = ReduceMean<axes=[1,2]>(h)  m = ReduceMean<axes=[3]>(p)  c = Sub(p, m)
        y = Add(c, eps)""",
    "a mean at every place": "m = ReduceMean<axes=[3]>(h)  y = Add(m, eps)",
    "an RMS norm of the values": "q = Mul(h, h)  m = ReduceMean<axes=[3]>(q)  y = Add(m, eps)",
    "a mean that drops the axis": "p = ReduceMean<axes=[1,2]>(h)  y = ReduceMean<axes=[3], keepdims=0>(p)",
    "a mean over samples": "p = ReduceMean<axes=[1,2]>(h)  y = ReduceMean<axes=[0]>(p)",
    "the largest": "p = ReduceMean<axes=[1,2]>(h)  y = ReduceMax<axes=[3]>(p)",
    "places of one": "y = ReduceMean<axes=[2]>(w)",
}


@pytest.mark.parametrize("kind", LEFT)
def test_other_reductions_stay(kind):
    body = f"net (float[N,6,5,8] h, float[N,1,1] w) => (float[] y) {{ {LEFT[kind]} }}"
    graph = Graph(net(body, eps=EPSILON))
    assert means_to_layers(graph) is graph.model


@pytest.mark.parametrize(("of", "to"), [("ReduceSum<keepdims=1>(s, at)", 1.0), ("ReduceMean<axes=[3]>(s)", 0.125)])
@pytest.mark.parametrize("kind", ["float", "float16", "double"])
def test_the_weights_are_of_the_type_of_the_values(of, to, kind):
    body = f"net ({kind}[N,6,5,8] h) => ({kind}[N,1,1,1] y) {{ p = ReduceL2<axes=[1,2]>(h)  s = Sqrt(p)  y = {of} }}"
    model = net(body, at=ints(-1))
    written = Graph(means_to_layers(Graph(model)))
    weights = written.array(written.producer["y"].inputs[1])
    assert weights.shape == (8, 1) and (weights == to).all()
    assert weights.dtype == {"float": np.float32, "float16": np.float16, "double": np.float64}[kind]
    assert difference(model, written.model) < (2e-3 if kind == "float16" else 1e-6)


INTEGERS = {
    "integers": "net (int64[N,6,8] x) => (int64[N,1,1] y) { p = ReduceMax<axes=[1]>(x)  y = ReduceMean<axes=[2]>(p) }",
    "what an If gives": """net (float[N,6,8] x, bool flag) => (float[N,1,1] y) {
        h = If (flag) <then_branch = one () => (float[N,6,8] a) { a = Relu(x) },
                       else_branch = two () => (float[N,6,8] b) { b = Abs(x) }>
        p = ReduceMax<axes=[1]>(h)  y = ReduceMean<axes=[2]>(p) }""",
    "a type that is not known": """net (float[N,6,8] x) => (float[N,1,1] y) {
        h = custom.Own(x)  p = ReduceMax<axes=[1]>(h)  y = ReduceMean<axes=[2]>(p) }""",
}


@pytest.mark.parametrize("kind", INTEGERS)
def test_the_type_must_be_known_to_be_real(kind):
    model = net(INTEGERS[kind])
    seen = {"h": (2, 6, 8), "p": (2, 1, 8), "y": (2, 1, 1)}
    graph = Graph(model, observer=lambda *_: seen)
    written = means_to_layers(graph)
    assert (written is graph.model) == (kind != "what an If gives")
    if written is not graph.model:
        assert [t.data_type for t in written.graph.initializer] == [1] and difference(model, written) < 1e-6


def test_double_values_with_the_channels_first_stay():
    """onnxruntime's CPU provider has no convolution of double values."""
    body = "net (double[N,8,6,5] h) => (double[N,1,1,1] y) { p = GlobalAveragePool(h)  y = ReduceMean<axes=[1]>(p) }"
    graph = Graph(net(body))
    assert means_to_layers(graph) is graph.model
    single = Graph(net(body.replace("double", "float")))
    assert means_to_layers(single) is not single.model


def test_a_model_of_which_nothing_goes_keeps_its_means():
    model = response("last")
    found = analyse(model, {}, observer, Quiet(), engine)
    assert [g.name for g in found.groups if not g.frozen] == ["a"]
    whole = compressed(model, keep=1.0)
    assert [n.op_type for n in whole.model.graph.node] == [n.op_type for n in model.graph.node]


PRODUCTS = """net (float[N,8,6,5] x, float[N,8,6,5] z, float[N,1,6,5] g) => (float[] y) { %s }"""
MEANS = {
    "over the channels": ("p = Mul(x, z)  y = ReduceMean<axes=[1]>(p)", 17, True),
    "without the axis": ("p = Mul(x, z)  y = ReduceMean<axes=[-3], keepdims=0>(p)", 12, True),
    "at axes that are an input": ("p = Mul(x, z)  y = ReduceMean<keepdims=0>(p, one)", 18, True),
    "in groups": ("p = Mul(x, z)  r = Reshape(p, parts)  y = ReduceMean<axes=[2]>(r)", 17, True),
    "of squares": ("p = Mul(x, x)  y = ReduceMean<axes=[1]>(p)", 17, False),
    "of gated values": ("p = Mul(x, g)  y = ReduceMean<axes=[1]>(p)", 17, False),
    "of scaled values": ("p = Mul(x, one_w)  y = ReduceMean<axes=[1]>(p)", 17, False),
    "over samples": ("p = Mul(x, z)  y = ReduceMean<axes=[0]>(p)", 17, False),
    "over channels and places": ("p = Mul(x, z)  y = ReduceMean<axes=[1,2]>(p)", 17, False),
}


@pytest.mark.parametrize("kind", MEANS)
def test_means_of_products_are_sums(kind):
    nodes, opset, changes = MEANS[kind]
    graph = Graph(net(PRODUCTS % nodes, opset, one=ints(1), parts=ints(0, 4, 2, 6, 5), one_w=(8, 1, 1)))
    written, like = means_to_sums(graph)
    assert (written is not graph.model) == changes == bool(like)
    if changes:
        assert difference(graph.model, written) < 1e-6
        known = graph.rewritten(written, like).info.shapes
        assert known[next(iter(like))] == graph.info.shapes["y"]


@pytest.mark.parametrize("kind", ["float16", "double"])
def test_means_of_products_stay_means_in_half_precision(kind):
    """The sum of all channels may overflow where their mean does not."""
    body = PRODUCTS.replace("float[", f"{kind}[") % MEANS["over the channels"][0]
    assert bool(means_to_sums(Graph(net(body)))[1]) == (kind == "double")
