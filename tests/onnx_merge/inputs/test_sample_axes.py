"""Inputs whose first axes are not all the samples': the remedies that messages name work."""

import re

import numpy as np
import pytest
from chainnet import filled

from onnx_merge import optimize
from onnx_merge.errors import InputError, OnnxMergeError
from onnx_merge.inputs.sample_axes import UNLIKE, unlike_axes
from onnx_merge.runtime.session import Session

HEAD = '<ir_version: 8, opset_import: ["" : 17]> g'
LAYERS = "f = MatMul(h, w)  r = Relu(f)  s = MatMul(r, v)"
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
    with pytest.raises(OnnxMergeError, match=f"{UNLIKE}: give --method merge, .* --fix-shape") as refusal:
        optimize(NETWORKS[name], keep=0.6)
    fixed = {n: tuple(map(int, s.split(","))) for n, s in re.findall(r"--fix-shape (\w+):([\d,]+)", str(refusal.value))}
    for remedy in ({"method": "merge"}, {"fix_shape": fixed, "effort": "low"}):
        assert any(group.status == "shrunk" for group in optimize(NETWORKS[name], keep=0.6, **remedy)[1].groups)


def test_with_samples(tmp_path):
    model, rng = NETWORKS["sequence before batch"], np.random.default_rng(0)
    for size in ((7, 40, 6), (40, 7, 6)):
        np.savez(tmp_path / "s.npz", h=rng.standard_normal(size).astype(np.float32), mask=np.ones((40, 7), bool))
        with pytest.raises(InputError, match=f"{UNLIKE}: fix the sizes of one with --fix-shape"):
            optimize(model, keep=0.6, calib=tmp_path / "s.npz")
    np.savez(tmp_path / "s.npz", h=rng.standard_normal((7, 40, 6)).astype(np.float32), mask=np.ones((40, 7), bool))
    fixed = {"h": (7, 1, 6), "mask": (1, 7)}
    assert optimize(model, keep=0.6, effort="low", calib=tmp_path / "s.npz", fix_shape=fixed)[1].fidelity.real


def test_ordinary_inputs():
    for inputs in ("float[N,6] x, float[N,T] z", "float[?,6] x, float[?,T] z", "float[2,N,6] x, float[N,T] z"):
        model = filled(f"{HEAD} ({inputs}) => (float y) {{ y = Identity(x) }}", {})
        assert not unlike_axes(Session(model).inputs)
