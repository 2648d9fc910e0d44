"""Residual streams that norms read: mixtures take the place of the channels, and the norms go on as before."""

import numpy as np
import pytest
from netkit import engine, net

from passes.pipeline import compress
from passes.samples.calibration_samples import CalibrationSamples
from passes.settings.compress import CompressSettings

BLOCK = """
    n{0} = {1}(x{0}, s{0}{2})  u{0} = MatMul(n{0}, u_w{0})  ub{0} = Add(u{0}, u_b{0})  r{0} = Relu(ub{0})
    d{0} = MatMul(r{0}, d_w{0})  db{0} = Add(d{0}, d_b{0})  x{3} = Add(x{0}, db{0})
"""
WIDTH, HIDDEN, TOKENS = 12, 18, 20


def prenorm(op="LayerNormalization<axis=-1, epsilon=0.01>", biased=True, head="", opset=23, **weights):
    """An embedding with a table of positions, two blocks of an MLP behind a norm, and a norm before the last layer."""
    bias = [f", o{k}" if biased else "" for k in range(3)]
    blocks = "".join(BLOCK.format(k, op, bias[k], k + 1) for k in range(2))
    last = f"n2 = {op}(x2, s2{bias[2]})  {head or 'y = MatMul(n2, y_w)'}"
    sizes = dict(table=(TOKENS, WIDTH), places=(5, WIDTH), y_w=(WIDTH, 7), **{f"s{k}": (WIDTH,) for k in range(3)})
    for k in range(2):
        sizes |= {f"u_w{k}": (WIDTH, HIDDEN), f"u_b{k}": (HIDDEN,), f"d_w{k}": (HIDDEN, WIDTH), f"d_b{k}": (WIDTH,)}
    sizes |= {f"o{k}": (WIDTH,) for k in range(3)} if biased else {}
    body = f"net (int64[N,5] x) => (float[] y) {{ e = Gather(table, x)  x0 = Add(e, places) {blocks} {last} }}"
    return net(body, opset, 11, **{**sizes, **weights})


def tokens(count, seed=0):
    return {"x": np.random.default_rng(seed).integers(0, TOKENS, (count, 5))}


def reconstruct(model, kept=0.5, allocation="uniform", **settings):
    """``model`` with a share ``kept`` of the stream's channels."""
    chosen = CompressSettings(
        keep=1.0, keep_layers=(("^e$", kept),), method="reconstruct", select="auto", allocation=allocation, **settings
    )
    return compress(model, chosen, samples=CalibrationSamples(tokens(64), True, engine))


def run(model, feeds):
    return engine(model)(feeds)["y"]


def only(result, name):
    return next(plan for plan in result.plans if plan.group.name == name)


RMS = "RMSNormalization<axis=-1, epsilon=0.01>"
KINDS = [("LayerNormalization<axis=-1, epsilon=0.01>", True), ("LayerNormalization", False), (RMS, False)]


@pytest.mark.parametrize(("op", "biased"), KINDS)
@pytest.mark.parametrize("draft", [False, True])
def test_the_projected_model_equals_its_twin(op, biased, draft):
    model = prenorm(op, biased)
    result = reconstruct(model, draft=draft)
    plan = only(result, "e")
    assert plan.method == "reconstruct" and plan.projection.shape == (6, 12)
    shapes = {t.name: t.dims for t in result.model.graph.initializer}
    assert [*shapes["table"]] == [TOKENS, 6] and [*shapes["s1"]] == [6] and [*shapes["u_w0"]] == [6, HIDDEN]
    whole, small, twin = (run(m, tokens(64)) for m in (model, result.model, result.twin()))
    np.testing.assert_allclose(small, twin, atol=2e-5 * np.abs(twin).max())
    assert np.square(small - whole).sum() < 0.7 * np.square(whole - whole.mean()).sum()


@pytest.mark.parametrize(("op", "biased"), KINDS)
def test_a_stream_of_few_dimensions_loses_nothing(op, biased):
    """All that is written lies in five dimensions, beside a mean that LayerNormalization takes away: six channels hold
    them, and the outputs are the same without any layer solved."""
    rng = np.random.default_rng(3)
    centred = op != RMS
    basis = rng.standard_normal((5 if centred else 6, WIDTH)).astype(np.float32)
    written = {"table": (TOKENS,), "places": (5,), "d_w0": (HIDDEN,), "d_w1": (HIDDEN,), "d_b0": (), "d_b1": ()}
    planted = {}
    for name, lead in written.items():
        mean = rng.standard_normal((*lead, 1)) if centred else 0
        planted[name] = np.float32(rng.standard_normal((*lead, len(basis))) @ basis + mean)
    model = prenorm(op, biased, **planted)
    result = reconstruct(model, draft=True)
    assert len(only(result, "e").keep) == 6
    whole, small = (run(m, tokens(64, seed=5)) for m in (model, result.model))
    np.testing.assert_allclose(small, whole, atol=1e-4 * np.abs(whole).max())
