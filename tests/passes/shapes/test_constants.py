"""Values of tensors that do not depend on the model's input."""

import numpy as np
import pytest
from netkit import engine, net

from passes.graph.model import Graph
from passes.shapes.tuning import SHAPES


def graph():
    return Graph(
        net(
            """net (float[N,4] x) => (float[N,4] y) {
                d = DequantizeLinear<axis=0>(q, s)  t = Transpose(d)  big = Expand(one, large)  r = RandomNormalLike(s)
                f = custom.Foo(s)  g = Neg(f)  sum = ReduceSum<keepdims=0>(big)  a = MatMul(x, d)  b = Add(a, sum)
                c = Add(b, g)  e = Add(c, r)  y = MatMul(e, t)
            }""",
            q=np.int8([[1, 2, 3, 4]] * 4), s=np.float32([1, 2, 3, 4]), one=np.float32([1]),
            large=np.array([SHAPES.evaluated_elements + 1]),
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


def test_a_session_for_all_that_is_small():
    """One for all small constants, and one for each large one that is asked for."""
    loaded = []

    def counting(model):
        loaded.append(model)
        return engine(model)

    side = int(np.sqrt(SHAPES.evaluated_elements)) + 1
    names = [f"d{k}" for k in range(20)]
    nodes = " ".join(f"{name} = DequantizeLinear<axis=0>(q, s)" for name in names)
    body = f"net (float[N,4] x) => (float[N,4] y) {{ {nodes} big = DequantizeLinear(w, one)  y = Relu(x) }}"
    known = Graph(
        net(body, q=np.int8([[1, 2, 3, 4]] * 4), s=np.float32([1, 2, 3, 4]), w=np.ones((side, side), np.int8),
            one=np.array(0.5, np.float32)),
        engine=counting,
    )  # fmt: skip
    assert not loaded
    assert all(known.knows(name) for name in names) and len(loaded) == 1
    assert known.knows("big") and (known.array("big") == 0.5).all() and len(loaded) == 2


def test_without_an_engine_only_what_is_stored_is_known():
    model = net(
        "net (float[N,2] x) => (float[N,2] y) { k = Constant<value_floats=[1.0, 2.0]>()  n = Neg(k)  y = Add(x, n) }"
    )
    plain = Graph(model)
    assert plain.knows("k") and not plain.knows("n")
    np.testing.assert_array_equal(plain.array("k"), np.float32([1, 2]))
    np.testing.assert_array_equal(Graph(model, engine=engine).array("n"), np.float32([-1, -2]))
