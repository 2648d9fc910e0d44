"""Targets are met, or refused with the nearest that can be reached and what may help."""

import numpy as np
import pytest
from allocatekit import NETS, compressed, costs, drafted, kept, left, model_of
from netkit import engine, net, observer
from normkit import postnorm, tokens

from passes.allocation.allocator import TargetError
from passes.allocation.losses import Losses
from passes.pipeline import compress
from passes.samples.calibration_samples import CalibrationSamples
from passes.settings.blocks import Blocks
from passes.settings.compress import CompressSettings
from passes.settings.target import Target


@pytest.mark.parametrize("allocation", ["auto", "uniform"])
@pytest.mark.parametrize("ratio", [0.99, 0.6, 0.3, 0.1])
@pytest.mark.parametrize("name", NETS)
def test_targets_are_met(name, ratio, allocation):
    model = model_of(name)
    for kind in ("macs", "params"):
        settings = dict(target=Target(kind, ratio), allocation=allocation, method="merge")
        try:
            result = compressed(model, samples=False, **settings)
        except TargetError as error:
            assert allocation == "uniform" and "the nearest that can be reached is" in str(error)
        else:
            assert left(model, result, kind) == pytest.approx(ratio, rel=0.01)


@pytest.mark.parametrize("kind", ["macs", "params"])
@pytest.mark.parametrize("name", NETS)
def test_targets_are_met_by_what_is_solved_anew(name, kind):
    """Also where that gives layers a bias that had none."""
    model = model_of(name)
    assert left(model, compressed(model, target=Target(kind, 0.5)), kind) == pytest.approx(0.5, rel=0.01)


def test_a_target_of_everything_leaves_everything():
    for kind in ("macs", "params"):
        for allocation in ("auto", "uniform"):
            result = compressed(model_of(), target=Target(kind, 1.0), allocation=allocation)
            assert not result.shrinks and result.model == model_of()


NORMED = """net (float[N,6,6,6] x) => (float[N,5,6,6] y) {
    a = Conv(x, a_w)  n = BatchNormalization(a, n_scale, n_bias, n_mean, n_var)  r = Relu(n)  y = Conv(r, y_w)
}"""
NORMED_SIZES = dict(a_w=(80, 6, 1, 1), **{f"n_{part}": (80,) for part in ("scale", "bias", "mean", "var")},
                    y_w=(5, 80, 1, 1))  # fmt: skip


@pytest.mark.parametrize("ratio", [1.0, 0.7, 0.5])
def test_parameters_that_folding_frees_count(ratio):
    model = net(NORMED, **NORMED_SIZES)
    assert costs(model)[1] == 80 * (6 + 4 + 5)
    result = compressed(model, samples=False, target=Target("params", ratio), method="merge")
    assert left(model, result, "params") == pytest.approx(ratio, rel=0.01)


@pytest.mark.parametrize("allocation", ["auto", "uniform"])
def test_a_target_that_is_too_far_names_the_least(allocation):
    model = model_of()
    least = drafted(model, keep=1e-9, allocation="uniform")
    assert set(kept(least).values()) == {1}
    with pytest.raises(TargetError) as caught:
        drafted(model, target=Target("macs", 1e-6), allocation=allocation)
    assert f"target-macs 1e-06 cannot be met: the least that can be reached is {left(model, least):.4f}" in str(
        caught.value
    )


@pytest.mark.parametrize("allocation", ["auto", "uniform"])
def test_where_everything_is_excluded(allocation):
    assert not drafted(model_of(), keep=0.5, exclude=(".",), allocation=allocation).shrinks
    with pytest.raises(TargetError, match=r"the least that can be reached is 1\.0000: exclude less"):
        drafted(model_of(), target=Target("macs", 0.5), exclude=(".",), allocation=allocation)


@pytest.mark.parametrize("allocation", ["auto", "uniform"])
def test_a_model_without_multiply_adds(allocation):
    model = net("net (float[N,3] x) => (float[N,3] y) { y = Relu(x) }")
    assert not compressed(model, samples=False, keep=0.5, allocation=allocation).shrinks
    with pytest.raises(TargetError, match="target-macs 0.5 cannot be met: .* no multiply-adds"):
        compressed(model, samples=False, target=Target("macs", 0.5), allocation=allocation)


def test_what_blocks_keep_from_a_target_may_be_reached_without():
    for blocks in (Blocks(16), Blocks(8)):
        with pytest.raises(TargetError, match="the least .* multiples of .*: `blocks` 1 or auto may come nearer"):
            drafted(model_of(), target=Target("macs", 0.03), blocks=blocks)


@pytest.mark.parametrize("allocation", ["auto", "uniform"])
def test_one_group(allocation):
    model = net("net (float[N,6] x) => (float[N,5] y) { a = Gemm(x, a_w) r = Relu(a) y = Gemm(r, y_w) }",
                a_w=(6, 100), y_w=(100, 5))  # fmt: skip
    for ratio in (0.01, 0.25, 0.99):
        found = kept(drafted(model, target=Target("macs", ratio), allocation=allocation))
        assert found == {"a": 100 * ratio}
    assert kept(drafted(model, keep=0.37)) == {"a": 37}


THREE = net("net (float[N,6] x) => (float[N,5] y) { a = Gemm(x, a_w) r = Relu(a) y = Gemm(r, y_w) }",
            a_w=(6, 3), y_w=(3, 5))  # fmt: skip
"""One group: of its multiply-adds a third, two thirds or all can be left."""


def refused(ratio, **settings):
    with pytest.raises(TargetError) as caught:
        drafted(THREE, target=Target("macs", ratio), **settings)
    return str(caught.value), caught.value.nearest


def test_a_target_between_two_widths_names_the_nearest():
    said = "target-macs 0.6 cannot be met: the nearest that can be reached is 0.6667"
    assert refused(0.6) == (said, pytest.approx(2 / 3))
    assert refused(0.6, allocation="uniform") == (
        f"{said} with the same share everywhere: `allocation` auto may come nearer", pytest.approx(2 / 3),
    )  # fmt: skip


@pytest.mark.parametrize("allocation", ["auto", "uniform"])
def test_only_the_least_that_is_above_the_target_is_no_size_to_try(allocation):
    said = "cannot be met: the least that can be reached is 0.3333"
    assert refused(0.3, allocation=allocation) == (f"target-macs 0.3 {said}", None)
    assert refused(0.35, allocation=allocation) == (f"target-macs 0.35 {said}", pytest.approx(1 / 3))
    assert refused(0.3, allocation="auto", blocks=Blocks(2, strict=False)) == (f"target-macs 0.3 {said}", None)


@pytest.mark.parametrize("allocation", ["auto", "uniform"])
def test_narrow_groups(allocation):
    """Of one channel there is none; of two or three, one can stay."""
    body = "a = Gemm(x, a_w) b = Gemm(a, b_w) c = Gemm(b, c_w) y = Gemm(c, y_w)"
    sizes = dict(a_w=(6, 1), b_w=(1, 2), c_w=(2, 3), y_w=(3, 5))
    model = net(f"net (float[N,6] x) => (float[N,5] y) {{ {body} }}", **sizes)
    assert kept(drafted(model, target=Target("macs", 13 / 29), allocation=allocation)) == {"b": 1, "c": 1}
    for size in (2, 3, 4, 8):
        result = drafted(model, keep=0.5, allocation=allocation, blocks=Blocks(size, strict=False))
        assert all(1 <= width <= 3 for width in kept(result).values())


def test_blocks_give_way_where_a_target_needs_it():
    result = drafted(model_of(), target=Target("macs", 0.03), blocks=Blocks(16, strict=False))
    assert left(model_of(), result) == pytest.approx(0.03, rel=0.01)
    assert result.allocation.block < result.allocation.asked == 16


@pytest.mark.parametrize("kind", ["macs", "params"])
def test_a_target_that_residual_streams_miss_is_met_without_them(kind, monkeypatch):
    """Even with nothing lost where they are cut: they have three widths here."""
    monkeypatch.setattr(
        Losses, "of", lambda _, groups: {g.name: np.linspace(not g.normalised, 0, g.size + 1) ** 2 for g in groups}
    )
    model, samples = postnorm(hidden=200), CalibrationSamples(tokens(64), True, engine)
    blocks = dict(blocks=Blocks(4), effort="low", allocation="auto", select="auto", method="reconstruct")
    result = compress(
        model, CompressSettings(target=Target(kind, 0.8), **blocks), observer, samples=samples, engine=engine
    )
    assert left(model, result, kind) == pytest.approx(0.8, rel=0.01)
