"""Which elements of a tensor belong to one of the tensors that a Concat joined."""

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


LEVELS = """net (float[N,3,H,W] x) => (float[N,7,P] y) {
    s = MaxPool<kernel_shape=[2,2],strides=[2,2]>(x)
    a = Conv(x, aw) b = Conv(x, bw) ab = Concat<axis=1>(a, b) f = Reshape(ab, flat)
    c = Conv(s, aw) d = Conv(s, bw) cd = Concat<axis=1>(c, d) g = Reshape(cd, flat) y = Concat<axis=2>(f, g)
}"""


@pytest.mark.parametrize("side", [4, 6])
def test_joined_places_are_one_part(side):
    """At any size, whether it varies or not."""
    model = net(LEVELS, aw=(2, 3, 1, 1), bw=(5, 3, 1, 1), flat=ints(0, 7, -1))
    wanted = np.repeat([0, 1], [2, 5])[:, None] * np.ones(side**2 * 5 // 4)
    for shapes in ([{"x": (1, 3, 8, 8)}, {"x": (2, 3, 10, 10)}], [{"x": (2, 3, side, side)}]):
        typing = infer(Graph(model, shapes, engine=engine))
        assert (joined_parts(typing, "y", wanted.shape).reshape(wanted.shape) == wanted).all()


def test_a_class_token_and_patches_are_one_part():
    model = net(
        """net (float[2,6,4] x) => (float[2,9,5] y) {
            p = MatMul(x, p_w) t = Concat<axis=1>(first, p) y = MatMul(t, y_w)
        }""",
        first=(2, 3, 4), p_w=(4, 4), y_w=(4, 5),
    )  # fmt: skip
    assert not parts(model).any()


def test_channels_that_a_reshape_joins_with_others_keep_their_parts():
    """Two anchors, each with boxes and scores."""
    model = net(
        """net (float[N,3] x) => (float[N,14] y) {
            a = Gemm(x, aw) b = Gemm(x, bw) f = Reshape(a, split) g = Reshape(b, split) c = Concat<axis=2>(f, g)
            y = Flatten(c)
        }""",
        aw=(3, 4), bw=(3, 10), split=ints(0, 2, -1),
    )  # fmt: skip
    assert parts(model).tolist() == [0, 0, 1, 1, 1, 1, 1] * 2


def test_a_shape_that_the_types_do_not_fit_is_one_part():
    model = net(
        "net (float[N,3] x) => (float[N,8] y) { a = Gemm(x, w) b = Gemm(x, v) y = Concat<axis=1>(a, b) }",
        w=(3, 2), v=(3, 6),
    )  # fmt: skip
    assert parts(model).tolist() == [0] * 2 + [1] * 6
    for name, sizes in (("y", (9,)), ("y", (2, 4)), ("none", (3,))):
        assert not parts(model, sizes, name).any()
