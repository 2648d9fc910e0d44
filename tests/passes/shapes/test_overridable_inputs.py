"""Initializers that are inputs too: defaults that callers may override, or an exporter's habit."""

import numpy as np
import onnx
import pytest
from netkit import check, compressed, difference, engine, ints, net, run, shape_of, twin_check
from onnx import helper

from passes.axes.algebra import atoms
from passes.axes.inference import infer
from passes.cost.cost import samples_held
from passes.cost.multiplications import input_batches
from passes.graph.model import Graph
from passes.interface.reason import text
from passes.shapes.overridable_inputs import lists_all, overridable
from passes.transforms.canonicalize import canonicalize
from passes.transforms.cleanup import cleanup

BODY = """net (float[N,6] x, float[8] gain, float[1,5] style) => (float[N,3] y) {
    a = Gemm<transB=1>(x, a_w)  g = Mul(gain, two)  s = Mul(a, g)  r = Relu(s)
    b = Gemm<transB=1>(r, b_w)  e = Gemm<transB=1>(style, e_w)  m = Mul(b, e)  br = Relu(m)
    c = Gemm<transB=1>(br, c_w)  cr = Relu(c)  y = Gemm<transB=1>(cr, y_w)
}"""
WEIGHTS = {"a_w": (8, 6), "b_w": (10, 8), "e_w": (10, 5), "c_w": (12, 10), "y_w": (3, 12), "gain": (8,),
           "style": np.ones((1, 5), np.float32), "two": np.float32([2])}  # fmt: skip


def with_defaults(**more):
    return net(BODY, **{**WEIGHTS, **more})


def all_listed(model, but=()):
    """``model`` with every initializer among its inputs."""
    listed = {v.name for v in model.graph.input}
    for tensor in model.graph.initializer:
        if tensor.name not in listed and tensor.name not in but:
            model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return model


def test_which_can_be_overridden():
    model = with_defaults()
    assert overridable(model) == {"gain", "style"} and not lists_all(model)
    model.ir_version = 3
    assert overridable(model) == set() and lists_all(model)
    assert overridable(all_listed(with_defaults())) == set()
    assert overridable(all_listed(with_defaults(), but=["two"])) == WEIGHTS.keys() - {"two"}


def test_a_default_beside_weights_in_constant_nodes():
    """It is the only initializer, and yet not a weight that is listed by habit."""
    model = net("""net (float[N,3] x, float[3] gain) => (float[N,3] y) {
        w = Constant<value = float[4] {1, 2, 3, 4}>()  v = Reshape(w, s)  m = Mul(x, gain)  y = Add(m, k)
        s = Constant<value_ints = [2, 2]>()  k = Constant<value = float[3] {1, 2, 3}>()
    }""", gain=(3,))  # fmt: skip
    assert overridable(model) == {"gain"}
    assert overridable(canonicalize(model, engine)) == {"gain"}


def test_its_value_is_not_known():
    graph = Graph(canonicalize(with_defaults(), engine), engine=engine)
    assert graph.inputs == ["x", "gain", "style"]
    for name in ("gain", "g", "style", "e"):
        assert name not in graph.initializers and name not in graph.constants and not graph.knows(name)
    assert graph.knows("two")


def test_its_axes_stay_whole_for_that_reason():
    typing = infer(Graph(with_defaults(), engine=engine))
    for name in ("gain", "style"):
        assert {text(a.reason) for a in atoms(typing.axes[name][-1])} == {f"{name} may be overridden by callers"}


def given(model, **feeds):
    return run(model, {"x": np.random.default_rng(0).standard_normal((2, 6)).astype(np.float32), **feeds})


def test_it_can_still_be_given():
    model = with_defaults()
    model.graph.value_info.append(helper.make_tensor_value_info("a", onnx.TensorProto.FLOAT, ["N", 8]))
    result = twin_check(model, keep=0.5).model
    names = [v.name for v in model.graph.input]
    assert [v.name for v in result.graph.input] == names
    assert overridable(result) == {"gain", "style"}
    assert shape_of(result, "y_w") == (3, 6) and shape_of(result, "a_w") == (8, 6)
    lossless = compressed(model, keep=1.0).model
    feeds = {"gain": np.arange(8, dtype=np.float32), "style": np.float32([[1, -2, 3, 0, 2]])}
    for other in (lossless, canonicalize(model, engine)):
        np.testing.assert_array_equal(given(model, **feeds)[0], given(other, **feeds)[0])
    assert np.abs(given(model)[0] - given(model, **feeds)[0]).max() > 0.1


def test_a_default_that_nothing_reads_stays():
    model = net("net (float[N,3] x, float[2] spare) => (float[N,3] y) { k = Neg(w)  y = Mul(x, k) }",
                w=(3,), spare=(2,))  # fmt: skip
    assert [v.name for v in cleanup(canonicalize(model, engine)).graph.input] == ["x", "spare"]


@pytest.mark.parametrize("ir_version", [3, 4, 8])
def test_initializers_listed_by_habit_are_constants(ir_version):
    """They stay inputs where they have to be, before IR version 4, with their new shapes, as do those that the passes
    make. After it they are none, so that onnxruntime can prepare them for its kernels."""
    body = """net (float[N,6] x) => (float[N,3] y) {
        w = Transpose(a_w)  a = MatMul(x, w)  n = BatchNormalization(a, n_scale, n_b, n_mean, n_var)  r = Relu(n)
        k = Constant<value=float[1] {0.5}>()  h = Mul(r, k)  b = MatMul(h, b_w)  br = Relu(b)  y = MatMul(br, y_w)
    }"""
    norm = dict.fromkeys(["n_scale", "n_b", "n_mean", "n_var"], (12,))
    shapes = {"a_w": (12, 6), "b_w": (12, 10), "y_w": (10, 3), **norm}
    model = all_listed(net(body, opset=8 if ir_version == 3 else 9, ir_version=ir_version, **shapes))
    result = compressed(model, keep=0.5).model
    assert shape_of(result, "b_w") == (6, 5)
    listed = {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in result.graph.input}
    stored = {t.name: tuple(t.dims) for t in result.graph.initializer}
    assert listed == {"x": (0, 6), **(stored if ir_version < 4 else {})}
    check(result)
    assert difference(model, compressed(model, keep=1.0).model) == 0


def test_it_says_nothing_of_the_number_of_samples():
    graph = Graph(with_defaults(style=np.ones((1, 5), np.float32), gain=np.ones(1, np.float32)))
    assert [samples_held(graph)] == [batch.count for batch in input_batches(graph)] == [2]


@pytest.mark.parametrize("target", ["to", "t"])
def test_sizes_that_callers_decide(target):
    """What a Reshape is told by a default, or by what is computed from one, is not rewritten: its channels stay."""
    model = net(f"""net (float[N,6] x, int64[2] to) => (float[N,3] y) {{
        a = MatMul(x, a_w)  t = Mul(to, one)  s = Reshape(a, {target})  r = Relu(s)  y = MatMul(r, y_w)
    }}""", a_w=(6, 8), y_w=(8, 3), to=ints(-1, 8), one=ints(1))  # fmt: skip
    reason = f"s (Reshape) takes sizes from {target}, which callers may override"
    assert {p.group.name: text(p.reason) for p in compressed(model, keep=0.5).plans}["a"] == reason
