"""Memory of the solver: no more than was counted, and no more at once than is in use."""

import weakref
from dataclasses import replace

import numpy as np
import pytest
from architectures import ARCHITECTURES
from netkit import engine, feeds, net
from unitkit import typed

from passes.pipeline import compress
from passes.reconstruction import layerwise
from passes.reconstruction.layer_regression import regress
from passes.reconstruction.solver_memory import layer_memory
from passes.samples.calibration_samples import CalibrationSamples
from passes.settings.compress import CompressSettings
from passes.settings.statistics_tuning import MemoryTuning
from passes.settings.tuning import TUNING, Tuning
from passes.statistics.activation_memory import Activations
from passes.statistics.im2col import Window
from passes.statistics.lazy import Lazy
from passes.statistics.linear_layers import solvable_layers
from passes.statistics.moments import Batch, layer_moments
from passes.statistics.sample_budget import Budget
from passes.statistics.segmented_execution import SegmentedRun

COUNT = 24
CHAIN = """net (float[N,6,8,8] x) => (float[N,5,8,8] y) {
    a = Conv(x, a_w)  ar = Relu(a)  b = Conv<pads=[1,1,1,1]>(ar, b_w)  br = Relu(b)  y = Conv(br, y_w)
}"""
SIZES = dict(a_w=(12, 6, 1, 1), b_w=(16, 12, 3, 3), y_w=(5, 16, 1, 1))


def held(flow, inputs):
    """Bytes of a sample; the inputs themselves are counted elsewhere."""
    return sum(a.nbytes for live in flow.live for n, a in live.items() if n not in inputs) / COUNT


@pytest.mark.parametrize(
    "name",
    [
        "flatten-gemm",
        "nhwc",
        "prelu-pad",
        "grouped",
        "depthwise",
        "dense-concat",
        "c2f",
        "residual",
        "conv-transpose",
        "pixel-shuffle",
    ],
)
def test_flows_hold_what_was_counted(name, monkeypatch):
    model = ARCHITECTURES[name].model
    inputs = feeds(model, COUNT, 0)
    solve, shares = layerwise._Solver.solve, []

    def recorded(self, layer, ahead):
        solve(self, layer, ahead)
        found = layer_memory(self._typing, COUNT)
        moment = found[[known.node for known in solvable_layers(self._typing).values()].index(layer.node)]
        original, drifted = (held(flow, inputs) for flow in (self._original, self._compressed))
        assert original <= moment.original and drifted <= moment.drifted
        shares.append(original / max(1.0, moment.original))

    monkeypatch.setattr(layerwise._Solver, "solve", recorded)
    settings = CompressSettings(keep=0.5, method="reconstruct", select="auto")
    unrecorded = Tuning(memory=MemoryTuning(recorded_share=0.0))
    compress(model, settings, samples=CalibrationSamples(inputs, True, engine), tuning=unrecorded)
    assert max(shares) == 1.0


def test_a_batch_leaves_behind_what_it_has_passed_before_the_next_goes():
    model = net(CHAIN, **SIZES)
    flow = SegmentedRun(model, [feeds(model, 4, seed) for seed in range(3)], engine)
    flow.reach("ar")
    seen = []

    def watched(segment):
        run = engine(segment)

        def running(live):
            seen.append([sorted(other) for other in flow.live if other is not live])
            return run(live)

        return running

    flow._engine = watched
    flow.reach("br")
    assert seen == [[["ar"], ["ar"]], [["br"], ["ar"]], [["br"], ["br"]]]


def test_targets_are_made_when_they_are_looked_at():
    """All of them at once would take as much as what the layers gave."""
    model = net(CHAIN, **SIZES)
    typing = typed(model)
    layer = list(solvable_layers(typing).values())[1]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 40, 12, 40, 40)).astype(np.float32)
    alive, most = weakref.WeakValueDictionary(), [0]

    class Target(np.ndarray):
        """One that can be watched."""

    def made(i):
        target = np.repeat(x[i, :, :1], 16, 1).view(Target)
        alive[id(target)] = target
        most[0] = max(most[0], len(alive))
        return Batch(x[i], target)

    batches = [lambda i=i: made(i) for i in range(len(x))]
    found = regress(layer, typing.graph.array("b_w"), Lazy(batches), engine)
    assert most[0] <= 3 and found.error < 1e-3
    batches = [Batch(a, np.repeat(a[:, :1], 16, 1)) for a in x]
    whole = regress(layer, typing.graph.array("b_w"), batches, engine)
    np.testing.assert_array_equal(found.weights, whole.weights)


def test_moments_look_at_each_batch_once():
    typing = typed(net(CHAIN, **SIZES))
    layer = list(solvable_layers(typing).values())[1]
    rng, looked = np.random.default_rng(0), list[int]()
    x, y = (rng.standard_normal((5, 3, channels, 8, 8)).astype(np.float32) for channels in (12, 16))

    def made(at):
        looked.append(at)
        return Batch(x[at], y[at])

    weight = typing.graph.array("b_w")
    lazy = Lazy([lambda at=at: made(at) for at in range(5)])
    found = layer_moments(layer, Window(1, 12, 1), weight, lazy, engine)
    assert looked == [0, 1, 2, 3, 4]
    whole = layer_moments(layer, Window(1, 12, 1), weight, [Batch(*pair) for pair in zip(x, y, strict=True)], engine)
    for (one,), (other,) in zip(found, whole, strict=True):
        np.testing.assert_array_equal(one.pp, other.pp)
        np.testing.assert_array_equal(one.yp, other.yp)


def test_batches_that_are_small_for_want_of_memory_are_looked_at_together(monkeypatch):
    """Otherwise a unit's matrices are added up for every few samples. Where memory is no matter, nothing is joined."""
    model = net(CHAIN, **SIZES)
    given, sizes = feeds(model, COUNT, 0), []
    refine = layerwise.refine

    def recorded(unit, start, batches, *rest):
        sizes.append([len(feed["x"]) for feed in batches])
        return refine(unit, start, batches, *rest)

    monkeypatch.setattr(layerwise, "refine", recorded)
    settings = CompressSettings(keep=0.5, method="reconstruct", select="auto")
    compress(model, settings, samples=CalibrationSamples(given, True, engine))
    assert sizes and all(size == [12, 12] for size in sizes)
    sizes.clear()
    one_at_a_time = Tuning(memory=MemoryTuning(working_share=0.0))
    compress(model, settings, samples=CalibrationSamples(given, True, engine), tuning=one_at_a_time)
    assert sizes and all(size == [12, 12] for size in sizes)


@pytest.mark.parametrize(("count", "kind", "wanted"), [(8, "Relu", 0), (9, "Relu", 32), (8, "GlobalAveragePool", 32)])
def test_few_places_of_many_channels_need_no_matrix_of_their_pairs(count, kind, wanted):
    """They are kept themselves; behind a pooling, the map before it has more."""
    edge = 2 if kind == "GlobalAveragePool" else 1
    body = f"""net (float[N,6,{edge},{edge}] x) => (float[N,5] y) {{
        a = Conv(x, a_w)  ar = Relu(a)  p = {kind}(ar)  f = Flatten(p)  y = Gemm<transB=1>(f, y_w)
    }}"""
    typing = typed(net(body, a_w=(32, 6, 1, 1), y_w=(5, 32)))
    numerics = replace(TUNING.numerics, subset=replace(TUNING.numerics.subset, most_greedy=31))
    found = layer_memory(typing, count, replace(TUNING, numerics=numerics))[-1]
    assert (found.channels, found.kept) == (wanted, 0 if wanted else 32)
    budget = Budget(10**6, 0, Activations(0, 0, 0, 0, 0), (found,))
    without = replace(budget, layers=(replace(found, kept=0.0),))
    assert budget.held - without.held == (0 if wanted else 32 * TUNING.memory.row_bytes)


def test_channels_on_several_places_of_an_axis_are_counted_as_they_are_observed():
    """Each entry behind a Flatten is a place of its channel, and each part of a Concat is a group of its own."""
    body = """net (float[N,6,2,1] x) => (float[N,5,2,1] y, float[N,5] z) {
        a = Conv(x, a_w)  b = Conv(x, b_w)  c = Concat<axis=1>(a, b)  y = Conv(c, y_w)  f = Flatten(a)
        z = Gemm<transB=1>(f, z_w)
    }"""
    model = net(body, a_w=(40, 6, 1, 1), b_w=(20, 6, 1, 1), y_w=(5, 60, 1, 1), z_w=(5, 80))
    numerics = replace(TUNING.numerics, subset=replace(TUNING.numerics.subset, most_greedy=31))
    typing = typed(model)
    layers = [layer.data for layer in solvable_layers(typing).values()]
    at = dict(zip(layers, layer_memory(typing, 5, replace(TUNING, numerics=numerics)), strict=True))
    assert (at["c"].channels, at["c"].kept) == (60, 0)  # the second part has too few channels
    assert at["f"].channels == 80
