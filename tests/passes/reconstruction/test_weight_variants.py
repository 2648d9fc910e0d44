"""The layers' outputs in the original are kept for the solver if there is memory for them."""

import pickle

import numpy as np
import pytest
from architectures import ARCHITECTURES
from netkit import engine, feeds, net, observer
from unitkit import Quiet

from passes.analysis.analyse import analyse
from passes.pipeline import compress
from passes.reconstruction.weight_variant import WeightVariant
from passes.reconstruction.weight_variants import WeightVariants
from passes.samples.calibration_samples import CalibrationSamples
from passes.settings.compress import CompressSettings
from passes.settings.statistics_tuning import MemoryTuning
from passes.settings.tuning import Tuning
from passes.statistics.linear_layers import solvable_layers
from passes.statistics.segmented_execution import Recording, SegmentedRun

CHAIN = """net (float[N,6,8,8] x) => (float[N,5,8,8] y) {
    a = Conv<pads=[1,1,1,1]>(x, a_w)  ar = Relu(a)  b = Conv(ar, b_w)  s = Add(a, b)  y = Conv(s, y_w)
}"""
SIZES = dict(a_w=(12, 6, 3, 3), b_w=(12, 12, 1, 1), y_w=(5, 12, 1, 1))
BYTES = 4 * (12 + 12 + 5) * 8 * 8
"""Of a, b and y, for each sample."""


def variant_of(model, room):
    """A variant of eight samples in two batches that has been asked what they show."""
    found = analyse(model, (), observer, Quiet(), engine)
    variant = WeightVariant(found.typing, [feeds(model, 4, seed) for seed in (1, 2)], engine, room)
    variant.channel_statistics([group for group in found.groups if not group.frozen])
    return variant


@pytest.mark.parametrize(("room", "kind"), [(8 * BYTES, Recording), (8 * BYTES - 1, SegmentedRun)])
def test_it_is_kept_where_there_is_room(room, kind):
    assert type(variant_of(net(CHAIN, **SIZES), room).original()) is kind


@pytest.mark.parametrize("name", ["residual", "grouped", "attention-separate", "nhwc"])
def test_another_process_records_the_same_values(name):
    """They are not sent, and are rounded as here."""
    variant = variant_of(ARCHITECTURES[name].model, np.inf)
    sent = pickle.loads(pickle.dumps(variant))
    assert sent._targets is None
    for here, there in zip(variant.original().live, sent.original().live, strict=True):
        assert here.keys() == there.keys()
        for tensor, value in here.items():
            np.testing.assert_array_equal(there[tensor], value)


@pytest.mark.parametrize("name", ["residual", "grouped", "attention-separate", "nhwc"])
def test_it_is_what_the_layers_gave(name):
    variant = variant_of(ARCHITECTURES[name].model, np.inf)
    kept = variant.original()
    assert type(kept) is Recording
    flow = SegmentedRun(variant.typing.graph.model, variant.feeds, engine)
    for layer in solvable_layers(variant.typing).values():
        wanted = (layer.output, *layer.others)
        for exact, live in zip(flow.record(wanted).live, kept.live, strict=True):
            for tensor in wanted:
                np.testing.assert_array_equal(exact[tensor], live[tensor])
        flow = SegmentedRun(variant.typing.graph.model, variant.feeds, engine)


def test_the_result_is_the_same_without():
    model = net(CHAIN, **SIZES)
    settings = CompressSettings(keep=0.5, method="reconstruct", select="auto")
    rng = np.random.default_rng(0)
    samples = CalibrationSamples({"x": rng.standard_normal((16, 6, 8, 8)).astype(np.float32)}, True, engine)
    kept, without = (
        compress(model, settings, samples=samples, tuning=Tuning(memory=memory)).model
        for memory in (MemoryTuning(), MemoryTuning(recorded_share=0.0))
    )
    assert without.SerializeToString() == kept.SerializeToString()


BATCH = 8
FIXED = CHAIN.replace("[N,", f"[{BATCH},")


def of_fixed_batch(count, real=True, memory=2 * 10**9):
    """A reconstruction from so many samples of a model whose batch is fixed, and the samples."""
    rng = np.random.default_rng(0)
    samples = CalibrationSamples({"x": rng.standard_normal((count, 6, 8, 8)).astype(np.float32)}, real, engine, memory)
    return compress(net(FIXED, **SIZES), CompressSettings(keep=0.5, method="reconstruct"), samples=samples)


@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize("count", [2, 5, 8, 9, 15, 16, 20])
def test_what_there_is_serves_where_the_batch_is_fixed(count, real):
    result = of_fixed_batch(count, real)
    assert {plan.method for plan in result.plans if plan.shrinks} == {"reconstruct"}
    assert any("one batch of 8" in note for note in result.notes) == (count < 16 and count != 8)
    x = np.random.default_rng(1).standard_normal((BATCH, 6, 8, 8)).astype(np.float32)
    a, b = (engine(model)({"x": x})["y"] for model in (result.model, result.twin()))
    np.testing.assert_allclose(a, b, atol=2e-5 * np.abs(b).max())


def seen_of_fixed_batch(count):
    model = net(FIXED, **SIZES)
    found = analyse(model, (), observer, Quiet(), engine)
    x = np.arange(count, dtype=np.float32).reshape(-1, 1, 1, 1) * np.ones((1, 6, 8, 8), np.float32)
    return list(WeightVariants(found.before, found.typing, CalibrationSamples({"x": x}, True, engine)))


@pytest.mark.parametrize(
    ("count", "rows", "distinct"),
    [
        (3, [[0, 0, 0, 1, 1, 1, 2, 2]], 3 / 8),
        (8, [[*range(8)]], 1),
        (12, [[0, 1, 3, 4, 6, 7, 9, 10]], 1),
        (17, [[*range(8)], [*range(8, 16)]], 1),
    ],
)
def test_which_samples_a_fixed_batch_takes(count, rows, distinct):
    (variant,) = seen_of_fixed_batch(count)
    assert [feed["x"][:, 0, 0, 0].tolist() for feed in variant.feeds] == rows
    assert variant.distinct == distinct


def test_one_sample_is_too_few_for_a_fixed_batch_too():
    assert not seen_of_fixed_batch(1)
    assert "too few samples" in of_fixed_batch(1).notes[-1]


def test_repeated_samples_count_once():
    """Four samples, twice each, tell no more than the four."""
    model, seen = net(CHAIN, **SIZES), []
    found = analyse(model, (), observer, Quiet(), engine)
    groups = [group for group in found.groups if not group.frozen]
    x = feeds(model, 4, 1)["x"]
    for each, distinct in ((x, 1.0), (np.repeat(x, 2, axis=0), 0.5)):
        known = WeightVariant(found.typing, [{"x": each}], engine, distinct=distinct).channel_statistics(groups)
        seen.append([known[group.name][name] for group in groups for name in known[group.name]])
    for once, twice in zip(*seen, strict=True):
        assert twice.independent <= 1.01 * once.independent


def test_a_fixed_batch_that_does_not_fit_says_so():
    result = of_fixed_batch(20, memory=3 * 10**5)
    assert "what a batch of 8 samples takes does not fit `memory`" in result.notes[-1]
    (note,) = of_fixed_batch(20, memory=4 * 10**5).notes
    assert note.startswith("reconstructed from 8 of 20 samples")
