"""Made-up samples that results are compared on are moved as those that layers are fitted to."""

from dataclasses import replace

import numpy as np
import pytest
from netkit import engine, net, random_weight
from unitkit import Quiet

from onnx_merge.calibration.moved_samples import matched_in_batches
from passes.analysis.analyse import analyse
from passes.samples.calibration_samples import CalibrationSamples
from passes.settings.tuning import TUNING

X = np.random.default_rng(0).standard_normal((24, 6, 8, 8)).astype(np.float32)
TRUE = 2 * np.random.default_rng(1).standard_normal((24, 6, 8, 8)).astype(np.float32) + 1
NORM = "an = BatchNormalization(a, a_s, a_o, a_m, a_v)"


def moved(batch="N", norm=NORM, count=24, more="", tuning=TUNING, **feeds):
    body = f"""net (float[{batch},6,8,8] x{more}) => (float[{batch},5,8,8] y) {{
        a = Conv(x, a_w)  {norm}  r = Relu(an)  y = Conv(r, y_w)
    }}"""
    weights = {"a_w": (12, 6, 1, 1), "a_s": (12,), "a_o": (12,), "y_w": (5, 12, 1, 1)}
    arrays = {name: random_weight(name, shape) for name, shape in weights.items()}
    recorded = np.tensordot(TRUE, arrays["a_w"][:, :, 0, 0], ([1], [1]))
    arrays |= {"a_m": recorded.mean((0, 1, 2)), "a_v": recorded.var((0, 1, 2))}
    model = net(body, 17, **{name: array for name, array in arrays.items() if name in body})
    analysis = analyse(model, (), None, Quiet(), engine)
    samples = CalibrationSamples({"x": X[:count], **feeds}, False, engine)
    return matched_in_batches(analysis.before, analysis.typing, samples, tuning)


@pytest.mark.parametrize("batch", ["N", "8"], ids=["dynamic", "fixed"])
def test_recorded_statistics_hold(batch):
    x = moved(batch)["x"]
    assert x.shape == X.shape and x.dtype == np.float32
    assert abs(x.mean() - 1) < 0.3 and abs(x.std() - 2) < 0.5


@pytest.mark.parametrize(("batch", "count"), [("N", 8), ("8", 8), ("1", 6)])
def test_few_of_them_where_that_takes_long(batch, count):
    limits = replace(TUNING.matching, fewest_compared=4, more_share=1.0, multiply_adds=(2e6,) * 3)
    assert len(moved(batch, tuning=replace(TUNING, matching=limits))["x"]) == count


def test_samples_that_do_not_fill_batches_stay():
    assert moved("8", count=20) is None


def test_without_norms_they_stay():
    assert moved(norm="an = Identity(a)") is None


def test_inputs_without_rows_stay():
    found = moved(more=", float s", s=np.float32(3))
    assert found["s"] == 3 and found["x"].shape == X.shape
