"""Groups that only linear layers and sums meet are projected on the best subspace, not cut to channels."""

import numpy as np
import pytest
from netkit import engine, net

from passes.pipeline import compress
from passes.samples.calibration_samples import CalibrationSamples
from passes.settings.compress import CompressSettings
from passes.surgery.apply_plan import unshrunk_twin

FORK = """net (float[N,10] x) => (float[N,6] y, float[N,7] z) {
    a = Gemm<transB=1>(x, a_w, a_b)  y = Gemm<transB=1>(a, y_w, y_b)  z = Gemm<transB=1>(a, z_w)
}"""
"""A narrow tensor with two readers, so that no pair of layers is refined."""

STREAM = """net (float[N,6,6,6] x) => (float[N,4,1,1] y) {
    a = Conv<pads=[1,1,1,1]>(x, a_w, a_b)  p = AveragePool<kernel_shape=[2,2],strides=[2,2]>(a)
    b = Conv(p, b_w, b_b)  br = Relu(b)  c = Conv<pads=[1,1,1,1]>(br, c_w)  s = Add(p, c)  t = Add(s, o)
    d = Conv<pads=[1,1,1,1]>(t, d_w, d_b)  dr = Relu(d)  g = GlobalAveragePool(dr)  y = Conv(g, y_w, y_b)
}"""
"""A residual stream that no activation reads, pooled, with a bias of its own."""


def fork(**weights):
    return net(FORK, **{**dict(a_w=(12, 10), a_b=(12,), y_w=(6, 12), y_b=(6,), z_w=(7, 12)), **weights})


def stream(**weights):
    sizes = dict(
        a_w=(12, 6, 3, 3), a_b=(12,), b_w=(10, 12, 1, 1), b_b=(10,), c_w=(12, 10, 3, 3), o=(12, 1, 1),
        d_w=(8, 12, 3, 3), d_b=(8,), y_w=(4, 8, 1, 1), y_b=(4,),
    )  # fmt: skip
    return net(STREAM, **{**sizes, **weights})


def normal(model, count, seed=0):
    """Samples of white noise."""
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim[1:]]
    return {"x": np.random.default_rng(seed).standard_normal([count, *shape]).astype(np.float32)}


def reconstruct(model, count=64, select="auto", real=True, **settings):
    """``model`` with half of the channels that layer a writes."""
    chosen = CompressSettings(keep=1.0, keep_layers=(("^an?$", 0.5),), method="reconstruct", select=select, **settings)
    return compress(model, chosen, samples=CalibrationSamples(normal(model, count), real, engine))


def run(model, feeds):
    return np.concatenate([np.ravel(v) for v in engine(model)(feeds).values()])


def only(result, name):
    return next(plan for plan in result.plans if plan.group.name == name)


def test_the_best_rank_is_reached():
    """For white inputs the least squared error of all models with a narrow layer of K is the tail of the squared
    singular values of the whole map (Eckart and Young, 1936)."""
    model = fork(a_b=np.zeros(12, np.float32), y_b=np.zeros(6, np.float32))
    weights = {t.name: np.frombuffer(t.raw_data, np.float32).reshape(t.dims) for t in model.graph.initializer}
    whole = np.concatenate([weights["y_w"], weights["z_w"]]) @ weights["a_w"]
    values = np.linalg.svd(whole)[1]
    result = reconstruct(model, 2000)
    assert len(only(result, "a").keep) == 6 and only(result, "a").projection is not None
    fresh = normal(model, 4000, seed=5)
    before, after = (engine(m)(fresh) for m in (model, result.model))
    error = sum(np.square(after[n] - before[n], dtype=np.float64).sum() for n in "yz") / 4000
    least = float(np.square(values[6:]).sum())
    assert 0.9 * least < error < 1.1 * least


@pytest.mark.parametrize("made", [fork, stream])
@pytest.mark.parametrize("draft", [False, True])
def test_the_projected_model_equals_its_twin(made, draft):
    model = made()
    result = reconstruct(model, draft=draft)
    plan = only(result, "a")
    assert plan.method == "reconstruct" and plan.projection.shape == (6, 12)
    whole, small, twin = (run(m, normal(model, 64)) for m in (model, result.model, result.twin()))
    np.testing.assert_allclose(small, twin, atol=2e-5 * np.abs(twin).max())
    assert np.square(small - whole).sum() < 0.7 * np.square(whole - whole.mean()).sum()


def test_losses_are_measured_with_the_writers_as_they_are():
    """The twin without solved weights projects where channels are read: what comes before them need not run again."""
    model = stream()
    result = reconstruct(model, draft=True)
    twin = unshrunk_twin(result.typing, [only(result, "a")])
    found = {t.name: t for t in twin.graph.initializer}
    before = {t.name: t for t in result.typing.graph.model.graph.initializer}
    assert all(found[name].raw_data == before[name].raw_data for name in ("a_w", "c_w", "o"))


@pytest.mark.parametrize(
    ("body", "sizes"),
    [
        ("r = Relu(a)  y = Gemm<transB=1>(r, y_w)", {}),
        ("r = PRelu(a, k)  y = Gemm<transB=1>(r, y_w)", {"k": (12,)}),
        ("r = Add(a, k)  y = Gemm<transB=1>(r, y_w)", {"k": (1,)}),
        ("m = Gemm<transB=1>(x, k)  r = Add(a, m)  y = Gemm<transB=1>(r, y_w)", {"k": (1, 10)}),
        ("r = Mul(a, a)  y = Gemm<transB=1>(r, y_w)", {}),
        ("r = Softmax(a)  y = Gemm<transB=1>(r, y_w)", {}),
    ],
)
def test_channels_that_something_else_meets_are_selected(body, sizes):
    model = net(
        f"net (float[N,10] x) => (float[N,6] y) {{ a = Gemm<transB=1>(x, a_w)  {body} }}",
        **{"a_w": (12, 10), "y_w": (6, 12), **sizes},
    )
    result = reconstruct(model)
    assert all(plan.projection is None for plan in result.plans)


def test_chosen_criteria_select_channels():
    result = reconstruct(fork(), select="l1")
    assert only(result, "a").shrinks and only(result, "a").projection is None


@pytest.mark.parametrize("real", [True, False])
def test_channels_stay_apart_where_norms_standardise_by_the_samples(real):
    """Such a solution is carried over to the model's own weights channel by channel, each with its own factor."""
    body = """net (float[N,6,6,6] x) => (float[N,4] y) {
        a = Conv<pads=[1,1,1,1]>(x, a_w)  an = BatchNormalization(a, a_s, a_o, a_m, a_var)
        b = Conv(an, b_w)  c = Conv(an, c_w)  br = Relu(b)  cr = Relu(c)  s = Concat<axis=1>(br, cr)
        g = GlobalAveragePool(s)  f = Flatten(g)  y = Gemm<transB=1>(f, y_w)
    }"""
    norm = {f"a_{k}": (12,) for k in ("s", "o", "m")}
    spread = np.float32(np.geomspace(1e-3, 1e3, 12))  # recorded on data with other spreads than the samples have
    model = net(body, a_w=(12, 6, 3, 3), a_var=spread, b_w=(8, 12, 1, 1), c_w=(8, 12, 1, 1), y_w=(4, 16), **norm)
    result = reconstruct(model, real=real)
    assert (only(result, "an").projection is not None) == real
    small, twin = (run(m, normal(model, 64)) for m in (result.model, result.twin()))
    np.testing.assert_allclose(small, twin, atol=2e-5 * np.abs(twin).max())
