"""BatchNormalization folds into the layer before or after it, or stays with the reason."""

import numpy as np
import onnx
import pytest
from netkit import TOLERANCE, check, difference, net, shape_of, twin_check
from onnx import numpy_helper
from unitkit import Quiet, engine

from passes.analysis.analyse import analyse
from passes.graph.model import Graph, copy_with_arrays
from passes.interface.reason import text
from passes.statistics.batchnorm_recalibration import restandardised
from passes.transforms.fold_batchnorm import fold_batchnorm

NORM = "BatchNormalization({}, n_scale, n_bias, n_mean, n_var)"
IMAGE, ROW = "float[N,4,6,6] x", "float[N,4] x"


def norm(n):
    return {f"n_{part}": (n,) for part in ("scale", "bias", "mean", "var")}


def fold(inputs, nodes, channels, opset=17, outputs=None, **weights):
    outputs = outputs or ("float[N,M] y" if inputs == ROW else "float[N,M,U,V] y")
    model = net(f"net ({inputs}) => ({outputs}) {{ {nodes} }}", opset, **norm(channels), **weights)
    before = model.SerializeToString(deterministic=True)
    folded = fold_batchnorm(Graph(model))
    assert model.SerializeToString(deterministic=True) == before
    return model, folded


PRODUCERS = {
    "conv": (IMAGE, "Conv<pads=[1,1,1,1]>(x, w, b)", 6, {"w": (6, 4, 3, 3), "b": (6,)}),
    "conv without bias": (IMAGE, "Conv(x, w)", 6, {"w": (6, 4, 3, 3)}),
    "grouped conv": (IMAGE, "Conv<group=2>(x, w, b)", 6, {"w": (6, 2, 3, 3), "b": (6,)}),
    "conv transpose": (IMAGE, "ConvTranspose(x, w, b)", 6, {"w": (4, 6, 3, 3), "b": (6,)}),
    "grouped conv transpose": (IMAGE, "ConvTranspose<group=2>(x, w)", 6, {"w": (4, 3, 3, 3)}),
    "gemm": (ROW, "Gemm(x, w, b)", 6, {"w": (4, 6), "b": (6,)}),
    "gemm without bias": (ROW, "Gemm(x, w)", 6, {"w": (4, 6)}),
    "gemm with alpha, beta, transB": (ROW, "Gemm<transB=1, alpha=0.5, beta=3.0>(x, w, b)", 6, {"w": (6, 4), "b": (6,)}),
    "gemm with one number as bias": (ROW, "Gemm(x, w, b)", 6, {"w": (4, 6), "b": (1,)}),
    "gemm with a row as bias": (ROW, "Gemm<beta=2.0>(x, w, b)", 6, {"w": (4, 6), "b": (1, 6)}),
    "matmul": (ROW, "MatMul(x, w)", 6, {"w": (4, 6)}),
}


@pytest.mark.parametrize("name", PRODUCERS)
def test_into_the_layer_before(name):
    inputs, layer, channels, weights = PRODUCERS[name]
    model, folded = fold(inputs, f"a = {layer}  y = {NORM.format('a')}", channels, **weights)
    assert not folded.left and "BatchNormalization" not in [n.op_type for n in folded.model.graph.node]
    check(folded.model)
    assert difference(model, folded.model) <= TOLERANCE
    assert [v.name for v in folded.model.graph.output] == ["y"]


def test_what_the_norm_knew_is_recorded():
    model, folded = fold(IMAGE, f"a = Conv(x, w)  y = {NORM.format('a')}", 6, w=(6, 4, 1, 1))
    known = {t.name: np.asarray(Graph(model).array(t.name), np.float64) for t in model.graph.initializer}
    assert list(folded.norms) == ["w"]
    found = folded.norms["w"]
    np.testing.assert_allclose(found.a, known["n_scale"] / np.sqrt(known["n_var"] + 1e-5), rtol=1e-6)
    np.testing.assert_allclose(found.mean, known["n_bias"])
    np.testing.assert_allclose(found.std, np.abs(known["n_scale"]))


CONSUMERS = {
    "conv": (IMAGE, "Conv(n, w, b)", {"w": (6, 4, 3, 3), "b": (6,)}),
    "conv without bias": (IMAGE, "Conv(n, w)", {"w": (6, 4, 3, 3)}),
    "grouped conv": (IMAGE, "Conv<group=2>(n, w, b)", {"w": (6, 2, 3, 3), "b": (6,)}),
    "gemm": (ROW, "Gemm(n, w, b)", {"w": (4, 6), "b": (6,)}),
    "gemm with alpha, beta, transB": (ROW, "Gemm<transB=1, alpha=0.5, beta=3.0>(n, w, b)", {"w": (6, 4), "b": (6,)}),
    "gemm without bias": (ROW, "Gemm<transB=1>(n, w)", {"w": (6, 4)}),
}


@pytest.mark.parametrize("name", CONSUMERS)
def test_into_the_layer_after(name):
    inputs, layer, weights = CONSUMERS[name]
    model, folded = fold(inputs, f"n = {NORM.format('x')}  y = {layer}", 4, **weights)
    assert not folded.left and not folded.norms
    check(folded.model)
    assert difference(model, folded.model) <= TOLERANCE


def test_into_several_layers_after():
    nodes = f"n = {NORM.format('x')}  s = Conv(n, w)  t = Conv(n, v, c)  y = Add(s, t)"
    model, folded = fold(IMAGE, nodes, 4, w=(6, 4, 1, 1), v=(6, 4, 1, 1), c=(6,))
    assert not folded.left and difference(model, folded.model) <= TOLERANCE


def test_padding_is_no_matter_without_a_shift():
    zero = np.zeros(4, np.float32)
    nodes = f"n = {NORM.format('x')}  y = Conv<pads=[1,1,1,1]>(n, w)"
    body = f"net ({IMAGE}) => (float[N,M,U,V] y) {{ {nodes} }}"
    model = net(body, n_scale=(4,), n_bias=zero, n_mean=zero, n_var=(4,), w=(6, 4, 3, 3))
    folded = fold_batchnorm(Graph(model))
    assert not folded.left and difference(model, folded.model) <= TOLERANCE


CONV = {"w": (4, 4, 1, 1)}
AFTER = f"a = Conv(x, w)  n = {NORM.format('a')}"
LEFT = {
    "other reader": (IMAGE, f"{AFTER}  y = Add(a, n)", CONV, "a is also read by y"),
    "captured": (
        "float[N,4,6,6] x, bool c",
        f"""{AFTER}  z = If(c) <then_branch = f () => (float[N,4,6,6] t) {{ t = Relu(a) }},
        else_branch = g () => (float[N,4,6,6] u) {{ u = Neg(a) }}>  y = Add(n, z)""",
        CONV,
        "a is read inside a control-flow body",
    ),
    "shared weights": (IMAGE, f"{AFTER}  m = Conv(n, w)  y = Relu(m)", CONV, "w of a is shared"),
    "computed weights": (
        IMAGE,
        f"k = Relu(w)  a = Conv(x, k)  n = {NORM.format('a')}  y = Relu(n)",
        CONV,
        "k of a is not an initializer",
    ),
    "computed parameters": (
        IMAGE,
        "m = Neg(n_mean)  a = Conv(x, w)  y = BatchNormalization(a, n_scale, n_bias, m, n_var)",
        CONV,
        "its parameters are computed in the graph",
    ),
    "parameters that are given": (
        "float[N,4,6,6] x, float[4] m",
        "a = Conv(x, w)  y = BatchNormalization(a, n_scale, n_bias, m, n_var)",
        CONV,
        "its parameters are not constant",
    ),
    "nothing behind it": (
        IMAGE,
        f"r = Relu(x)  n = {NORM.format('r')}  y = Neg(r)",
        {},
        "r does not come from a layer with weights; nothing reads n",
    ),
    "training mode": (
        IMAGE,
        f"a = Conv(x, w)  y, m, v = {NORM.format('a').replace('(', '<training_mode=1>(')}",
        CONV,
        "it is in training mode",
    ),
    "no layer": (
        IMAGE,
        f"a = Relu(x)  n = {NORM.format('a')}  y = Relu(n)",
        {},
        "a does not come from a layer with weights",
    ),
    "padding with a shift": (
        IMAGE,
        f"n = {NORM.format('x')}  y = Conv<pads=[1,1,1,1]>(n, w)",
        {"w": (6, 4, 3, 3)},
        "y pads with zeros, which would not be shifted",
    ),
    "automatic padding": (
        IMAGE,
        f'n = {NORM.format("x")}  y = Conv<auto_pad="SAME_UPPER">(n, w)',
        {"w": (6, 4, 3, 3)},
        "y pads with zeros",
    ),
    "stacks of matrices": (
        "float[N,4,4] x",
        f"a = MatMul(x, w)  y = {NORM.format('a')}",
        {"w": (4, 4)},
        "a multiplies stacks of matrices",
    ),
    "a bias for each sample": (
        "float[2,4] x",
        f"a = Gemm(x, w, b)  n = {NORM.format('a')}  y = Relu(n)",
        {"w": (4, 4), "b": (2, 4)},
        "the bias of a differs from sample to sample",
    ),
    "transposed input": (
        "float[4,2] x",
        f"a = Gemm<transA=1>(x, w)  n = {NORM.format('a')}  y = Relu(n)",
        {"w": (4, 4)},
        "a transposes its input",
    ),
    "read by something else": (
        IMAGE,
        f"r = Relu(x)  n = {NORM.format('r')}  s = Conv(n, w)  y = Add(n, s)",
        CONV,
        "n is read by y (Add)",
    ),
}


@pytest.mark.parametrize("name", LEFT)
def test_left(name):
    inputs, nodes, weights, reason = LEFT[name]
    model, folded = fold(inputs, nodes, 4, **weights)
    assert folded.model is model and not folded.norms
    assert len(folded.left) == 1 and reason in text(*folded.left.values())


def test_the_standard_domain_by_its_other_name():
    model, _ = fold(IMAGE, f"{AFTER}  y = Relu(n)", 4, **CONV)
    for node in model.graph.node:
        node.domain = "ai.onnx"
    model.opset_import[0].domain = "ai.onnx"
    folded = fold_batchnorm(Graph(model))
    assert not folded.left and difference(model, folded.model) <= TOLERANCE


def test_left_at_a_graph_output():
    _, folded = fold(IMAGE, f"{AFTER}  y = Relu(n)", 4, outputs="float[N,M,U,V] y, float[N,M,U,V] a", **CONV)
    assert text(folded.left["n"]).startswith("a is a graph output")


def test_one_folds_while_another_stays():
    nodes = f"{AFTER}  r = Relu(n)  m = BatchNormalization(r, n_scale, k, n_mean, n_var)  y = Relu(m)"
    model, folded = fold(IMAGE, nodes, 4, k=(4,), **CONV)
    assert list(folded.left) == ["m"] and difference(model, folded.model) <= TOLERANCE


PLACES = {f"n_{part}": (6, 6, 6) for part in ("scale", "bias", "mean", "var")}


def by_place():
    """A norm with parameters of their own for each place, and one behind a Gemm, whose places are its channels."""
    body = """net (float[N,3,6,6] x) => (float[N,4] y) {
        a = Conv<pads=[1,1,1,1]>(x, a_w, a_b)  n = BatchNormalization<spatial=0>(a, n_scale, n_bias, n_mean, n_var)
        r = Relu(n)  c = Conv<pads=[1,1,1,1]>(r, c_w)  cr = Relu(c)  f = Flatten(cr)  g = Gemm<transB=1>(f, g_w, g_b)
        k = BatchNormalization<spatial=0>(g, k_scale, k_bias, k_mean, k_var)  kr = Relu(k)
        y = Gemm<transB=1>(kr, y_w, y_b)
    }"""
    own = {f"k_{part}": (8,) for part in ("scale", "bias", "mean", "var")}
    return net(body, 7, 7, a_w=(6, 3, 3, 3), a_b=(6,), **PLACES, c_w=(6, 6, 3, 3), g_w=(8, 216), g_b=(8,), **own,
               y_w=(4, 8), y_b=(4,))  # fmt: skip


def test_parameters_of_each_place_fold_behind_a_gemm_only():
    model = by_place()
    folded = fold_batchnorm(Graph(model))
    assert {name: text(why) for name, why in folded.left.items()} == {
        "n": "its parameters differ from place to place (spatial=0)"
    }
    assert difference(model, folded.model) <= TOLERANCE


@pytest.mark.parametrize("method", ["prune", "merge"])
def test_channels_go_through_a_norm_of_each_place(method):
    result = twin_check(by_place(), keep=0.5, method=method)
    shapes = [shape_of(result.model, name) for name in ("a_w", "n_scale", "n_var", "c_w", "g_w")]
    assert shapes == [(3, 3, 3, 3), (3, 6, 6), (3, 6, 6), (3, 3, 3, 3), (4, 3 * 36)]


def test_parallel_channels_merge_through_it_exactly_where_all_places_agree():
    """Channel 1 is twice channel 0 in the filter and at every place; channel 2 is in the filter only."""
    model = by_place()
    arrays = {t.name: numpy_helper.to_array(t).copy() for t in model.graph.initializer}
    for name in ("a_w", "a_b", "n_mean", "n_scale", "n_bias", "n_var"):
        arrays[name][1] = arrays[name][0] if name in ("n_var", "n_scale") else 2 * arrays[name][0]
        arrays[name][2] = 2 * arrays[name][0] if name in ("a_w", "a_b") else arrays[name][2]
    planted = copy_with_arrays(model, arrays)
    result = twin_check(planted, lossless=True)
    assert shape_of(result.model, "a_w")[0] == 5
    assert difference(planted, result.model) <= TOLERANCE


def test_norms_without_a_name_are_told_apart():
    """One is called as the output of the other, which has no name."""
    body = """net (float[N,3,6,6] x) => (float[N,4,6,6] y) {
        a = Conv(x, a_w)  n = BatchNormalization(a, n_scale, n_bias, n_mean, n_var)  r = Relu(n)
        m = BatchNormalization(r, m_scale, m_bias, m_mean, m_var)  s = Relu(m)  y = Conv(s, y_w)
    }"""
    own = {f"m_{part}": (6,) for part in ("scale", "bias", "mean", "var")}
    model = net(body, a_w=(6, 3, 1, 1), **norm(6), **own, y_w=(4, 6, 1, 1))
    model.graph.node[3].name = "n"
    folded = fold_batchnorm(Graph(model))
    assert {name: text(why) for name, why in folded.left.items()} == {
        "n": "r does not come from a layer with weights; m is read by s (Relu)"
    }
    assert difference(model, folded.model) <= TOLERANCE


def test_on_samples_a_norm_of_each_place_standardises_each_place():
    """`restandardised` gives it the samples' statistics in the shape of its own."""
    model = by_place()
    analysis = analyse(model, {}, None, Quiet())
    x = np.random.default_rng(0).standard_normal((16, 3, 6, 6)).astype(np.float32)
    seen = restandardised(analysis.before, analysis.typing, [{"x": x}], engine)
    inner = onnx.ModelProto()
    inner.CopyFrom(model)
    inner.graph.output.append(onnx.ValueInfoProto(name="a"))
    a = engine(inner)({"x": x})["a"]
    np.testing.assert_allclose(seen.graph.array("n_mean"), a.mean(0), atol=1e-5)
    np.testing.assert_allclose(seen.graph.array("n_var"), a.var(0), atol=1e-5)
