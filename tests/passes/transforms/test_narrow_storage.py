"""Weights that a model stores in float16 and casts to float32 stay in float16, and are cut and merged nevertheless."""

import ml_dtypes
import numpy as np
import onnx
import pytest
from netcase import conv, norm
from netkit import array_of, compressed, engine, net, random_weight, shape_of, twin_check
from onnx import TensorProto

from onnx_merge import optimize
from passes.transforms.canonicalize import canonicalize

TYPES = {"float16": (TensorProto.FLOAT16, np.float16), "bfloat16": (TensorProto.BFLOAT16, ml_dtypes.bfloat16)}
CONV = """net (float[N,3,8,8] x) => (float[N,10] y) {
    aw = Cast<to=1>(a_w)  ab = Cast<to=1>(a_b)  a = Conv<pads=[1,1,1,1]>(x, aw, ab)  ar = Relu(a)
    bw = Cast<to=1>(b_w)  bb = Cast<to=1>(b_b)  b = Conv<pads=[1,1,1,1]>(ar, bw, bb)  br = Relu(b)
    p = GlobalAveragePool(br)  f = Flatten(p)  gw = Cast<to=1>(g_w)  gt = Transpose<perm=[1,0]>(gw)  y = MatMul(f, gt)
}"""
SHAPES = {**conv("a", 64, 3, 3, 3), **conv("b", 64, 64, 3, 3), "g_w": (10, 64)}
NORM = """net (float[N,3,8,8] x) => (float[N,10,6,6] y) {
    aw = Cast<to=1>(a_w)  a = Conv(x, aw)  an = BatchNormalization(a, n_scale, n_bias, n_mean, n_var)  ar = Relu(an)
    bw = Cast<to=1>(b_w)  y = Conv(ar, bw)
}"""
TIED = """net (int64[N,5] i) => (float[N,5,50] y) {
    t = Cast<to=1>(t_w)  e = Gather(t, i)  a = MatMul(e, a_w)  ar = Relu(a)  b = MatMul(ar, b_w)
    u = Cast<to=1>(t_w)  v = Transpose<perm=[1,0]>(u)  y = MatMul(b, v)
}"""


def half(text, shapes, type_="float16", single=()):
    """A model with weights in a narrow type, except the ``single`` ones."""
    dtype = TYPES[type_][1]
    weights = {k: random_weight(k, shape) for k, shape in shapes.items()}
    return net(text, **{k: w if k in single else w.astype(dtype) for k, w in weights.items()})


def types(model):
    return {t.name: t.data_type for t in model.graph.initializer}


@pytest.mark.parametrize("type_", TYPES)
def test_merged_weights_stay_in_their_type(type_):
    model = half(CONV, SHAPES, type_)
    result = twin_check(model, keep=0.5, coupled=False)
    assert [p.reason for p in result.plans if p.shrinks] == [None, None]
    assert types(result.model) == types(model)
    assert [shape_of(result.model, name) for name in ("a_w", "b_w")] == [(32, 3, 3, 3), (32, 32, 3, 3)]
    assert result.model.ByteSize() < 0.4 * model.ByteSize()
    assert not any("\x00" in t.doc_string for t in result.model.graph.initializer)


def test_pruning_takes_the_bits_as_they_are():
    model = half(CONV, SHAPES)
    result = compressed(model, keep=0.5, method="prune")
    (plan,) = [p for p in result.plans if p.group.name == "a"]
    np.testing.assert_array_equal(array_of(result.model, "a_w"), array_of(model, "a_w")[plan.keep])


def test_norms_are_folded_into_rounded_weights():
    shapes = {"a_w": (64, 3, 3, 3), "b_w": (10, 64, 1, 1), **norm("n", 64)}
    model = half(NORM, shapes, single=norm("n", 64))
    result = twin_check(model, keep=0.5)
    assert {name: types(result.model)[name] for name in ("a_w", "b_w")} == dict.fromkeys(("a_w", "b_w"), 10)
    assert not any(node.op_type == "BatchNormalization" for node in result.model.graph.node)
    np.testing.assert_array_equal(array_of(result.model, "b_w").shape, (10, 32, 1, 1))


def test_what_rounds_to_nothing_stays_in_the_wide_type():
    """A norm that makes weights so small that float16 has no digits for them."""
    small = {**{k: random_weight(k, s) for k, s in norm("n", 64).items()}}
    small["n_scale"] = np.full(64, 1e-6, np.float32)
    wide = {k: random_weight(k, s).astype(np.float16) for k, s in {"a_w": (64, 3, 3, 3), "b_w": (10, 64, 1, 1)}.items()}
    result = twin_check(net(NORM, **wide, **small), keep=0.5)
    assert {*types(result.model).values()} == {TensorProto.FLOAT, TensorProto.FLOAT16}


def test_two_casts_of_tied_weights_stay_tied():
    model = half(TIED, {"t_w": (50, 128), "a_w": (128, 64), "b_w": (64, 128)}, single=("a_w", "b_w"))
    folded = canonicalize(model, engine)
    assert sum(t.data_type == TensorProto.FLOAT and t.dims[0] == 50 for t in folded.graph.initializer) <= 1
    result = twin_check(model, keep=0.5)
    assert types(result.model)["t_w"] == TensorProto.FLOAT16
    assert result.model.ByteSize() < model.ByteSize()


def test_what_is_computed_from_casts_does_not_grow():
    """The product of a cast and a scale has more digits than float16."""
    text = """net (float[N,128] x) => (float[N,128] y) {
        w = Cast<to=1>(w16)  s = Mul(w, scale)  y = MatMul(x, s)
    }"""
    model = half(text, {"w16": (128, 128), "scale": (128,)}, single=("scale",))
    assert "Mul" in [n.op_type for n in canonicalize(model, engine).graph.node]


def test_weights_in_bodies_of_control_flow():
    text = """net (float[N,64] x, bool c) => (float[N,8] y) {
        y = If(c) <
            then_branch = t () => (float[N,8] ty) {
                ta = MatMul(x, a)  tr = Relu(ta)  ty = MatMul(tr, b)
            }, else_branch = e () => (float[N,8] ey) { ey = MatMul(x, e) }
        >
    }"""
    model = net(text, a=(64, 128), b=(128, 8), e=(64, 8))
    wide = model.graph.initializer
    for tensor in wide:
        array = onnx.numpy_helper.to_array(tensor).astype(np.float16)
        model.graph.node.insert(0, onnx.helper.make_node("Cast", [f"{tensor.name}16"], [tensor.name], to=1))
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, f"{tensor.name}16"))
    result = twin_check(model, keep=0.5)
    assert result.shrinks
    inner = [t for a in result.model.graph.node[-1].attribute for t in a.g.initializer]
    assert {t.data_type for t in (*result.model.graph.initializer, *inner)} == {TensorProto.FLOAT16}
    assert result.model.ByteSize() < 0.7 * model.ByteSize()


def test_old_models_that_list_their_weights():
    model = half(CONV, SHAPES)
    model.ir_version = 3
    for tensor in model.graph.initializer:
        model.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    result = compressed(model, keep=0.5).model
    listed = {v.name: v.type.tensor_type.elem_type for v in result.graph.input}
    assert listed == {"x": TensorProto.FLOAT, **types(result)}


def test_a_lossless_run_halves_equal_channels():
    weights = {k: random_weight(k, shape).astype(np.float16) for k, shape in SHAPES.items()}
    weights["a_w"][32:], weights["a_b"][32:] = weights["a_w"][:32], weights["a_b"][:32]
    model = net(CONV, **weights)
    smaller, result = optimize(model, lossless=True)
    assert shape_of(smaller, "a_w") == (32, 3, 3, 3)
    assert types(smaller) == types(model) and result.after.bytes < 0.7 * result.before.bytes
