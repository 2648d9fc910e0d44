"""Differences by sample: their mean is the noise over signal, and the worst of them are named."""

from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import pytest
from smallnet import network

from onnx_merge.evaluation.class_changes import CLASS_CHANGES, ClassMeter
from onnx_merge.evaluation.fidelity import fidelity
from onnx_merge.evaluation.verdict import Fidelity, OutputFidelity
from onnx_merge.report.environment import environment
from onnx_merge.report.sample_differences import SAMPLE_REPORT, differences_table, worst_samples
from passes.numerics.noise_to_signal import NoiseMeter

RNG = np.random.default_rng(3)


def close(values, classes=None):
    output = OutputFidelity("y", float(np.mean(values)), by_sample=np.asarray(values, float))
    return Fidelity(0.9, 0.1, None, len(values), "calib c.npz", "cpu", (output,), classes=classes)


def noise_over_signal(exact, now):
    meter = NoiseMeter()
    meter.add(exact, now)
    return meter.result()


@pytest.mark.parametrize("shape", [(40,), (40, 5), (40, 3, 4, 4)])
def test_the_mean_over_samples_is_the_noise(shape):
    exact = RNG.standard_normal(shape)
    found = noise_over_signal(
        exact, exact + 0.1 * RNG.standard_normal(shape) * np.arange(40).reshape(-1, *[1] * (len(shape) - 1))
    )
    assert found.by_sample.shape == (40,) and found.by_sample[0] == 0
    assert np.isclose(found.by_sample.mean(), found.nsr)


def test_each_sample_by_the_definition():
    exact, off = RNG.standard_normal(30), 0.2 * RNG.standard_normal(30)
    found = noise_over_signal(exact, exact + off)
    np.testing.assert_allclose(found.by_sample, np.square(off) / exact.var(ddof=1), rtol=1e-9)


def test_two_models_compared():
    original, other = network(), network()
    weights = onnx.numpy_helper.to_array(other.graph.initializer[4]).copy()
    weights[0] = 0
    other.graph.initializer[4].CopyFrom(onnx.numpy_helper.from_array(weights, other.graph.initializer[4].name))
    feeds = {"x": RNG.standard_normal((37, 16)).astype(np.float32)}
    found = fidelity(original, other, feeds)
    changed = (found.classes[0] != found.classes[1]).mean()
    assert found.classes.shape == (2, 37) and found.top1_agreement == pytest.approx(1 - changed) and 0 < changed < 1
    (output,) = found.outputs
    assert len(output.by_sample) == 37
    table = differences_table(found)
    worst = table["worst"][0]
    assert worst["nsr"] == output.by_sample.max() and worst["sample"] == output.by_sample.argmax()
    assert [worst["before"], worst["after"]] == found.classes[:, worst["sample"]].tolist()
    pairs = Counter(zip(*found.classes.tolist(), strict=True))
    assert {move[:2]: move[2] for move in output.moves} == {pair: n for pair, n in pairs.items() if pair[0] != pair[1]}


def test_the_table():
    values = np.geomspace(1e-3, 1.0, 200)
    table = differences_table(close(RNG.permutation(values)))
    assert sum(table["counts"]) == 200 and len(table["counts"]) == 12 and len(table["edges"]) == 13
    assert set(table["counts"]) <= {16, 17}  # the axis is logarithmic
    assert len(differences_table(close(np.geomspace(1e-3, 1.0, 9000)))["counts"]) == SAMPLE_REPORT.most_bins
    assert table["quantiles"]["0"] == 1e-3 and table["quantiles"]["1"] == 1.0
    assert [one["nsr"] for one in table["worst"]] == sorted(values, reverse=True)[: SAMPLE_REPORT.worst]
    assert all(one["before"] is None for one in table["worst"])


@pytest.mark.parametrize("values", [[0.0, 0.0], [0.5], [0.0, 0.3], [1e-30, 1.0]])
def test_unusual_values(values):
    table = differences_table(close(values))
    assert sum(table["counts"]) == (0 if max(values) == 0 else len(values))
    assert [one["nsr"] for one in table["worst"]] == sorted((v for v in values if v > 0), reverse=True)


def test_what_was_not_tested_by_sample():
    assert differences_table(None) is None and worst_samples(None) == []
    some = close([0.1])
    none = replace(some, outputs=(replace(some.outputs[0], by_sample=None),))
    assert differences_table(none) is None and worst_samples(none) == []


def test_classes_that_change_are_counted():
    before, after = RNG.integers(0, 30, (2, 500))
    meter = ClassMeter("labels")
    for rows in np.split(np.arange(500), 5):
        meter.add(before[rows], after[rows])
    pairs = Counter((old, new) for old, new in zip(before.tolist(), after.tolist(), strict=True) if old != new)
    found = meter.result().moves
    assert len(found) == CLASS_CHANGES.most_pairs and [n for *_, n in found] == [
        n for _, n in pairs.most_common(CLASS_CHANGES.most_pairs)
    ]
    assert all(pairs[old, new] == n for old, new, n in found)


def test_places_within_samples_count_too():
    before, after = RNG.integers(0, 3, (2, 4, 10))
    meter = ClassMeter("labels")
    meter.add(before, after)
    assert sum(n for *_, n in meter.result().moves) == (before != after).sum()


def test_the_environment_names_versions():
    found = environment()
    assert found["onnx"] == onnx.__version__ and found["numpy"] == np.__version__
    assert all(isinstance(value, str) and value for value in found.values())
