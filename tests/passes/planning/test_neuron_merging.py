"""Removed channels go to the kept channel most like them, or are pruned with the reason."""

import numpy as np
import pytest
from netkit import compressed, feeds, net, run

from passes.settings.merge import MergeSettings

GEMM = "net (float[N,3] x) => (float[N,2] y) { a = Gemm<transB=1>(x, w, b)  r = Relu(a)  y = Gemm<transB=1>(r, v, c) }"
CONV = """net (float[N,3,6,6] x) => (float[N,2,6,6] y) {
    a = Conv(x, w, b)  r = Relu(a)  y = Conv(r, v, c)
}"""


def gemm(body=GEMM, **given):
    rng = np.random.default_rng(3)
    p = {
        k: rng.standard_normal(s).astype(np.float32)
        for k, s in {"w": (4, 3), "b": (4,), "v": (2, 4), "c": (2,)}.items()
    }
    p.update({k: np.asarray(v, np.float32) for k, v in given.items()})
    return net(body, **p)


ROWS = [[3, 0, 0], [0, 2, 0], [1, 0.1, 0], [0.1, 1, 0]]


def mixing(model, **settings):
    """Z of the first group, dense, and its plan."""
    plan = compressed(model, keep=0.5, **settings).plans[0]
    return next(iter(plan.mixing.values())).toarray(), plan


def test_fully_connected_rows_with_their_bias():
    bias = [0, 0, 0.5, -0.5]
    z, plan = mixing(gemm(w=ROWS, b=bias))
    rows = np.column_stack([ROWS, bias])
    norms = np.linalg.norm(rows, axis=1)
    assert plan.keep.tolist() == [0, 1] and plan.method == "merge"
    expected = [[1, 0], [0, 1], [norms[2] / norms[0], 0], [0, norms[3] / norms[1]]]
    np.testing.assert_allclose(z, expected, rtol=1e-6)


def test_the_bias_decides_between_parallel_rows():
    z, plan = mixing(gemm(w=[[3, 0, 0], [3, 0, 0], [1, 0, 0], [1, 0, 0]], b=[5, -5, 1, -1]))
    assert plan.keep.tolist() == [0, 1] and np.argmax(z[2]) == 0 and np.argmax(z[3]) == 1


def test_exact_multiples_are_found_with_their_scale():
    w = np.float32([[3, 1, 0], [0, 2, 1], [1.5, 0.5, 0], [0, 0.5, 0.25]])
    model = gemm(w=w, b=[1, -1, 0.5, -0.25])
    z, plan = mixing(model)
    np.testing.assert_allclose(z, [[1, 0], [0, 1], [0.5, 0], [0, 0.25]], rtol=1e-6)
    result = compressed(model, keep=0.5).model
    inputs = feeds(model, 5)
    np.testing.assert_allclose(run(result, inputs)[0], run(model, inputs)[0], rtol=1e-5, atol=1e-6)
    assert plan.method == "lossless"


@pytest.mark.parametrize(("threshold", "partners"), [(0.1, 2), (0.995, 1), (0.9999, 0)])
def test_below_the_threshold_channels_are_dropped(threshold, partners):
    rows = [[3, 0, 0], [0, 2, 0], [1, 0.05, 0], [0.2, 1, 0]]  # cosines 0.9988 and 0.981
    z, plan = mixing(gemm(w=rows, b=[0, 0, 0, 0]), merge=MergeSettings(threshold=threshold))
    assert np.count_nonzero(z[2:]) == partners
    assert plan.method == ("merge" if partners else "prune")
    assert plan.reason == (None if partners else f"pruned only: no kept channel has a cosine of {threshold:g} or more")


@pytest.mark.parametrize(
    ("node", "reason"),
    [("Clip(a, zero, six)", "no scale passes through r (Clip)"), ("Sigmoid(a)", "no scale passes through r (Sigmoid)")],
)
def test_what_passes_no_scale_is_named(node, reason):
    z, plan = mixing(gemm(GEMM.replace("Relu(a)", node), w=ROWS, zero=0, six=6))
    assert plan.reason == f"pruned only: {reason}" and plan.method == "prune"
    np.testing.assert_array_equal(z, np.eye(4)[:, plan.keep])


def test_prune_does_not_merge():
    z, plan = mixing(gemm(w=ROWS), method="prune")
    assert plan.method == "prune" and plan.reason is None
    np.testing.assert_array_equal(z, np.eye(4)[:, plan.keep])


def test_lambda_weighs_the_bias_of_convolutions():
    w = np.float32([[3, 0, 0], [3, 0.6, 0], [1, 0, 0], [0.9, 0.2, 0]])[:, :, None, None]
    p = dict(w=w, b=np.float32([3, 0, 0, 0]), v=(2, 4, 1, 1), c=(2,))
    by_angle, _ = mixing(net(CONV, **p), merge=MergeSettings(lam=1.0))
    by_bias, plan = mixing(net(CONV, **p), merge=MergeSettings(lam=0.0))
    assert plan.keep.tolist() == [0, 1]
    assert np.argmax(by_angle[2]) == 0 and np.argmax(by_bias[2]) == 1


NORMED = """net (float[N,3,6,6] x) => (float[N,5,6,6] y) {
    a = Conv(x, w)  n = BatchNormalization(a, n_scale, n_bias, n_mean, n_var)  r = ACTIVATION(n)  y = Conv(r, v, c)
}"""


@pytest.mark.parametrize("activation", ["Relu", "Sigmoid"])
def test_means_are_restored(activation):
    """The norm's statistics are those of the data: what the merge loses of the mean goes into the consumer's bias."""
    rng = np.random.default_rng(4)
    w = rng.standard_normal((12, 3, 1, 1)).astype(np.float32)
    inputs = {"x": rng.standard_normal((64, 3, 6, 6)).astype(np.float32)}
    made = np.einsum("oi,nihw->nohw", w[:, :, 0, 0], inputs["x"])
    p = dict(w=w, n_mean=made.mean((0, 2, 3)), n_var=made.var((0, 2, 3)), n_scale=(12,), n_bias=np.linspace(-1, 2, 12))
    p = {k: v.astype(np.float32) if isinstance(v, np.ndarray) else v for k, v in p.items()}
    model = net(NORMED.replace("ACTIVATION", activation), **p, v=(5, 12, 1, 1), c=(5,))
    result = compressed(model, keep=0.5)
    (plan,) = [plan for plan in result.plans if plan.shrinks]
    assert plan.constants and len(plan.keep) == 6
    with_means, before = run(result.model, inputs)[0].mean((0, 2, 3)), run(model, inputs)[0].mean((0, 2, 3))
    plan.constants.clear()
    without = run(result.twin(), inputs)[0].mean((0, 2, 3))
    error, other = np.abs(with_means - before).max(), np.abs(without - before).max()
    assert error < 0.2 * other


@pytest.mark.parametrize("sign", [1, -1])
def test_a_negative_factor_does_not_pass_a_relu(sign):
    """Parallel filters behind opposite depthwise weights: relu(-x) is no multiple of relu(x), so nothing is merged."""
    body = """net (float[N,3,5,5] x) => (float[N,2,5,5] y) {
        a = Conv(x, w)  d = Conv<group=4>(a, k)  r = Relu(d)  y = Conv(r, v)
    }"""
    w = np.array([[3, 0, 0], [0, 2, 0], [0, 0, 2], [0.3, 0, 0]], np.float32)
    p = {"w": w.reshape(4, 3, 1, 1), "v": np.arange(1, 9, dtype=np.float32).reshape(2, 4, 1, 1)}
    p["k"] = np.array([1, 1.5, 2, sign], np.float32).reshape(4, 1, 1, 1)
    plan = compressed(net(body, **p), keep=0.75).plans[0]
    assert plan.keep.tolist() == [0, 1, 2]
    np.testing.assert_allclose(plan.mixing["r"].toarray()[3], [0.1 if sign > 0 else 0, 0, 0], atol=1e-6)
    assert sign > 0 or (plan.method == "prune" and "no scale passes" in plan.reason)
