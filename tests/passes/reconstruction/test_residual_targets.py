"""Layers correct the error of what their output is added to, also behind a Concat."""

import numpy as np
import pytest
from netkit import engine, net
from unitkit import Quiet

from passes.analysis.analyse import analyse
from passes.pipeline import compress
from passes.samples.calibration_samples import CalibrationSamples
from passes.settings.compress import CompressSettings
from passes.statistics.linear_layers import solvable_layers

BRANCH = "d = Gemm<transB=1>(x, d_w, d_b)  e = Gemm<transB=1>(x, e_w, e_b)"
SIZES = dict(a_w=(9, 8), s_w=(6, 9), d_w=(3, 8), d_b=(3,), e_w=(3, 8), e_b=(3,), y_w=(5, 6))


def residual(branch=BRANCH, joined="c = Concat<axis=1>(d, e)  t = Add(s, c)", **more):
    """Layer a loses channels, so that s has an error; d and e read all that it takes to correct it."""
    body = f"""net (float[N,8] x) => (float[N,5] y) {{
        a = Gemm<transB=1>(x, a_w)  s = Gemm<transB=1>(a, s_w)  {branch}  {joined}
        r = Relu(t)  y = Gemm<transB=1>(r, y_w)
    }}"""
    return net(body, **{**SIZES, **more})


def error_of(model):
    """Squared error of the outputs over their variance, with a third of the channels of layer a."""
    samples = {"x": np.random.default_rng(0).standard_normal((256, 8)).astype(np.float32)}
    settings = CompressSettings(keep=1.0, keep_layers=(("^a$", 1 / 3),), method="reconstruct", select="auto")
    result = compress(model, settings, samples=CalibrationSamples(samples, True, engine))
    assert len(result.plans[0].keep) == 3
    before, after = (engine(m)(samples)["y"] for m in (model, result.model))
    return float(np.square(after - before).sum() / np.square(before - before.mean(0)).sum())


@pytest.mark.parametrize(
    ("branch", "joined"),
    [
        (BRANCH, "c = Concat<axis=1>(d, e)  t = Add(s, c)"),
        (BRANCH, "c = Concat<axis=-1>(e, d)  t = Sum(c, s)"),
        (BRANCH, "f = Add(d, e)  c = Concat<axis=1>(d, f)  t = Add(s, c)"),
    ],
)
def test_what_a_concat_is_added_to_is_corrected(branch, joined):
    assert error_of(residual(branch, joined)) < 1e-3


@pytest.mark.parametrize(
    ("branch", "joined"),
    [
        (BRANCH, "c = Concat<axis=1>(d, e)  q = Relu(c)  t = Add(s, q)"),
        (BRANCH, "c = Concat<axis=1>(d, e)  p = Add(s, c)  t = Mul(c, p)"),
        (
            f"{BRANCH}  f = Relu(d)  g = Relu(e)",
            "h = Concat<axis=1>(f, g)  p = Add(s, h)  c = Concat<axis=1>(d, e)  t = Mul(c, p)",
        ),
    ],
)
def test_nothing_is_corrected_where_something_else_reads_the_output(branch, joined):
    typing = analyse(residual(branch, joined), (), None, Quiet()).typing
    assert not any(layer.around for layer in solvable_layers(typing).values())


def test_the_part_of_the_channels_is_that_of_the_concat():
    typing = analyse(residual(), (), None, Quiet()).typing
    found = {layer.node.label: layer.around for layer in solvable_layers(typing).values() if layer.around}
    assert {name: [(one.name, one.before, one.axis) for one in around] for name, around in found.items()} == {
        "d": [("s", (), 1)],
        "e": [("s", ("d",), 1)],
    }
