"""Which elements of a tensor belong to one of the tensors that a Concat joined."""

from dataclasses import replace

import numpy as np
import pytest
from netkit import engine, ints, net

from passes.axes.inference import infer
from passes.axes.output_parts import joined_parts
from passes.graph.model import Graph


def parts(model, sizes=None, name="y"):
    """Part of each element of output ``name``, in the shape of a sample."""
    graph = Graph(model, engine=engine)
    sizes = sizes or tuple(int(n) for n in graph.shape(name)[1:])
    return joined_parts(infer(graph), name, sizes).reshape(sizes)


def test_a_tensor_that_nothing_joins_is_one_part():
    model = net("net (float[N,3,4,4] x) => (float[N,5,4,4] y) { y = Conv(x, w) }", w=(5, 3, 1, 1))
    assert not parts(model).any() and parts(model).shape == (5, 4, 4)


def test_each_joined_tensor_is_a_part():
    body = "net (float[N,3] x) => (float[N,8] y) { a = Gemm(x, aw) b = Gemm(x, bw) c = Gemm(x, cw) %s }"
    weights = dict(aw=(3, 1), bw=(3, 4), cw=(3, 3))
    for joining in (
        "y = Concat<axis=1>(a, b, c)",
        "d = Concat<axis=-1>(a, b) e = Tanh(d) z = Concat<axis=1>(e, c) y = Sigmoid(z)",
    ):
        assert parts(net(body % joining, **weights)).tolist() == [0, 1, 1, 1, 1, 2, 2, 2]


def test_tensors_of_the_same_index_set_are_one_part():
    """Corners of boxes, from centres and sizes that both are made of."""
    model = net(
        """net (float[N,3] x) => (float[N,7] y) {
            b = Gemm(x, bw) s = Gemm(x, sw) c, h = Split<axis=1>(b, halves)
            low = Sub(c, h) high = Add(c, h) y = Concat<axis=1>(low, high, s)
        }""",
        bw=(3, 4), sw=(3, 3), halves=ints(2, 2),
    )  # fmt: skip
    assert parts(model).tolist() == [0, 0, 0, 0, 1, 1, 1]


def test_coordinates_that_are_stacked_one_by_one_are_one_part():
    model = net(
        """net (float[N,3] x) => (float[N,6] y) {
            b = Gemm(x, bw) s = Gemm(x, sw) x1, y1, x2, y2 = Split<axis=1>(b, each)
            r = Relu(x2) y = Concat<axis=1>(x1, y1, r, y2, s)
        }""",
        bw=(3, 4), sw=(3, 2), each=ints(1, 1, 1, 1),
    )  # fmt: skip
    assert parts(model).tolist() == [0, 0, 0, 0, 1, 1]


def test_two_joined_axes_have_all_combinations():
    model = net(
        """net (float[N,3,4,4] x) => (float[N,7,20] y) {
            s = MaxPool<kernel_shape=[2,2],strides=[2,2]>(x)
            a = Conv(x, aw) b = Conv(x, bw) ab = Concat<axis=1>(a, b) f = Reshape(ab, flat)
            c = Conv(s, aw) d = Conv(s, bw) cd = Concat<axis=1>(c, d) g = Reshape(cd, flat) y = Concat<axis=2>(f, g)
        }""",
        aw=(2, 3, 1, 1), bw=(5, 3, 1, 1), flat=ints(0, 7, -1),
    )  # fmt: skip
    found = parts(model)
    assert len(np.unique(found)) == 4
    for rows in (slice(0, 2), slice(2, 7)):
        for columns in (slice(0, 16), slice(16, 20)):
            assert len(np.unique(found[rows, columns])) == 1


def test_what_is_joined_in_front_of_a_layer_is_one_part():
    """A class token and patches, in a network whose sizes are computed with a Concat too."""
    body = """net (float[N,6,4] x) => (float[N,9,5] y) {
        p = MatMul(x, p_w) t = Concat<axis=1>(first, p) a = MatMul(t, a_w) r = Relu(a)
        n = Shape<start=0,end=1>(x) s = Concat<axis=0>(n, rest) y = Reshape(%s, s)
    }"""
    weights = dict(first=(2, 3, 4), p_w=(4, 4), a_w=(4, 5), rest=ints(9, 5))
    model = net(body % "r", **weights)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    assert not parts(model).any()
    joined = net(
        (body % "q").replace("n = ", "q = Concat<axis=1>(r, r) n = ").replace("9", "18"),
        **{**weights, "rest": ints(18, 5)},
    )
    joined.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    assert len(np.unique(parts(joined))) == 2


SPREAD = """net (float[N,3,H,W] x) => (float[N,2,P] y) {
    s = MaxPool<kernel_shape=[2,2],strides=[2,2]>(x)
    a = Conv(x, w) b = Conv(s, w) f = Reshape(a, flat) g = Reshape(b, flat) y = Concat<axis=2>(f, g)
}"""


@pytest.mark.parametrize("side", [4, 6])
def test_sizes_that_vary_are_those_of_the_samples(side):
    model = net(SPREAD, w=(2, 3, 1, 1), flat=ints(0, 2, -1))
    typing = infer(Graph(model, [{"x": (1, 3, 8, 8)}, {"x": (2, 3, 10, 10)}], engine=engine))
    sized = Graph(model, [{"x": (1, 3, side, side)}], engine=engine)
    found = joined_parts(replace(typing, graph=sized), "y", (2, side**2 * 5 // 4)).reshape(2, -1)
    assert found.tolist() == [[0] * side**2 + [1] * (side // 2) ** 2] * 2


def test_a_shape_that_the_types_do_not_fit_is_one_part():
    model = net(
        "net (float[N,3] x) => (float[N,8] y) { a = Gemm(x, w) b = Gemm(x, v) y = Concat<axis=1>(a, b) }",
        w=(3, 2), v=(3, 6),
    )  # fmt: skip
    assert parts(model).tolist() == [0] * 2 + [1] * 6
    for name, sizes in (("y", (9,)), ("y", (2, 4)), ("none", (3,))):
        assert not parts(model, sizes, name).any()
