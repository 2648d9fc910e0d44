"""Inputs whose first axes are not all the samples': the remedies that messages name work."""

import re

import numpy as np
import pytest
from chainnet import filled

from onnx_merge import optimize
from onnx_merge.errors import InputError
from onnx_merge.inputs.sample_axes import UNLIKE, unlike_axes
from onnx_merge.runtime.session import Session

HEAD = '<ir_version: 8, opset_import: ["" : 17]> g'
LAYERS = "f = MatMul(h, w)  r = Relu(f)  s = MatMul(r, v)"
REMEDY = r"--fix-shape (\w+):([\d,]+)"
SIZES = {"w": (6, 16), "v": (16, 8), "o": (8, 3)}
NETWORKS = {
    "a table of positions": filled(
        f"{HEAD} (int64[N,T] ids, int32[T] pos) => (float[N,T,3] y) {{"
        f" a = Gather(e, ids)  b = Gather(p, pos)  h = Add(a, b)  {LAYERS}  y = MatMul(s, o) }}",
        {**SIZES, "e": (30, 6), "p": (12, 6)},
    ),
    "sequence before batch": filled(
        f"{HEAD} (float[S,N,6] h, bool[N,S] mask) => (float[S,N,3] y) {{ {LAYERS}  c = Cast<to = 1>(mask)"
        " t = Transpose<perm = [1,0]>(c)  k = Constant<value_ints = [2]>()  u = Unsqueeze(t, k)  q = Mul(s, u)"
        " y = MatMul(q, o) }",
        SIZES,
    ),
    "a cache of fixed length": filled(
        f"{HEAD} (float[1,T,6] x, int64[T] pos, float[1,20,6] cache) => (float[1,20,3] y) {{"
        " k = Constant<value_ints = [1]>()  at = Unsqueeze(pos, k)  c = Transpose<perm = [1,0,2]>(cache)"
        f" n = Transpose<perm = [1,0,2]>(x)  u = ScatterND(c, at, n)  h = Transpose<perm = [1,0,2]>(u)  {LAYERS}"
        " y = MatMul(s, o) }",
        SIZES,
    ),
    "a graph": filled(
        f"{HEAD} (float[V,6] x, float[V,V] adj) => (float[V,3] y) {{ h = MatMul(adj, x)  {LAYERS}"
        " b = MatMul(adj, s)  y = MatMul(b, o) }",
        SIZES,
    ),
}


def test_runs_of_a_single_input_of_fixed_sizes_are_given_one_after_the_other():
    model = filled(f"{HEAD} (float[3,6] h) => (float[3,3] y) {{ {LAYERS} y = MatMul(s, o) }}", SIZES)
    x = np.random.default_rng(0).standard_normal((40, 3, 6)).astype(np.float32)
    with pytest.raises(InputError, match=r"shape \(N, 6\), not \(40, 3, 6\): join its first two axes$"):
        optimize(model, keep=0.5, calib={"h": x})
    assert optimize(model, keep=0.5, calib={"h": x.reshape(120, 6)})[1].fidelity is not None


@pytest.mark.parametrize("name", NETWORKS)
def test_without_samples(name):
    for options in ({}, {"method": "merge"}):
        _, found = optimize(NETWORKS[name], keep=0.6, effort="low", **options)
        assert any(group.status == "shrunk" for group in found.groups)
        assert any("each run of the model takes one sample" in line for line in found.notes)


@pytest.mark.parametrize("asked", [{}, {"h": (3, 1, 6)}])
def test_where_the_model_does_not_run_on_made_up_samples(asked):
    """A size of the example that the exporter ran is a constant: three steps, or as many in the batch."""
    text = f"{HEAD} (float[T,B,6] h, float[1,B,8] c) => (float y) {{ {LAYERS}  q = Add(s, c)"
    text += " k = Constant<value_ints = [3,-1,8]>()  z = Reshape(q, k)  y = ReduceMean<keepdims = 0>(z) }"
    model = filled(text, {name: SIZES[name] for name in "wv"})
    with pytest.raises(InputError, match=f"made-up samples .*{UNLIKE}: give .* --fix-shape") as refusal:
        optimize(model, keep=0.5, input_shape=asked)
    fixed = {n: tuple(map(int, s.split(","))) for n, s in re.findall(REMEDY, str(refusal.value))}
    assert set(fixed) == {"h", "c"} and fixed["h"][:2] == asked.get("h", fixed["h"])[:2]
    assert any(g.status == "shrunk" for g in optimize(model, keep=0.5, effort="low", fix_shape=fixed)[1].groups)


def test_with_samples(tmp_path):
    model, rng = NETWORKS["sequence before batch"], np.random.default_rng(0)
    for size in ((7, 40, 6), (40, 7, 6)):
        np.savez(tmp_path / "s.npz", h=rng.standard_normal(size).astype(np.float32), mask=np.ones((40, 7), bool))
        with pytest.raises(InputError, match=f"{UNLIKE}: .*--fix-shape"):
            optimize(model, keep=0.6, calib=tmp_path / "s.npz")
    np.savez(tmp_path / "s.npz", h=rng.standard_normal((7, 40, 6)).astype(np.float32), mask=np.ones((40, 7), bool))
    fixed = {"h": (7, 1, 6), "mask": (1, 7)}
    assert optimize(model, keep=0.6, effort="low", calib=tmp_path / "s.npz", fix_shape=fixed)[1].fidelity.real


def test_one_graph_whose_rows_were_given_as_samples():
    one = {"x": np.ones((30, 6), np.float32), "adj": np.eye(30, dtype=np.float32)}
    with pytest.raises(InputError, match=rf"{UNLIKE}: give .*, or samples for each run, x \(samples, V, 6\)"):
        optimize(NETWORKS["a graph"], keep=0.6, calib=one)


def test_sequences_beside_one_state_of_each():
    """(steps, samples, features) and (1, samples, units), with the sizes of one sample fixed."""
    inputs = "float[T,N,6] h, float[1,N,8] c"
    net = filled(f"{HEAD} ({inputs}) => (float[T,N,3] y) {{ {LAYERS} q = Add(s, c)  y = MatMul(q, o) }}", SIZES)
    rng = np.random.default_rng(0)
    arrays = {"h": rng.standard_normal((7, 40, 6), np.float32), "c": rng.standard_normal((1, 40, 8), np.float32)}
    apart = {"h": np.moveaxis(arrays["h"], 1, 0)[:, :, None], "c": np.moveaxis(arrays["c"], 1, 0)[:, :, None]}
    fixed = {"h": (7, 1, 6), "c": (1, 1, 8)}
    found = [optimize(net, keep=0.6, effort="low", calib=given, fix_shape=fixed) for given in (arrays, apart)]
    assert [result.fidelity.samples for _, result in found] == [16, 16]
    assert found[0][0].graph == found[1][0].graph


def test_ordinary_inputs():
    for inputs in ("float[N,6] x, float[N,T] z", "float[?,6] x, float[?,T] z", "float[2,N,6] x, float[N,T] z"):
        model = filled(f"{HEAD} ({inputs}) => (float y) {{ y = Identity(x) }}", {})
        assert not unlike_axes(Session(model).inputs)
