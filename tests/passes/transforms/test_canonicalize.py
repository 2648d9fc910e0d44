"""One form for what exporters write in several ways; the function stays."""

import numpy as np
import pytest
from netkit import array_of, difference, engine, ints, net, shape_of, twin_check
from onnx import TensorProto, helper

from passes.graph.nodes import drop_unused_initializers, node_reads
from passes.interface.reason import text
from passes.shapes.tuning import SHAPES
from passes.transforms.canonicalize import canonicalize


def normal(model):
    before = model.SerializeToString(deterministic=True)
    result = canonicalize(model, engine)
    assert model.SerializeToString(deterministic=True) == before
    assert difference(model, result) == 0
    return result


def ops(model):
    return [n.op_type for n in model.graph.node]


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("value_float=2.0", np.float32(2)),
        ("value_floats=[1.0,2.0,3.0]", np.float32([1, 2, 3])),
        ("value=float[1,3] {1,2,3}", np.float32([[1, 2, 3]])),
    ],
)
def test_constants_become_initializers(attribute, value):
    result = normal(net(f"net (float[N,3] x) => (float[N,3] y) {{ k = Constant<{attribute}>()  y = Mul(x, k) }}"))
    assert ops(result) == ["Mul"]
    np.testing.assert_array_equal(array_of(result, "k"), value)


@pytest.mark.parametrize(("attribute", "value", "out"), [("value_int=1", 1, "N"), ("value_ints=[0,1]", [0, 1], "N,2")])
def test_integer_constants(attribute, value, out):
    body = f"net (float[N,3] x) => (float[{out}] y) {{ k = Constant<{attribute}>()  y = Gather<axis=1>(x, k) }}"
    np.testing.assert_array_equal(array_of(normal(net(body)), "k"), np.array(value, np.int64))


def test_functions_are_inlined():
    model = net("net (float[N,3] x) => (float[N,3] y) { a = local.Twice(x)  y = Relu(a) }")
    body = [helper.make_node("Add", ["i", "i"], ["o"])]
    model.functions.append(helper.make_function("local", "Twice", ["i"], ["o"], body, [helper.make_opsetid("", 17)]))
    model.opset_import.append(helper.make_opsetid("local", 1))
    result = normal(model)
    assert ops(result) == ["Add", "Relu"] and not result.functions


def test_what_no_output_depends_on_goes():
    body = """net (float[N,3] x) => (float[N,3] y) { a = Relu(x)  d = MatMul(a, w)  e = Relu(d)  y = Neg(a) }"""
    assert ops(normal(net(body, w=(3, 3)))) == ["Relu", "Neg"]


@pytest.mark.parametrize(
    ("node", "extra", "shape"),
    [
        ("Transpose(w)", {}, (3, 4)),
        ("Identity(w)", {}, (4, 3)),
        ("Reshape(w, s)", {"s": ints(3, 4)}, (3, 4)),
        ("Unsqueeze(w, s)", {"s": ints(0)}, (1, 4, 3)),
    ],
)
def test_layout_of_weights_is_folded(node, extra, shape):
    first = "Flatten<axis=2>(k)  f = Transpose(t)" if len(shape) == 3 else "Identity(k)  f = Reshape(t, to)"
    extra = extra if len(shape) == 3 else {**extra, "to": ints(3, 4)}
    first = first if len(shape) == 2 else "Reshape(k, to)  f = Transpose(t)"
    extra = extra if len(shape) == 2 else {**extra, "to": ints(4, 3)}
    body = f"net (float[N,3] x) => (float[N,4] y) {{ k = {node}  t = {first}  y = MatMul(x, f) }}"
    result = normal(net(body, w=(4, 3), **extra))
    assert ops(result) == ["MatMul"] and [t.name for t in result.graph.initializer] == ["f"]
    assert shape_of(result, "f") == (3, 4)


def test_a_large_weight_is_not_doubled():
    """Read as it is and transposed, a weight stays one; a vector, or a matrix of a few elements, may be two."""
    body = "net (float[N,{0}] x) => (float[N,{0}] y) {{ t = Transpose(w)  a = MatMul(x, w)  y = MatMul(a, t) }}"
    assert ops(normal(net(body.format(4), w=(4, 4)))) == ["MatMul", "MatMul"]
    side = int(np.sqrt(SHAPES.evaluated_elements))
    for n in (5, side + 1):
        assert ops(normal(net(body.format(n), w=(n, n)))) == ["Transpose", "MatMul", "MatMul"]
    once = body.replace("MatMul(x, w)", "Relu(x)").format(side + 1)
    assert ops(normal(net(once, w=(side + 1, side + 1)))) == ["Relu", "MatMul"]


@pytest.mark.parametrize("n", [5, int(np.sqrt(SHAPES.evaluated_elements)) + 1])
def test_a_copy_of_shared_weights_is_the_weights(n):
    """PyTorch's exporter writes layers that share weights so. A copy that is an output stays."""
    body = """net (float[N,{0}] x) => (float[N,{0}] y, float[{0},{0}] out) {{
        k = Identity(w)  t = Identity(k)  out = Identity(w)  a = MatMul(x, w)  b = MatMul(a, k)  y = MatMul(b, t)
    }}"""
    result = normal(net(body.format(n), w=(n, n)))
    assert ops(result) == ["Identity", "MatMul", "MatMul", "MatMul"]
    assert [node.input[1] for node in result.graph.node[1:]] == ["w", "w", "w"]


def test_computed_weights_are_computed_once():
    """Weight standardisation: the weight is read three times, but only by what is folded."""
    body = """net (float[N,{0}] x) => (float[N,{0}] y) {{
        m = ReduceMean<axes=[1]>(w)  d = Sub(w, m)  q = Mul(d, d)  s = ReduceMean<axes=[1]>(q)  r = Sqrt(s)
        u = Div(d, r)  y = MatMul(x, u)
    }}"""
    side = int(np.sqrt(SHAPES.evaluated_elements)) + 1
    result = canonicalize(net(body.format(side), w=(side, side)), engine)
    assert ops(result) == ["MatMul"] and [t.name for t in result.graph.initializer] == ["u"]
    np.testing.assert_allclose(array_of(result, "u").std(axis=1), 1, rtol=1e-5)


def test_nothing_that_grows_is_computed_before_hand():
    """An outer product of two vectors would be stored as a matrix; a quantised weight as four times its bytes."""
    side = int(np.sqrt(8 * SHAPES.evaluated_elements)) + 1
    grown = net(f"net (float[N,{side}] x) => (float[N,{side}] y) {{ k = Mul(a, b)  y = MatMul(x, k) }}",
                a=(side, 1), b=(1, side))  # fmt: skip
    assert ops(normal(grown)) == ["Mul", "MatMul"]
    narrow = net("net (float[N,4] x) => (float[N,3] y) { w = DequantizeLinear(q, s)  y = MatMul(x, w) }",
                 q=np.arange(12, dtype=np.int8).reshape(4, 3), s=np.array(0.1, np.float32))  # fmt: skip
    assert ops(normal(narrow)) == ["DequantizeLinear", "MatMul"]


@pytest.mark.parametrize(("shape", "left"), [((3,), []), ((70, 70), ["ConstantOfShape"])])
def test_a_few_integers_are_computed_before_hand(shape, left):
    """Exporters compute shapes with ConstantOfShape; one that makes many numbers stays."""
    out = ",".join(map(str, shape))
    nodes = "k = ConstantOfShape<value=int64[1] {2}>(s)  f = Cast<to=1>(k)  y = Mul(x, f)"
    body = f"net (float[{out}] x) => (float[{out}] y) {{ {nodes} }}"
    assert [op for op in ops(normal(net(body, s=ints(*shape)))) if op == "ConstantOfShape"] == left


def test_a_graph_output_keeps_its_node():
    body = "net (float[N,3] x) => (float[N,4] y, float[3,4] t) { t = Transpose(w)  y = MatMul(x, t) }"
    assert ops(normal(net(body, w=(4, 3)))) == ["Transpose", "MatMul"]


def test_what_bodies_read_is_seen():
    model = net(
        """net (float[3] x, bool c) => (float[3] y) {
            y = If(c) <then_branch = f () => (float[3] t) { t = Add(x, k) },
                          else_branch = g () => (float[3] u) { u = Neg(x) }>
        }""",
        k=(3,), unused=(3,),
    )  # fmt: skip
    assert {"x", "c", "k"} <= node_reads(model.graph.node[0])
    drop_unused_initializers(model.graph)
    assert [t.name for t in model.graph.initializer] == ["k"]


def test_a_layer_with_sparse_weights_stays_whole():
    """Sparse weights cannot be cut: what they tie is frozen with that reason, the rest shrinks."""
    model = net(
        """net (float[N,6] x) => (float[N,4] y) {
            a = MatMul(x, a_w)  ar = Relu(a)  b = MatMul(ar, b_w)  br = Relu(b)  c = MatMul(br, c_w)  cr = Relu(c)
            y = MatMul(cr, y_w)
        }""",
        a_w=(6, 12), c_w=(8, 10), y_w=(10, 4),
    )  # fmt: skip
    values = helper.make_tensor("v", TensorProto.FLOAT, [5], [1.0, -2.0, 3.0, 4.0, 5.0])
    positions = helper.make_tensor("p", TensorProto.INT64, [5], [1, 17, 40, 70, 95])
    sparse = helper.make_sparse_tensor(values, positions, [12, 8])
    model.graph.node.insert(0, helper.make_node("Constant", [], ["b_w"], sparse_value=sparse))
    result = twin_check(model, keep=0.5)
    reasons = {p.group.name: text(p.reason) for p in result.plans}
    assert reasons == {
        "a": "b_w (Constant) is stored sparse",
        "b": "b_w (Constant) is stored sparse",
        "c": None,
        "y": "y is a graph output",
    }
