"""Folding by the engine that runs models: the function stays, bit by bit."""

import re

import numpy as np
import onnx
import pytest
from architectures import ARCHITECTURES
from foldforms import FLOAT, FORMS, OTHER
from netkit import as_array, difference, engine, feeds, filled, ints, net, session
from onnx import TensorProto, helper, numpy_helper

from passes.interface.errors import RunError
from passes.shapes.tuning import SHAPES
from passes.transforms.canonicalize import canonicalize

RANDOM = ("RandomNormalLike", "Bernoulli", "Multinomial")
KEPT = (*RANDOM, "QuantizeLinear", "DequantizeLinear", "Expand", "Tile", "Range", "Pad", "Resize", "OneHot", "EyeLike",
        "Dropout", "NoSuchOp", "Foo")  # fmt: skip


def model_of(nodes, outputs, opset, dtype=np.float32, domains=("custom",)):
    """Nodes on the constants of `foldforms`, those of floats in the type ``dtype``."""
    imports = "".join(f', "{domain}" : 1' for domain in domains)
    header = f'<ir_version: 8, opset_import: ["" : {opset}{imports}]>'
    model = onnx.parser.parse_model(f"{header} net (float[N] x) => (float z) {{ {nodes} z = Identity(x) }}")
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    arrays = {**{n: a.astype(dtype) for n, a in FLOAT.items()}, **OTHER}
    read = {n for node in model.graph.node for n in node.input}
    model.graph.node.pop()
    return filled(model, {n: a for n, a in arrays.items() if n in read})


def values(model):
    try:
        return [as_array(v) for v in session(model).run(None, {"x": np.ones(1, np.float32)})]
    except Exception:
        return None


def ops(model):
    return [n.op_type for n in model.graph.node]


def same(one, two):
    for a, b in zip(one, two, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("form", dict.fromkeys(text for _, text in FORMS))
def test_a_form_of_an_op(form, dtype):
    op = re.match(r"(?:custom\.)?(\w+)", form)[1]
    stays = op in KEPT or form == "ConstantOfShape(few)"
    for opset in dict.fromkeys(n for numbers, text in FORMS if text == form for n in numbers):
        model = model_of(f"f = {form} y = Identity(f)", ["y"], opset, dtype)
        expected = values(model)
        folded = canonicalize(model, engine)
        if expected is None or stays:
            assert op in ops(folded)
        if expected is not None and op not in RANDOM:
            same(expected, values(folded))
            assert stays or ops(folded) == ["Identity"], opset


@pytest.mark.parametrize("seed", range(40))
def test_several_forms_at_once(seed):
    """One session computes them all; what cannot be computed stays, and with it what depends on it."""
    rng = np.random.default_rng(seed)
    opset = int(rng.choice([9, 11, 13, 17]))
    forms = [text for numbers, text in FORMS if opset in numbers]
    chosen = [forms[i] for i in rng.choice(len(forms), 12, replace=False)]
    sound = [f for f in chosen if values(model_of(f"f = {f} y = Identity(f)", ["y"], opset)) is not None]
    sound = [f for f in sound if not f.startswith(RANDOM)]
    broken = ["NoSuchOp(a)", "Gather(a, ends)", "MatMul(a, a)"]
    nodes, outputs = [], []
    for k, form in enumerate(rng.permutation([*sound, *broken])):
        nodes.append(f"f{k} = {form} g{k} = Identity(f{k}) y{k} = Identity(g{k})")
        outputs.append(f"y{k}")
    everything = model_of(" ".join(nodes), outputs, opset)
    folded = canonicalize(everything, engine)
    assert {"NoSuchOp", "Gather", "MatMul"} <= set(ops(folded))
    bad = [k for k, n in enumerate(everything.graph.node[::3]) if n.op_type == "NoSuchOp" or values_fail(n, opset)]
    for model in (everything, folded):
        lost = {n for k in bad for n in (f"f{k}", f"g{k}", f"y{k}")}
        for items in (model.graph.node, model.graph.output):
            for i in reversed(range(len(items))):
                name = items[i].output[0] if items is model.graph.node else items[i].name
                if name in lost:
                    del items[i]
    same(values(everything), values(folded))


def values_fail(node, opset):
    return (node.op_type, tuple(node.input)) in {("Gather", ("a", "ends")), ("MatMul", ("a", "a"))}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_normalised_architectures(name):
    model = ARCHITECTURES[name].model
    result = canonicalize(model, engine)
    assert difference(model, result) <= (0 if ARCHITECTURES[name].tolerance <= 1e-5 else ARCHITECTURES[name].tolerance)


def test_without_an_engine_nothing_is_computed():
    model = model_of("f = Transpose(a) g = Neg(f) y = Identity(g)", ["y"], 13)
    assert ops(canonicalize(model)) == ["Transpose", "Neg", "Identity"]


def test_one_session_computes_all():
    """Or two, where sizes show only in values; some more where a node fails."""
    counted = []

    def counting(model):
        counted.append(len(model.graph.node))
        return engine(model)

    many = " ".join(f"f{k} = Transpose(a) g{k} = Neg(f{k}) y{k} = Identity(g{k})" for k in range(50))
    canonicalize(model_of(many, [f"y{k}" for k in range(50)], 13), counting)
    assert counted == [100]
    counted.clear()
    canonicalize(model_of("f = NonZero(t) g = Transpose(f) h = Neg(g) y = Identity(h)", ["y"], 13), counting)
    assert counted == [1, 2]
    counted.clear()
    canonicalize(
        model_of(many + "e = Gather(a, ends) y = Identity(e)", ["y", *(f"y{k}" for k in range(50))], 13), counting
    )
    assert len(counted) <= 2 * 8  # halves of 101 nodes, down to the one that fails


def test_an_op_that_always_fails_is_not_tried_for_ever():
    tried = []

    def failing(model):
        tried.append(model)
        raise RunError("no kernel")

    nodes = " ".join(f"f{k} = Neg(a) y{k} = Identity(f{k})" for k in range(64))
    model = model_of(nodes, [f"y{k}" for k in range(64)], 13)
    assert canonicalize(model, failing).graph.node == model.graph.node
    assert len(tried) <= 6 + 4 * SHAPES.op_failures


def test_an_outer_product_is_not_even_tried():
    """A chain of small steps to a large tensor: its size is known before it is computed."""
    side = SHAPES.evaluated_elements

    def refusing(model):
        raise AssertionError("nothing is to be computed")

    model = net(f"net (float[N,{side}] x) => (float[N,{side}] y) {{ k = MatMul(a, b)  y = MatMul(x, k) }}",
                a=(side, 1), b=(1, side))  # fmt: skip
    assert ops(canonicalize(model, refusing)) == ["MatMul", "MatMul"]


def test_the_order_of_initializers_is_the_same_every_time():
    nodes = " ".join(f"f{k} = Transpose(a) y{k} = Identity(f{k})" for k in range(8))
    names = [t.name for t in canonicalize(model_of(nodes, [f"y{k}" for k in range(8)], 13), engine).graph.initializer]
    assert names == [f"f{k}" for k in range(8)]


def test_types_that_no_array_holds_stay_untouched():
    """Numbers of 4 and 8 bits, and strings, as they are stored; what is computed of them in other types is folded."""
    model = net(
        """net (float[N,4] x) => (float[N,4] y, float[N,4] z) {
            f = Cast<to=1>(q)  y = Add(x, f)  e = Cast<to=1>(small)  z = Add(x, e)
        }""",
        opset=21, ir_version=10,
    )  # fmt: skip
    model.graph.initializer.append(helper.make_tensor("q", TensorProto.INT4, [4], [-8, 1, 2, 7]))
    model.graph.initializer.append(helper.make_tensor("small", TensorProto.FLOAT8E4M3FN, [4], [0.5, 1, 2, 448]))
    result = canonicalize(model, engine)
    held = {t.name: numpy_helper.to_array(t) for t in result.graph.initializer}
    assert ops(result) == ["Add", "Add"]
    np.testing.assert_array_equal(held["f"], np.float32([-8, 1, 2, 7]))
    np.testing.assert_array_equal(held["e"], np.float32([0.5, 1, 2, 448]))


def test_strings_stay_computed():
    model = net("net (int64[N] x) => (string[N] y) { k = Concat<axis=0>(s, s)  y = Gather(k, x) }",
                s=np.array(["a", "b"], object))  # fmt: skip
    assert ops(canonicalize(model, engine)) == ["Concat", "Gather"]


def test_sequences_and_bodies_stay():
    model = net("""net (float[N,4] x) => (float[N,4] y) {
        q = SequenceConstruct(a, b)  f = SequenceAt(q, at)
        g = If(c) <then_branch = t () => (float[4] u) { u = Neg(f) }, else_branch = e () => (float[4] w) { w = Exp(f) }>
        y = Add(x, g)
    }""", a=(4,), b=(4,), at=np.array(0), c=np.array(True))  # fmt: skip
    assert ops(canonicalize(model, engine)) == ["SequenceConstruct", "SequenceAt", "If", "Add"]


def test_nodes_of_which_only_one_output_is_read():
    model = net("net (float[N,4] x) => (float[N,2] y) { v, i = TopK(a, k)  y = Gather<axis=1>(x, i) }",
                a=(4,), k=ints(2))  # fmt: skip
    result = canonicalize(model, engine)
    assert ops(result) == ["Gather"] and [t.name for t in result.graph.initializer] == ["i"]
    assert difference(model, result) == 0 and feeds(model)["x"].shape == (2, 4)
