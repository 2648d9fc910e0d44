"""BatchNormalization is recalibrated to the samples in every floating-point type, or a note says why not."""

import numpy as np
import onnx
import pytest
from netkit import TOLERANCE, engine, net, random_weight
from onnx.reference import ReferenceEvaluator
from unitkit import Quiet

from passes.analysis.analyse import analyse
from passes.pipeline import compress
from passes.reconstruction.weight_variants import WeightVariants
from passes.samples.calibration_samples import CalibrationSamples
from passes.settings.compress import CompressSettings
from passes.statistics.batchnorm_recalibration import restandardised

BODY = """net (float[N,6,8,8] x) => (float[N,5,8,8] y) {
    h = Cast<to=TYPE>(x)  a = Conv(h, a_w)  an = BatchNormalization(a, a_scale, a_bias, a_mean, a_var)  ar = Relu(an)
    b = Conv(ar, b_w)  bn = BatchNormalization(b, b_scale, b_bias, b_mean, b_var)  br = Relu(bn)
    yh = Conv(br, y_w, y_b)  y = Cast<to=1>(yh)
}"""
SIZES = dict(a_w=(12, 6, 1, 1), b_w=(16, 12, 1, 1), y_w=(5, 16, 1, 1), y_b=(5,))
NORMS = {f"{n}_{part}": (size,) for n, size in (("a", 12), ("b", 16)) for part in ("scale", "bias", "mean", "var")}
TYPES = {"half": np.float16, "double": np.float64}
X = np.random.default_rng(0).standard_normal((32, 6, 8, 8)).astype(np.float32)


def network(dtype, norms, opset, **values):
    """``norms``: the type of their parameters."""
    weights = {k: random_weight(k, shape).astype(dtype) for k, shape in SIZES.items()}
    weights |= {k: np.asarray(values.get(k, random_weight(k, shape))).astype(norms) for k, shape in NORMS.items()}
    elem = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return net(BODY.replace("TYPE", str(elem)), opset, **weights)


def reference(model):
    """onnxruntime's processors do not convolve in float64."""
    evaluator = ReferenceEvaluator(model)
    return lambda feeds: dict(zip(evaluator.output_names, evaluator.run(None, feeds), strict=True))


def seen(model, x=X, run=engine):
    analysis = analyse(model, (), None, Quiet(), engine)
    found = restandardised(analysis.before, analysis.typing, [{"x": x}], run)
    return {name: np.asarray(found.graph.array(name), np.float64) for name in ("a_w", "b_w", "y_w")}


@pytest.mark.parametrize("opset", [14, 17, 18])
@pytest.mark.parametrize("name", TYPES)
def test_all_in_another_type(name, opset):
    """The weights that float32 gives, to the type's rounding: half's of some 1/1000 adds up over the layers."""
    exact = seen(network(np.float32, np.float32, opset))
    found = seen(network(TYPES[name], TYPES[name], opset), run=engine if name == "half" else reference)
    for weight, wanted in exact.items():
        error = np.abs(found[weight] - wanted).max() / np.abs(wanted).max()
        assert error <= (1e-2 if name == "half" else TOLERANCE), weight


def test_each_variant_has_statistics_of_its_own():
    """Made-up samples are far from what the norms recorded, so that there are two."""
    wide = {f"{name}_var": np.full(size, 1e4) for name, size in (("a", 12), ("b", 16))}
    analysis = analyse(network(np.float32, np.float32, 17, **wide), (), None, Quiet(), engine)
    variants = WeightVariants(analysis.before, analysis.typing, CalibrationSamples({"x": X}, False, engine))
    normed, own = variants
    groups = [group for group in analysis.groups if not group.frozen]
    first, second = (one.channel_statistics(groups) for one in (normed, own))
    assert normed.recalibrated and first.keys() == second.keys()
    for name, tensors in first.items():
        for tensor, channels in tensors.items():
            assert not np.allclose(channels.mean, second[name][tensor].mean)


def test_half_with_parameters_in_single():
    """As converters leave them, for precision."""
    exact, found = seen(network(np.float32, np.float32, 17)), seen(network(np.float16, np.float32, 17))
    for weight, wanted in exact.items():
        np.testing.assert_allclose(found[weight], wanted, atol=1e-2 * np.abs(wanted).max())


def test_a_variance_beyond_half():
    """Deviations of some 1000 are numbers in float16, their squares are none."""
    x = 1000 * X
    exact, found = (seen(network(dtype, dtype, 17), x) for dtype in (np.float32, np.float16))
    assert all(np.isfinite(w).all() and w.any() for w in found.values())
    np.testing.assert_allclose(found["b_w"], exact["b_w"], atol=1e-2 * np.abs(exact["b_w"]).max())


def test_the_statistics_serve_a_model_in_half():
    """A reconstruction that used them differs from one for which there were none."""
    settings = CompressSettings(keep=0.5, method="reconstruct", select="auto")
    model = network(np.float16, np.float16, 17)
    made_up, real = (
        compress(model, settings, samples=CalibrationSamples({"x": X}, real, engine)) for real in (False, True)
    )
    assert not any("BatchNormalization" in note for note in made_up.notes)
    assert made_up.model != real.model


def test_why_they_were_not_used():
    """A Reshape takes the batch of one apart, so that no two samples can go through together."""
    body = """net (float[1,6,8,8] x) => (float[1,5,8,8] y) {
        a = Conv(x, a_w)  s = Reshape(a, shape)  an = BatchNormalization(s, a_scale, a_bias, a_mean, a_var)
        ar = Relu(an)  b = Conv(ar, b_w)  br = Relu(b)  y = Conv(br, y_w, y_b)
    }"""
    norms = {k: size for k, size in NORMS.items() if k.startswith("a_")}
    model = net(body, shape=np.array([1, 12, 8, 8]), **SIZES, **norms)
    settings = CompressSettings(keep=0.5, method="reconstruct", select="auto")
    result = compress(model, settings, samples=CalibrationSamples({"x": X}, False, engine))
    assert any(note.startswith("the statistics of BatchNormalization were not used: ") for note in result.notes)
