"""How many samples fit into memory: counted at their own sizes, and everything that is held."""

from dataclasses import replace

import numpy as np
import pytest
from netkit import net, observer
from unitkit import Quiet, engine

from passes.analysis.analyse import analyse
from passes.reconstruction.layer_regression import regress
from passes.reconstruction.weight_variants import WeightVariants
from passes.samples.calibration_samples import CalibrationSamples
from passes.settings.tuning import TUNING
from passes.statistics.activation_memory import activations, at_sizes_of, measured
from passes.statistics.linear_layers import solvable_layers
from passes.statistics.moments import Batch
from passes.statistics.sample_budget import Budget, LayerMemory, PairMemory

LIMITS = TUNING.memory
OPEN = """net (float[N,3,H,W] x) => (float[N,2,H,W] y) {
    a = Conv<pads=[1,1,1,1]>(x, a_w)  ar = Relu(a)  b = Conv<pads=[1,1,1,1]>(ar, b_w)  br = Relu(b)  y = Conv(br, y_w)
}"""
SIZES = dict(a_w=(8, 3, 3, 3), b_w=(12, 8, 3, 3), y_w=(2, 12, 1, 1))
HEIGHT, WIDTH = 40, 24
PLACES = 4 * HEIGHT * WIDTH


def image(count=1):
    return {"x": np.random.default_rng(0).standard_normal((count, 3, HEIGHT, WIDTH)).astype(np.float32)}


def opened():
    return analyse(net(OPEN, **SIZES), {}, observer, Quiet())


def test_shapes_are_those_of_the_sample():
    graph = opened().typing.graph
    counted = at_sizes_of(graph, image(), engine, np.inf)
    assert counted.shape("br") == (1, 12, HEIGHT, WIDTH) and graph.shape("br") != counted.shape("br")
    found = activations(counted)
    assert found.live == 24 * PLACES  # b and its Relu
    assert found.held == 12 * PLACES  # one of them
    assert found.widest == 24 * PLACES and found.given == 3 * PLACES and found.outputs == 2 * PLACES


def test_they_can_be_measured_without_a_graph():
    assert measured(net(OPEN, **SIZES), image(), engine) == activations(
        at_sizes_of(opened().typing.graph, image(), engine, np.inf)
    )


def test_what_does_not_fit_is_not_run():
    def never(model):
        raise AssertionError("it was run")

    estimated = activations(at_sizes_of(opened().typing.graph, image(), never, 1000.0))
    assert estimated.live >= 24 * PLACES


def budget(memory, **changes):
    each = activations(at_sizes_of(opened().typing.graph, image(), engine, np.inf))
    return replace(Budget(memory, 10**6, each), **changes)


WORKING = (24 + 10 * 24) * PLACES
"""Bytes of a sample while it runs: its live activations, and ten times the inputs and outputs of the widest node."""
HELD = ((1 + 2) * 12 + 2 * 3) * PLACES
"""Bytes that it takes until the end: one activation of the original and two of compressed models, two copies of it."""
WEIGHTS = 7 * 10**6
"""Bytes of the copies of the weights."""


@pytest.mark.parametrize(("memory", "batch"), [(10**7, 1), (10**8, 22), (10**9, 32)])
def test_all_that_is_held_fits(memory, batch):
    """A quarter of what the weights leave is for the batch, which is even and no more than 32."""
    found, left = budget(memory), memory - WEIGHTS
    assert found.batch == batch and (batch == 1 or batch == min(32, left / 4 // WORKING // 2 * 2))
    assert found.samples == (left - batch * WORKING) // HELD > 0


@pytest.mark.parametrize(
    ("memory", "cores", "batch", "workers"),
    [
        (10**7, 2, 1, 1),
        (10**7, 16, 1, 1),
        (10**8, 2, 10, 2),
        (48 * 10**6, 16, 10, 1),  # a batch for each core would be of less than one sample
        (10**8, 16, 1, 16),
        (10**9, 2, 32, 2),
        (10**9, 16, 14, 16),
    ],
)
def test_what_runs_at_the_same_time_fits(memory, cores, batch, workers):
    found, left = budget(memory, cores=cores), memory - WEIGHTS
    assert (found.batch, found.workers) == (batch, workers)
    assert workers == 1 or batch * workers * WORKING <= left / 4
    assert found.samples == (left - batch * workers * WORKING) // HELD


@pytest.mark.parametrize(
    ("memory", "cores", "workers"), [(3 * 10**7, 2, 1), (10**8, 2, 1), (10**8, 16, 1), (10**9, 2, 2), (10**9, 16, 15)]
)
def test_batches_of_a_fixed_size_are_counted_as_they_are(memory, cores, workers):
    found, left = budget(memory, cores=cores, most=16, unit=16), memory - WEIGHTS
    assert found.workers == workers and (workers == 1 or 16 * workers * WORKING <= left / 4)
    if workers > 1:
        assert found.samples == (left - 16 * workers * WORKING) // HELD
    else:
        assert found.batch == budget(memory, most=16).batch


def moment(held, channels, features, **more):
    return LayerMemory(held / 4, 3 * held / 4, 0.0, channels, features, **more)


@pytest.mark.parametrize("layers", [(), (moment(10**5, 300, 1000),), (moment(10**5, 64, 20000),)])
def test_the_memory_that_would_do_does(layers):
    needed = budget(1, layers=layers).needed()
    assert budget(needed, layers=layers).samples >= LIMITS.fewest_samples
    assert budget(int(0.9 * needed), layers=layers).samples == 0


def test_matrices_of_wide_layers_count():
    narrow, wide = (budget(10**9, layers=(moment(10**5, channels, 9 * channels),)) for channels in (16, 400))
    assert wide.samples < narrow.samples
    assert wide.available == narrow.available - LIMITS.statistics_bytes * (400**2 - 16**2)
    huge = budget(10**9, layers=(moment(10**5, 16, 10**5),))
    each = 10**5 + LIMITS.sample_copies * huge.each.given
    assert huge.samples == pytest.approx((1 - LIMITS.matrix_share) * huge.available / each, rel=0.01)


def test_targets_count_as_far_as_they_serve():
    def of(target, serve):
        return budget(10**9, layers=(moment(10**6, 16, 144, pair=PairMemory(target, serve, 0.0)),)).samples

    none, few, all_ = of(0.0, 0.0), of(10**6, 50.0), of(10**6, 10**9)
    assert none > few > all_
    assert none - few == pytest.approx(50 + LIMITS.batch, abs=20) and all_ == pytest.approx(none / 2, rel=0.1)


def test_what_is_remembered_leaves_room_for_the_rest():
    found = budget(10**9, layers=(moment(10**6, 16, 144),))
    assert found.kept(1) == LIMITS.recorded_share * found.available
    for count in (found.samples // 2, found.samples, 2 * found.samples):
        drifted = 0.75 * 10**6 + LIMITS.sample_copies * found.each.given
        assert found.kept(count) <= max(0.0, found.available - found.batch * found.working - count * drifted)


def test_samples_larger_than_the_stand_in_count_as_they_are():
    found = opened()
    variants = WeightVariants(found.before, found.typing, CalibrationSamples(image(64), True, engine, memory=10**7))
    served = sum(len(feed["x"]) for feed in variants.feeds)
    assert served < 64 and variants.notes == (
        f"reconstructed from {served} of 64 samples: more activations do not fit `memory`",
    )


def test_where_no_few_samples_fit_it_says_what_would_do():
    found = opened()
    variants = WeightVariants(
        found.before,
        found.typing,
        CalibrationSamples(image(64), True, engine, memory=3 * 10**5 + 64 * 12 * PLACES // 4),
    )
    assert not list(variants)
    assert variants.lacking.startswith("merged by weights: what a few samples take does not fit `memory`; ")


def test_moments_of_smaller_pieces_are_the_same():
    typing = opened().typing
    layer = list(solvable_layers(typing).values())[1]
    rng = np.random.default_rng(2)
    batches = [Batch(*(rng.standard_normal((4, n, 12, 12)).astype(np.float32) for n in (8, 12))) for _ in range(4)]
    prior = typing.graph.array(layer.weight)
    whole, parts = (regress(layer, prior, batches, engine, most) for most in (np.inf, 2.0e5))
    np.testing.assert_allclose(parts.weights, whole.weights, atol=0.05 * np.abs(whole.weights).max())
    assert parts.error == pytest.approx(whole.error, rel=0.05)


def test_more_features_than_fit_are_solved_on_fewer_places():
    typing = opened().typing
    layer = list(solvable_layers(typing).values())[1]
    rng = np.random.default_rng(2)
    x = [rng.standard_normal((4, 8, 12, 12)).astype(np.float32) for _ in range(4)]
    batches = [Batch(a, np.repeat(a[:, :1], 12, 1)) for a in x]
    found = regress(layer, typing.graph.array(layer.weight), batches, engine, 1000.0)
    assert found.weights.shape == (12, 8, 3, 3) and np.isfinite(found.weights).all()
    assert found.error < 0.1 and found.bias is not None
