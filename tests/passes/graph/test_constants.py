"""Values of tensors that do not depend on the model's input."""

import numpy as np
import pytest
from netkit import engine, net

from passes.graph.model import Graph
from passes.graph.shapes import SMALL


def graph():
    return Graph(
        net(
            """net (float[N,4] x) => (float[N,4] y) {
                d = DequantizeLinear<axis=0>(q, s)  t = Transpose(d)  big = Expand(one, large)  r = RandomNormalLike(s)
                f = custom.Foo(s)  g = Neg(f)  sum = ReduceSum<keepdims=0>(big)  a = MatMul(x, d)  b = Add(a, sum)
                c = Add(b, g)  e = Add(c, r)  y = MatMul(e, t)
            }""",
            q=np.int8([[1, 2, 3, 4]] * 4), s=np.float32([1, 2, 3, 4]), one=np.float32([1]), large=np.array([SMALL + 1]),
        ),
        engine=engine,
    )  # fmt: skip


def test_constants_are_computed():
    values = np.float32([1, 2, 3, 4])[:, None] * [1, 2, 3, 4]
    assert graph().knows("t")
    np.testing.assert_array_equal(graph().array("t"), values.T)
    np.testing.assert_array_equal(graph().array("d"), values)
    np.testing.assert_array_equal(graph().array("q"), np.int8([[1, 2, 3, 4]] * 4))


@pytest.mark.parametrize("name", ["x", "a", "big", "sum", "r", "f", "g", "nowhere"])
def test_what_is_not_known(name):
    """What depends on the input or on chance, grows large, or comes from an op that nobody knows."""
    assert not graph().knows(name)
    with pytest.raises(KeyError):
        graph().array(name)
