"""The search for the smallest size within a limit: on synthetic measures, and on the loss of a trained model."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnx.parser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnx_merge.calibration.array_files import evenly_spaced_rows
from onnx_merge.calibration.splits import held_rows
from onnx_merge.compression import job, size_search
from onnx_merge.compression.optimize import optimize
from onnx_merge.compression.size_search import NoChannelRemovedError, Trial, _bisect, _refined
from onnx_merge.config.options import Options
from onnx_merge.errors import NotCompressibleError
from onnx_merge.evaluation.comparison import comparison_with
from onnx_merge.evaluation.drops import Drop
from onnx_merge.latency.channel_block import ChannelBlock
from onnx_merge.runtime.providers import CPU
from onnx_merge.runtime.session import Session
from onnx_merge.tuning.compression import SIZE_SEARCH
from passes.cost.cost import cost
from passes.graph.model import Graph
from passes.settings.compress import CompressSettings
from passes.transforms.canonicalize import canonicalize

MODELS = Path(__file__).parents[3] / "models"
DIGITS, LABELS, CALIB = (MODELS / name for name in ("digits_cnn.onnx", "digits_test.npz", "digits_calib.npz"))
PLAIN = dict(method="merge", align=1)
"""Without the time that solving and probing take."""
SOLVED = dict(align=1, allocation="uniform", calib_samples=64)


def bisect(value, limit, rising, start=None, stop=None):
    """Trials over sizes of which ``value`` is made up; None: the model cannot shrink that far."""

    def attempt(size):
        assert 0 < size < 1
        found = value(size)
        if found is None:
            raise NotCompressibleError("it cannot shrink that far")
        return Trial(size, found, None, None)

    close = (
        (lambda v: abs(v - limit) <= SIZE_SEARCH.latency_deviation * limit)
        if rising
        else (lambda v: limit - SIZE_SEARCH.drop_points <= v <= limit)
    )
    return _bisect(attempt, limit, rising=rising, start=start or (limit if rising else 0.5), stop=stop or close)


@settings(deadline=None, max_examples=60)
@given(limit=st.floats(0.05, 0.95), power=st.floats(0.3, 3))
def test_a_rising_value_is_met(limit, power):
    tried = bisect(lambda size: size**power, limit, True)
    assert len(tried) <= SIZE_SEARCH.trials
    assert (
        abs(tried[-1].value - limit) <= SIZE_SEARCH.latency_deviation * limit
        or abs(tried[-1].size - limit ** (1 / power)) <= SIZE_SEARCH.resolution
    )


@settings(deadline=None, max_examples=60)
@given(limit=st.floats(0.0, 50), power=st.floats(0.5, 4))
def test_a_falling_value_is_met_from_below(limit, power):
    tried = bisect(lambda size: 100 * (1 - size) ** power, limit, False)
    assert len(tried) <= SIZE_SEARCH.trials
    best = min((t.size for t in tried if t.value <= limit), default=1.0)
    crossing = 1 - (limit / 100) ** (1 / power)
    assert (
        crossing <= best <= crossing + 2 * SIZE_SEARCH.resolution
        or limit - SIZE_SEARCH.drop_points <= tried[-1].value <= limit
    )


@settings(deadline=None, max_examples=60)
@given(least=st.floats(0.1, 0.9), limit=st.floats(0.05, 0.95))
def test_sizes_that_cannot_be_reached(least, limit):
    tried = bisect(lambda size: size if size >= least else None, limit, True)
    assert len(tried) <= SIZE_SEARCH.trials and all(t.size >= least for t in tried)
    if limit > least + 2 * SIZE_SEARCH.resolution:
        assert abs(tried[-1].value - limit) <= SIZE_SEARCH.latency_deviation * limit
    if tried:
        assert (
            min(t.size for t in tried)
            <= max(limit * (1 + SIZE_SEARCH.latency_deviation), least + 2 * SIZE_SEARCH.resolution)
            + SIZE_SEARCH.resolution
        )


def test_nothing_can_be_reached():
    assert bisect(lambda size: None, 0.5, True) == bisect(lambda size: None, 1.0, False) == []


@settings(deadline=None, max_examples=60)
@given(limit=st.floats(0, 30), step=st.floats(0.05, 0.95))
def test_a_plateau_is_left_at_its_end(limit, step):
    """Nothing is lost down to ``step``, and too much below."""
    tried = bisect(lambda size: 0.0 if size > step else 50.0, limit, False, stop=lambda value: False)
    assert len(tried) <= SIZE_SEARCH.trials
    kept = [t.size for t in tried if t.value <= limit]
    assert min(kept, default=1.0) - step <= 0.15


def test_smaller_sizes_are_tried_where_the_first_removes_nothing():
    def attempt(size):
        if size > 0.6:
            raise NoChannelRemovedError("no channel goes")
        return Trial(size, size, None, None)

    tried = _bisect(attempt, 0.5, rising=True, start=0.9, stop=lambda value: abs(value - 0.5) <= 0.05)
    assert tried and abs(tried[-1].value - 0.5) <= 0.05


def test_it_ends_as_soon_as_it_is_close_enough():
    assert [t.size for t in bisect(lambda size: size, 0.3, True)] == [0.3]
    assert [t.size for t in bisect(lambda size: 1.0, 1.1, False)] == [0.5]
    assert len(bisect(lambda size: size, 0.3, True, start=0.9, stop=lambda value: False)) <= SIZE_SEARCH.trials


def share_of_macs(before, after):
    macs = [cost(Graph(canonicalize(model))).macs for model in (before, after)]
    return macs[1] / macs[0]


def accuracy(model, rows):
    held = np.load(LABELS)
    outputs = Session(model, CPU).run({"input": held["input"][rows]})["logits"]
    return 100 * (outputs.argmax(1) == held["labels"][rows]).mean()


def test_a_drop_of_accuracy_is_kept_to():
    model, result = optimize(DIGITS, max_drop=2, labels=LABELS, **SOLVED)
    rows = held_rows(500, 436, 0)
    assert result.accuracy.after == pytest.approx(accuracy(model, rows)) and result.accuracy.samples == 436
    assert result.accuracy.before - result.accuracy.after <= 2 and result.after.macs < 0.9 * result.before.macs
    assert result.fidelity.fitted == 64 and not result.fidelity.in_sample and not result.fidelity.fitted_made_up
    assert any("the 436 labelled samples that were held out" in note for note in result.notes)


def test_all_labelled_samples_are_measured_on_where_nothing_is_fitted():
    model, result = optimize(DIGITS, max_drop=2, labels=LABELS, **PLAIN)
    assert result.accuracy.after == pytest.approx(accuracy(model, slice(None))) and result.accuracy.samples == 500
    assert result.fidelity.fitted is None


def test_labels_are_not_parted_where_there_are_other_samples():
    _, result = optimize(DIGITS, max_drop=5, labels=LABELS, calib=CALIB, calib_samples=64, **PLAIN)
    assert result.accuracy.samples == 500
    assert any(note.endswith("points are lost on the labelled samples, which chose the size") for note in result.notes)


def test_without_labels_classes_are_to_stay():
    model, result = optimize(DIGITS, max_drop=2, calib=CALIB, **SOLVED)
    held = np.load(CALIB)["input"][evenly_spaced_rows(256, 128)][held_rows(128, 64, 0)]
    before, after = (Session(m, CPU).run({"input": held})["logits"].argmax(1) for m in (onnx.load(DIGITS), model))
    assert 100 * (before != after).mean() <= 2 and result.accuracy is None
    assert any("points are lost on the 64 samples that were held out" in note for note in result.notes)


def test_weights_alone_and_a_drop_on_labels():
    _, result = optimize(DIGITS, max_drop=5, labels=LABELS, calib="none", align=1)
    assert result.accuracy.before - result.accuracy.after <= 5 and result.ware is None


def test_a_drop_without_samples_is_measured_on_made_up_ones():
    _, result = optimize(DIGITS, max_drop=10, calib_samples=32, **PLAIN)
    assert any("points are lost on the 32 made-up samples that were held out" in note for note in result.notes)
    assert result.fidelity.source.startswith("calib synthetic") and result.fidelity.top1_agreement >= 0.7


def test_what_is_solved_on_is_not_what_is_measured_on():
    options = Options.make(dict(max_drop=1.0, labels=LABELS))
    comparison = comparison_with(onnx.load(DIGITS), options, CPU)
    solved, measured = comparison.samples.fitted().feeds["input"], comparison.samples.measured.feeds["input"]
    whole, rows = np.load(LABELS)["input"], held_rows(500, 250, 0)
    np.testing.assert_array_equal(measured, whole[rows])
    np.testing.assert_array_equal(solved, np.delete(whole, rows, 0))


def made_up(monkeypatch, value):
    """Let the share of the multiply-adds that is left decide what is lost."""
    before = onnx.load(DIGITS)

    def measure(comparison):
        return Drop(lambda result: value(share_of_macs(before, result.model)), "points are lost")

    monkeypatch.setattr(size_search, "drop_measure", measure)


def test_a_drop_that_cannot_be_kept_to(monkeypatch, tmp_path):
    made_up(monkeypatch, lambda share: 10 * (1 - share) + 0.5 * (share < 1))
    with pytest.raises(
        NotCompressibleError, match=r"max-drop 0 cannot be met: .* points are lost, at \d+% of the mul"
    ) as e:
        optimize(DIGITS, tmp_path / "out.onnx", max_drop=0, calib=CALIB, **PLAIN)
    assert e.value.exit_code == 4 and not list(tmp_path.iterdir())


def test_the_smallest_model_that_keeps_to_the_drop(monkeypatch):
    made_up(monkeypatch, lambda share: 10 * (1 - share))
    _, result = optimize(DIGITS, max_drop=5, calib=CALIB, **PLAIN)
    assert 0.5 - 1e-9 <= result.after.macs / result.before.macs <= 0.5 + SIZE_SEARCH.drop_points / 10


@pytest.fixture
def proportional(monkeypatch):
    """Latency that goes with the multiply-adds, above what nothing takes away."""
    asked = []

    def ratio(before, after, *rest, base=0.2, **options):
        asked.append(base + (1 - base) * share_of_macs(before, after))
        return asked[-1]

    monkeypatch.setattr(size_search, "latency_ratio", ratio)
    return asked


@pytest.mark.parametrize("target", [0.3, 0.5, 0.9])
def test_a_latency_is_met(proportional, target):
    _, result = optimize(DIGITS, target_latency=target, **PLAIN)
    reached = 0.2 + 0.8 * result.after.macs / result.before.macs
    assert reached == pytest.approx(target, rel=SIZE_SEARCH.latency_deviation) and proportional[-1] == pytest.approx(
        reached
    )
    assert len(proportional) <= SIZE_SEARCH.trials
    assert any(f"{len(proportional)} sizes were timed" in note for note in result.notes)


@pytest.mark.parametrize("target", [0.4, 0.5, 0.6, 0.7, 0.8])
def test_a_latency_is_met_where_kernels_like_blocks(proportional, monkeypatch, target):
    """Multiples of the block come near enough to most sizes, but it is the latency that is asked for."""
    monkeypatch.setattr(job, "preferred_block", lambda *_, **__: ChannelBlock(16, "made up"))
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[N,64] x) => (float[N,10] y) {
        a = MatMul(x, u)  b = Relu(a)  c = MatMul(b, v)  d = Relu(c)  y = MatMul(d, w) }"""
    model = onnx.parser.parse_model(text)
    for name, shape in (("u", (64, 96)), ("v", (96, 160)), ("w", (160, 10))):
        array = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    _, result = optimize(model, target_latency=target, method="merge")
    assert 0.2 + 0.8 * result.after.macs / result.before.macs == pytest.approx(
        target, rel=SIZE_SEARCH.latency_deviation
    )


def test_a_latency_that_cannot_be_met(proportional):
    with pytest.raises(
        NotCompressibleError, match=r"target-latency 0\.1 cannot be met: 0\.2\d* of it is the least"
    ) as caught:
        optimize(DIGITS, target_latency=0.1, **PLAIN)
    assert caught.value.exit_code == 4


def test_a_model_that_cannot_shrink(proportional):
    with pytest.raises(NotCompressibleError, match="cannot be met: the model cannot shrink that far"):
        optimize(DIGITS, target_latency=0.5, exclude=".", **PLAIN)
    with pytest.raises(NotCompressibleError, match="cannot be met: the model cannot shrink that far"):
        optimize(DIGITS, max_drop=5, exclude=".", calib=CALIB, **PLAIN)


def coarse(channels, beside):
    """A network of one group of ``channels``, and as many multiply-adds as ``beside`` channels that must stay."""
    text = f"""<ir_version: 8, opset_import: ["" : 17]> g (float[N,16] x) => (float[N,{beside}] y, float[N,5] z) {{
        y = MatMul(x, u)  a = MatMul(x, v)  b = Relu(a)  z = MatMul(b, w) }}"""
    model = onnx.parser.parse_model(text)
    for name, shape in (("u", (16, beside)), ("v", (16, channels)), ("w", (channels, 5))):
        array = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return model


@pytest.fixture
def fates(monkeypatch):
    """What became of every size that was tried, in turn."""
    found, shrunk = [], size_search._shrunk

    def recording(*arguments):
        try:
            found.append("shrunk")
            return shrunk(*arguments)
        except NotCompressibleError as error:
            found[-1] = type(error).__name__
            raise

    monkeypatch.setattr(size_search, "_shrunk", recording)
    return found


# Sizes that can be reached: 0.876, 1 of (2, 8), and 0.669, 0.835, 1 of (3, 4).
@pytest.mark.parametrize(
    ("channels", "beside", "limit", "reached"),
    [(2, 8, 0.995, 0.876), (3, 4, 0.995, 0.835), (3, 4, 0.97, 0.835), (3, 4, 0.9, 0.835)],
)
def test_a_latency_is_kept_to_where_the_first_size_removes_nothing(
    proportional, fates, channels, beside, limit, reached
):
    _, result = optimize(coarse(channels, beside), target_latency=limit, **PLAIN)
    assert result.after.macs / result.before.macs == pytest.approx(reached, abs=1e-3)
    assert fates[0] in ("NoChannelRemovedError", "SizeGapError")


def test_a_drop_is_kept_to_where_few_sizes_can_be_reached(monkeypatch, fates):
    """Only 0.802 and 1 can; the first sizes lie below, the next between both."""
    model = coarse(2, 4)

    def measure(comparison):
        return Drop(lambda result: 10 * (1 - share_of_macs(model, result.model)), "points are lost")

    monkeypatch.setattr(size_search, "drop_measure", measure)
    _, result = optimize(model, max_drop=2, **PLAIN)
    assert result.after.macs / result.before.macs == pytest.approx(0.802, abs=1e-3)
    assert fates[:2] == ["NotCompressibleError", "NotCompressibleError"] and "SizeGapError" in fates
    with pytest.raises(NotCompressibleError, match=r"max-drop 1 cannot be met: 1\.98 points are lost"):
        optimize(model, max_drop=1, **PLAIN)


def test_nothing_goes_at_a_share_that_every_group_rounds_up():
    with pytest.raises(NotCompressibleError, match="the groups are too small to lose a channel at this share") as e:
        optimize(coarse(3, 4), keep=0.99, **PLAIN)
    assert e.value.exit_code == 4
    with pytest.raises(NotCompressibleError, match="use a smaller one, in --keep-layer too"):
        optimize(coarse(3, 4), keep=0.5, keep_layer={".*": 1.0}, **PLAIN)


def test_the_whole_latency_is_no_search(proportional):
    _, result = optimize(DIGITS, target_latency=1, **PLAIN)
    assert not proportional and result.after.macs == result.before.macs


@pytest.mark.parametrize(("after", "taken"), [(0.5, "medium"), (1.0, "medium"), (1.5, "low")])
def test_the_size_found_at_low_effort_is_refined_if_that_loses_no_more(after, taken):
    """``after``: the drop at the effort that was asked for, beside 1 before."""
    settings = CompressSettings(method="reconstruct", effort="medium")
    asked = SimpleNamespace(settings=settings, compress=lambda settings: settings.effort)
    best = Trial(0.5, 1.0, "low", replace(settings, effort="low"))
    found = _refined(asked, best, SimpleNamespace(of=lambda made: after))
    assert found.compressed == found.settings.effort == taken and found.value == min(after, 1.0)


@pytest.mark.parametrize("asked", [{"method": "reconstruct"}, {"method": "merge", "effort": "medium"}])
def test_what_is_not_refined_is_not_made_again(asked):
    best = Trial(0.5, 1.0, "low", CompressSettings(method=asked["method"]))
    assert _refined(SimpleNamespace(settings=CompressSettings(**asked)), best, None) is best
