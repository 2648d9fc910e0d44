"""Reconstruction from samples: exact surgery, exact recovery of what is redundant, and no harm elsewhere."""

import numpy as np
import pytest
from architectures import ARCHITECTURES
from netkit import array_of, net, session

from passes.calibrated.reconstruct import Samples
from passes.calibrated.restandardise import restandardised, transfer
from passes.pipeline import CompressSettings, analyse, compress
from passes.shrink import Solution

NAMES = [
    "flatten-gemm", "nhwc", "prelu-pad", "eca", "grouped", "attention-separate", "einsum-attention",
    "dense", "depthwise", "inception", "residual",
]  # fmt: skip


def engine(model):
    loaded = session(model)
    names = {i.name for i in loaded.get_inputs()}
    outputs = [o.name for o in loaded.get_outputs()]
    return lambda feeds: dict(
        zip(outputs, loaded.run(None, {n: a for n, a in feeds.items() if n in names}), strict=True)
    )


def samples_for(model, count=24, seed=0, real=True, **options):
    rng = np.random.default_rng(seed)
    constants = {t.name for t in model.graph.initializer}
    feeds = {}
    for value in model.graph.input:
        if value.name not in constants:
            dims = [d.dim_value or count for d in value.type.tensor_type.shape.dim]
            feeds[value.name] = rng.standard_normal([count, *dims[1:]]).astype(np.float32)
    return Samples(feeds, real, engine, **options)


def reconstruct(model, keep=0.5, samples=None, **settings):
    samples = samples or samples_for(model)
    chosen = CompressSettings(keep=keep, method="reconstruct", select="auto", **settings)
    return compress(model, chosen, samples=samples)


def run(model, feeds):
    return np.concatenate([np.ravel(v) for v in engine(model)(feeds).values()])


@pytest.mark.parametrize("name", [n for n in NAMES if n in ARCHITECTURES])
def test_the_shrunk_model_equals_its_twin(name):
    model = ARCHITECTURES[name].model
    samples = samples_for(model)
    result = reconstruct(model, samples=samples)
    assert any(plan.method == "reconstruct" for plan in result.plans)
    a, b = run(result.model, samples.feeds), run(result.twin(), samples.feeds)
    np.testing.assert_allclose(a, b, atol=2e-5 * np.abs(b).max())


CHAIN = """net (float[N,6,8,8] x) => (float[N,5,8,8] y) {
    a = Conv(x, a_w, a_b)  ar = Relu(a)  b = Conv<pads=[1,1,1,1]>(ar, b_w, b_b)  br = Relu(b)  y = Conv(br, y_w, y_b)
}"""


def chain(**weights):
    sizes = dict(a_w=(12, 6, 1, 1), a_b=(12,), b_w=(16, 12, 3, 3), b_b=(16,), y_w=(5, 16, 1, 1), y_b=(5,))
    return net(CHAIN, **{**sizes, **weights})


def test_what_is_redundant_is_recovered():
    """Six channels are mixtures of six others that no Relu bends: no cosine shows that, samples do."""
    rng = np.random.default_rng(0)
    base = np.abs(rng.standard_normal((6, 6, 1, 1))).astype(np.float32)
    mixed = np.einsum("kc,cijl->kijl", np.abs(rng.standard_normal((6, 6))), base).astype(np.float32)
    model = chain(a_w=np.concatenate([base, mixed]), a_b=np.zeros(12, np.float32))
    samples = samples_for(model)
    samples.feeds["x"][:] = np.abs(samples.feeds["x"])
    before = run(model, samples.feeds)
    settings = dict(keep=1.0, keep_layers=(("^a$", 0.5),))
    after = run(reconstruct(model, samples=samples, **settings).model, samples.feeds)
    np.testing.assert_allclose(after, before, atol=2e-2 * np.abs(before).max())


@pytest.mark.parametrize("keep", [0.75, 0.5])
def test_it_comes_closer_than_a_merge(keep):
    model = chain()
    seen, new = samples_for(model, 64), samples_for(model, 64, seed=1).feeds
    before = run(model, new)
    error = {
        method: np.linalg.norm(
            run(compress(model, CompressSettings(keep=keep, method=method), samples=seen).model, new) - before
        )
        for method in ("merge", "reconstruct")
    }
    assert error["reconstruct"] < 0.8 * error["merge"]


def test_the_error_is_reported():
    result = reconstruct(chain())
    errors = {plan.group.name: plan.error for plan in result.plans}
    assert 0 < errors["a"] < 1 and errors["y"] is None
    assert 0 < result.solution.ware < 1
    assert compress(chain(), CompressSettings(keep=0.5)).solution.ware is None


def test_the_same_seed_gives_the_same_bits():
    one, two = (reconstruct(chain()).model.SerializeToString(deterministic=True) for _ in range(2))
    assert one == two


def test_planted_copies_merge_losslessly():
    rng = np.random.default_rng(3)
    half = rng.standard_normal((6, 6, 1, 1)).astype(np.float32)
    model = chain(a_w=np.concatenate([half, 2 * half]), a_b=np.zeros(12, np.float32))
    samples = samples_for(model)
    result = reconstruct(model, 1.0, samples, keep_layers=(("^a$", 0.5),))
    before = run(model, samples.feeds)
    np.testing.assert_allclose(run(result.model, samples.feeds), before, atol=1e-5 * np.abs(before).max())


def test_memory_bounds_the_samples():
    result = reconstruct(chain(), samples=samples_for(chain(), 64, memory=10**6))
    assert any("of 64 samples" in note for note in result.notes)


def test_too_few_samples_merge_by_weights():
    result = reconstruct(chain(), samples=samples_for(chain(), 1))
    assert "too few samples" in result.notes[-1]
    assert {plan.method for plan in result.plans} <= {"merge", "prune", "none"}


NORMED = """net (float[N,6,8,8] x) => (float[N,5,8,8] y) {
    a = Conv(x, a_w)  an = BatchNormalization(a, a_scale, a_bias, a_mean, a_var)  ar = Relu(an)
    b = Conv<pads=[1,1,1,1]>(ar, b_w)  bn = BatchNormalization(b, b_scale, b_bias, b_mean, b_var)  br = Relu(bn)
    y = Conv(br, y_w, y_b)
}"""
NORMED_SIZES = dict(a_w=(12, 6, 1, 1), b_w=(16, 12, 3, 3), y_w=(5, 16, 1, 1), y_b=(5,), **{
    f"{n}_{part}": (size,) for n, size in (("a", 12), ("b", 16)) for part in ("scale", "bias", "mean", "var")
})  # fmt: skip


class Stage:
    def __call__(self, name):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


def test_norms_standardise_by_the_samples():
    model = net(NORMED, **NORMED_SIZES)
    analysis = analyse(model, {}, None, Stage())
    feeds = samples_for(model, 32).feeds
    seen = restandardised(analysis.before, analysis.typing, [feeds], engine)
    probe = net(NORMED, **NORMED_SIZES)
    folded = seen.graph.model
    folded.graph.output.extend(type(probe.graph.output[0])(name=n) for n in ("an", "bn"))
    found = engine(folded)(feeds)
    for name, n in (("an", "a"), ("bn", "b")):
        values = found[name]
        np.testing.assert_allclose(values.mean((0, 2, 3)), array_of(model, f"{n}_bias"), atol=2e-3)
        np.testing.assert_allclose(values.std((0, 2, 3)), np.abs(array_of(model, f"{n}_scale")), rtol=2e-3)


def test_a_solution_that_changes_nothing_is_transferred_to_the_own_weights():
    model = net(NORMED, **NORMED_SIZES)
    analysis = analyse(model, {}, None, Stage())
    seen = restandardised(analysis.before, analysis.typing, [samples_for(model, 32).feeds], engine)
    node = next(n for n in seen.graph.nodes if "b_w" in n.inputs)
    same = Solution({"b_w": seen.graph.array("b_w")}, {(node.outputs[0], 2): seen.graph.array(node.inputs[2])})
    moved = transfer(same, seen, analysis.typing)
    np.testing.assert_allclose(moved.weights["b_w"], analysis.typing.graph.array("b_w"), rtol=1e-5)
    np.testing.assert_allclose(
        moved.biases[node.outputs[0], 2], analysis.typing.graph.array(node.inputs[2]), rtol=1e-4, atol=1e-5
    )


def test_synthetic_samples_of_a_normed_network():
    model = net(NORMED, **NORMED_SIZES)
    samples = samples_for(model, 64, real=False)
    result = reconstruct(model, samples=samples)
    a, b = run(result.model, samples.feeds), run(result.twin(), samples.feeds)
    np.testing.assert_allclose(a, b, atol=2e-5 * np.abs(b).max())
