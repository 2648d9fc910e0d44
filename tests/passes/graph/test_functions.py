"""Local functions, some of which import another opset than the model."""

import onnx
import onnx.parser
import pytest
from netkit import check, difference, engine, filled, twin_check
from onnx.reference import ReferenceEvaluator

from passes.axes.algebra import atoms
from passes.axes.inference import infer
from passes.graph.functions import why_called
from passes.graph.model import Graph
from passes.interface.reason import text
from passes.transforms.canonicalize import canonicalize

NET = "net (float[N,6] x) => (float[N,4] y) { a = pkg.Block(x, a_w)  b = pkg.Block(a, b_w)  y = MatMul(b, y_w) }"
WEIGHTS = {"a_w": (6, 12), "b_w": (12, 10), "y_w": (10, 4)}


def model_of(functions, body=NET, opset=18, ir_version=9, **weights):
    header = f'<ir_version: {ir_version}, opset_import: ["" : {opset}, "pkg" : 1]>'
    return filled(onnx.parser.parse_model(f"{header} {body} {functions}"), weights or WEIGHTS)


def block(nodes, opset, more=""):
    return f'<domain: "pkg", opset_import: ["" : {opset}, "pkg" : 1]> Block (x, w) => (y) {{ {nodes} }} {more}'


def ops(model):
    return [n.op_type for n in model.graph.node]


@pytest.mark.parametrize(
    ("nodes", "opset", "model_opset"),
    [
        ("h = MatMul(x, w)  y = Relu(h)", 17, 18),
        ("h = MatMul(x, w)  y = Relu(h)", 18, 17),  # nothing changed between
        ("h = MatMul(x, w)  y = Relu(h)", 13, 21),  # Relu takes more types from 14 on
        ("h = MatMul(x, w)  g = Identity(h)  y = Relu(g)", 13, 21),
    ],
)
def test_ops_that_mean_the_same(nodes, opset, model_opset):
    model = model_of(block(nodes, opset), opset=model_opset)
    result = canonicalize(model, engine)
    assert "Block" not in ops(result) and not result.functions
    assert difference(model, result) == 0
    shrunk = twin_check(model, keep=0.5).model
    assert {tuple(t.dims) for t in shrunk.graph.initializer} == {(6, 6), (6, 5), (5, 4)}


@pytest.mark.parametrize(
    ("nodes", "opset", "model_opset", "differs"),
    [
        ("h = MatMul(x, w)  m = ReduceMean<axes=[1]>(h)  y = Sub(h, m)", 17, 18, "ReduceMean"),
        ("h = MatMul(x, w)  y = Softmax(h)", 11, 13, "Softmax"),
        ("h = MatMul(x, w)  y = Relu(h)", 21, 13, "Relu"),  # downward, fewer types are taken
    ],
)
def test_ops_that_differ_stay_calls(nodes, opset, model_opset, differs):
    model = model_of(block(nodes, opset), opset=model_opset)
    result = canonicalize(model, engine)
    assert ops(result) == ["Block", "Block", "MatMul"] and [f.name for f in result.functions] == ["Block"]
    where = f"ai.onnx opset {opset}, the model is at {model_opset}"
    reason = f"is a function at {where}, and {differs} differs between them"
    assert why_called(model, "pkg", "Block") == reason
    typing = infer(Graph(result))
    assert {text(a.reason) for a in atoms(typing.axes["b_w"][0])} == {f"b (Block) {reason}"}


def test_a_function_inside_another():
    """The one called is inlined where the model calls it, and kept where a function that stays does."""
    inner = '<domain: "pkg", opset_import: ["" : 17]> Act (x) => (y) { y = Relu(x) }'
    functions = inner + block("h = MatMul(x, w)  r = pkg.Act(h)  m = ReduceMean<axes=[1]>(r)  y = Sub(r, m)", 17)
    body = NET.replace("y = MatMul(b, y_w)", "c = pkg.Act(b)  y = MatMul(c, y_w)")
    model = model_of(functions, body)
    result = canonicalize(model, engine)
    assert ops(result) == ["Block", "Block", "Relu", "MatMul"]
    assert sorted(f.name for f in result.functions) == ["Act", "Block"]
    assert difference(model, result, start=ReferenceEvaluator) == 0  # onnxruntime takes the model's opset for all
    same = model_of(block("h = MatMul(x, w)  y = pkg.Act(h)", 17, inner))
    assert ops(canonicalize(same, engine)) == ["MatMul", "Relu"] * 2 + ["MatMul"]


def test_attributes_of_a_call():
    functions = """<domain: "pkg", opset_import: ["" : 13]>
        Block <slope: float = 0.3> (x, w) => (y) { h = MatMul(x, w)  y = LeakyRelu<alpha: float = @slope>(h) }"""
    model = model_of(functions, NET.replace("pkg.Block(a, b_w)", "pkg.Block<slope=0.5>(a, b_w)"), opset=15)
    result = canonicalize(model, engine)
    assert [round(n.attribute[0].f, 3) for n in result.graph.node if n.op_type == "LeakyRelu"] == [0.3, 0.5]
    assert difference(model, result) == 0


def test_a_call_inside_a_branch():
    functions = block("h = MatMul(x, w)  y = Relu(h)", 17)
    body = """net (float[N,6] x, bool c) => (float[N,4] y) {
        b = If(c) <then_branch = f () => (float[N,12] t) { t = pkg.Block(x, a_w) },
                   else_branch = e () => (float[N,12] u) { u = MatMul(x, a_w) }>
        y = MatMul(b, y_w)
    }"""
    model = model_of(functions, body, a_w=(6, 12), y_w=(12, 4))
    result = canonicalize(model, engine)
    assert not result.functions
    assert difference(model, result) == 0


def test_overloads():
    one = block("h = MatMul(x, w)  y = Relu(h)", 17)
    model = model_of(one, ir_version=10)
    other = model.functions.add()
    other.CopyFrom(model.functions[0])
    other.overload = "smooth"
    other.node[1].op_type = "Sigmoid"
    model.graph.node[1].overload = "smooth"
    result = canonicalize(model, engine)
    assert ops(result) == ["MatMul", "Relu", "MatMul", "Sigmoid", "MatMul"]


def test_a_domain_that_only_the_function_imports():
    functions = """<domain: "pkg", opset_import: ["" : 18, "ai.onnx.ml" : 3]>
        Block (x, w) => (y) { h = MatMul(x, w)  y = ai.onnx.ml.Scaler<offset=[1.0], scale=[2.0]>(h) }"""
    model = model_of(functions)
    result = canonicalize(model, engine)
    assert "Scaler" in ops(result)
    check(result)
    assert difference(model, result) == 0
