"""What --max-drop limits: a metric, accuracy, classes that change, or noise over signal."""

import re

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest

from onnx_merge.compression.optimize import optimize
from onnx_merge.config.options import Options
from onnx_merge.errors import OnnxMergeError, UsageError
from onnx_merge.evaluation.comparison import comparison_with
from onnx_merge.evaluation.drops import drop_measure
from onnx_merge.runtime.providers import CPU
from onnx_merge.runtime.session import Session

X = np.random.default_rng(0).standard_normal((64, 6)).astype(np.float32)
REGRESSOR = ("float[N,6] x", "float[N,1] y", "y = MatMul(x, w)", {"w": (6, 1)})
CLASSIFIER = ("float[N,6] x", "float[N,3] y", "y = MatMul(x, w)", {"w": (6, 3)})


def model(inputs, outputs, body, sizes, seed=0, **weights):
    text = f'<ir_version: 8, opset_import: ["" : 17]> g ({inputs}) => ({outputs}) {{ {body} }}'
    made = onnx.parser.parse_model(text)
    rng = np.random.default_rng(seed)
    for name, shape in sizes.items():
        array = weights.get(name, rng.standard_normal(shape)).astype(np.float32)
        made.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return made


class Result:
    def __init__(self, model):
        self.model = model


def lost(kind, changed, **options):
    """What the drop is of a model whose weights are ``changed``, and what is said of 1."""
    original, given = model(*kind), {"max_drop": 1, "calib": X, **options}
    comparison = comparison_with(original, Options.make(given), CPU)
    drop = drop_measure(comparison)
    result = model(*kind, w=changed(onnx.numpy_helper.to_array(original.graph.initializer[0])))
    assert drop.of(Result(original)) == 0
    samples = comparison.samples.measured
    outputs = [Session(m, CPU).run(samples.feeds)["y"].astype(np.float64) for m in (original, result)]
    return drop.of(Result(result)), *outputs, drop


def test_classes_that_change():
    value, before, after, drop = lost(CLASSIFIER, lambda w: w + 0.3 * w[::-1])
    assert value == pytest.approx(100 * (before.argmax(1) != after.argmax(1)).mean()) and value > 0
    assert drop.said(1.234) == "1.23 points are lost" and drop.close(5) == 0.2


def test_noise_over_signal_about_the_mean():
    """An offset of the outputs is no signal."""
    value, before, after, drop = lost(REGRESSOR, lambda w: 0.9 * w)
    assert value == pytest.approx(100 * ((before - after) ** 2).mean() / before.var(ddof=1), rel=1e-5)
    body = "p = MatMul(x, w)  k = Constant<value_float = 100.0>()  y = Add(p, k)"
    assert lost((*REGRESSOR[:2], body, {"w": (6, 1)}), lambda w: 0.9 * w)[0] == pytest.approx(value, rel=1e-3)
    assert drop.said(1.234) == "1.23 percent of noise over signal are added" and drop.close(5) == 1.0


def test_of_several_outputs_the_worst():
    kind = (
        "float[N,6] x",
        "float[N,1] y, float[N,1,6] z",
        "y = MatMul(x, w)  k = Constant<value_ints = [1]>()  z = Unsqueeze(x, k)",
        {"w": (6, 1)},
    )
    assert lost(kind, lambda w: 0.9 * w)[0] == pytest.approx(lost(REGRESSOR, lambda w: 0.9 * w)[0])


def test_a_metric_in_its_own_units():
    value, before, after, drop = lost(REGRESSOR, lambda w: 0.5 * w, metric="r2")
    exact = ((before - after) ** 2).sum() / ((before - before.mean(0)) ** 2).sum()
    assert value == pytest.approx(exact) and drop.said(0.1) == "0.1 of r2 is lost" and drop.close(0.5) == 0.1


def test_outputs_that_never_vary():
    with pytest.raises(UsageError, match="no output varies on the samples; give others, or a metric"):
        lost(("float[N,6] x", "float[N,1] y", "p = MatMul(x, w)  y = Sub(p, p)", {"w": (6, 1)}), lambda w: w)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_single_sample_to_measure_on(count):
    """Half of the samples are held out."""
    with pytest.raises(UsageError, match="measured on 1 sample: layers are fitted to .*: give at least 4"):
        lost(REGRESSOR, lambda w: w, calib=X[:count])
    assert lost(REGRESSOR, lambda w: 0.9 * w, calib=X[:4])[0] > 0


def test_outputs_whose_size_varies():
    body = "p = MatMul(x, w)  r = Relu(p)  z = NonZero(r)  c = Cast<to = 1>(z)  y = Transpose(c)"
    with pytest.raises(UsageError, match="measured: y: its size depends on the sample; give others, or a metric"):
        lost(("float[N,6] x", "float[K,2] y", body, {"w": (6, 1)}), lambda w: w)


def test_a_model_without_classes_is_searched():
    layers = (
        "float[N,6] x",
        "float[N,1] y",
        "h = MatMul(x, w)  r = Relu(h)  y = MatMul(r, v)",
        {"w": (6, 40), "v": (40, 1)},
    )
    some = model(*layers)
    calib = np.random.default_rng(1).standard_normal((512, 6)).astype(np.float32)
    given = {"max_drop": 3, "calib": calib, "align": 1}
    smaller, result = optimize(some, **given)
    held = comparison_with(some, Options.make(given), CPU).samples.measured.feeds
    before, after = (Session(m, CPU).run(held)["y"] for m in (some, smaller))
    noise = ((before - after) ** 2).sum() / ((before - before.mean(0)) ** 2).sum()
    assert noise <= 0.03 and result.after.macs < result.before.macs and len(before) < 512
    [note] = [note for note in result.notes if " tried; " in note]
    said = re.search(r"; (\S+) percent of noise over signal are added on the", note)
    assert float(said[1]) == pytest.approx(100 * noise, rel=0.01)


def test_a_model_that_cannot_be_run():
    comparison = comparison_with(model(*REGRESSOR), Options.make({"keep": 0.5}), CPU)
    with pytest.raises(OnnxMergeError, match="max-drop cannot be measured"):
        drop_measure(comparison)
