"""Small constants read by several nodes are copied per reader and so tie nothing; equal ones are merged at the end."""

import numpy as np
import pytest
from netkit import array_of, compressed, difference, net, node_of, shape_of, twin_check

from passes.cost.cost import cost
from passes.graph.model import Graph
from passes.interface.reason import text
from passes.transforms.canonicalize import canonicalize
from passes.transforms.unshare_constants import merge_copies, unshare

ZEROS = """net (float[N,3,4,4] x) => (float[N,8,4,4] y) {
    a = Conv<pads=[1,1,1,1]>(x, a_w, zeros)  ar = Relu(a)  b = Conv<pads=[1,1,1,1]>(ar, b_w, zeros)  br = Relu(b)
    y = Conv(br, y_w, zeros)
}"""
WIDTHS = dict(a_w=(8, 3, 3, 3), b_w=(8, 8, 3, 3), y_w=(8, 8, 1, 1))


def zeros_net(bias=None):
    return net(ZEROS, **WIDTHS, zeros=np.zeros(8, np.float32) if bias is None else bias)


@pytest.mark.parametrize("method", ["prune", "merge"])
def test_a_bias_of_zeros_that_every_layer_reads(method):
    result = twin_check(zeros_net(), keep=0.5, method=method)
    assert {p.group.name: text(p.reason) for p in result.plans if p.group.frozen} == {"y": "y is a graph output"}
    assert [shape_of(result.model, n) for n in ("a_w", "b_w", "y_w")] == [(4, 3, 3, 3), (4, 4, 3, 3), (8, 4, 1, 1)]


def test_copies_that_stay_equal_are_one_again():
    """The two inner biases are cut alike, that of the output stays whole: two tensors, one with the old name."""
    model = compressed(zeros_net(), keep=0.5, method="prune").model
    names = [t.name for t in model.graph.initializer]
    assert len(names) == 5 and "zeros" in names
    assert not any(t.HasField("doc_string") for t in model.graph.initializer)
    assert node_of(model, "a").input[2] == node_of(model, "b").input[2] != node_of(model, "y").input[2]


def test_a_file_in_which_nothing_of_it_changed_keeps_it():
    model = compressed(zeros_net(), keep=0.5, exclude=("a", "b")).model
    assert [node_of(model, n).input[2] for n in "aby"] == ["zeros"] * 3


def test_copies_are_no_parameters():
    before = zeros_net()
    assert cost(Graph(unshare(canonicalize(before)))).params == cost(Graph(canonicalize(before))).params
    names = [t.name for t in before.graph.initializer]
    split = unshare(canonicalize(before))
    assert len(split.graph.initializer) == len(names) + 2
    assert [t.name for t in merge_copies(split).graph.initializer] == names
    assert split == before


def test_names_of_copies_are_new():
    model = zeros_net()
    model.graph.initializer[0].name = model.graph.node[0].input[1] = "zeros_2"
    split = unshare(canonicalize(model))
    assert len({t.name for t in split.graph.initializer}) == len(split.graph.initializer)
    twin_check(model, keep=0.5)


PARAMETERS = {
    "prelu": ("r = PRelu(a, s) t = PRelu(b, s)", dict(s=(8, 1, 1))),
    "scale": ("r = Mul(a, s) t = Mul(b, s)", dict(s=(1, 8, 1, 1))),
    "norm": (
        "r = BatchNormalization(ar, s, m, m, s_var)  t = BatchNormalization(br, s, m, m, s_var)",
        dict(s=(8,), m=(8,), s_var=(8,)),
    ),
}


@pytest.mark.parametrize("kind", PARAMETERS)
def test_layers_that_share_parameters_only_shrink_apart(kind):
    """Only one of the two is read by what is not to shrink."""
    body, weights = PARAMETERS[kind]
    model = net(
        f"""net (float[N,3,4,4] x) => (float[N,8,4,4] t, float[N,5,4,4] y) {{
            a = Conv(x, a_w) ar = Relu(a) b = Conv(x, b_w) br = Relu(b) {body} q = Relu(r) y = Conv(q, y_w)
        }}""",
        a_w=(8, 3, 1, 1), b_w=(8, 3, 1, 1), y_w=(5, 8, 1, 1), **weights,
    )  # fmt: skip
    result = twin_check(model, keep=0.5)
    assert shape_of(result.model, "a_w")[0] == 4 and shape_of(result.model, "b_w")[0] == 8


def test_what_is_an_output_stays_whole_beside_the_copy():
    body = """net (float[N,6] x) => (float[N,4] y, float[8] b) { a = Gemm(x, a_w, b) r = Relu(a) y = Gemm(r, y_w) }"""
    model = net(body, a_w=(6, 8), b=(8,), y_w=(8, 4))
    result = twin_check(model, keep=0.5)
    assert shape_of(result.model, "a_w") == (6, 4) and np.array_equal(array_of(result.model, "b"), array_of(model, "b"))


def test_what_a_body_reads_stays_whole_beside_the_copy():
    body = """net (float[N,6] x, bool c) => (float[N,4] y, float[8] z) {
        a = Gemm(x, a_w, b) r = Relu(a) y = Gemm(r, y_w)
        z = If(c)<then_branch = t () => (float[8] u) { u = Neg(b) }, else_branch = e () => (float[8] v) { v = Relu(b) }>
    }"""
    result = twin_check(net(body, a_w=(6, 8), b=(8,), y_w=(8, 4)), keep=0.5)
    assert shape_of(result.model, "a_w") == (6, 4) and shape_of(result.model, "b") == (8,)


def test_weights_of_layers_stay_shared():
    """Also where they are a vector; and an input that callers may override stays one tensor."""
    body = "net (float[N,6] x) => (float[N,1] y, float[N,1] z) { y = Gemm(x, w) r = Relu(x) z = Gemm(r, w) }"
    model = net(body, w=(6, 1))
    assert [t.name for t in unshare(model).graph.initializer] == ["w"]
    given = net("net (float[N,8] x, float[8] s) => (float[N,8] y) { a = Mul(x, s) y = Mul(a, s) }", s=(8,))
    given.graph.input.extend([])
    given.graph.initializer.extend(net(body, w=(6, 1)).graph.initializer)
    assert [t.name for t in unshare(given).graph.initializer] == ["s", "w"]


def test_every_initializer_is_an_input_at_ir_3():
    model = zeros_net()
    model.ir_version = 3
    for t in model.graph.initializer:
        model.graph.input.add(name=t.name).type.tensor_type.elem_type = 1
        for n in t.dims:
            model.graph.input[-1].type.tensor_type.shape.dim.add(dim_value=n)
    model.opset_import[0].version = 8
    result = twin_check(model, keep=0.5)
    assert shape_of(result.model, "b_w") == (4, 4, 3, 3)
    assert {t.name for t in result.model.graph.initializer} < {v.name for v in result.model.graph.input}
    assert difference(result.twin(), result.model) <= 1e-5
