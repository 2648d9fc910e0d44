"""Places of layers are weighed by the Jacobian of the outputs; weighed places count as so many in what is solved."""

from dataclasses import replace

import numpy as np
import pytest
from netkit import array_of, engine, net
from unitkit import Quiet

from passes.analysis.analyse import analyse
from passes.pipeline import compress
from passes.reconstruction.layer_regression import regress
from passes.reconstruction.place_weights import at_places, in_blocks, place_weights
from passes.samples.calibration_samples import CalibrationSamples
from passes.settings.compress import CompressSettings
from passes.settings.reconstruction_tuning import PlaceTuning
from passes.settings.tuning import TUNING
from passes.statistics.linear_layers import solvable_layers
from passes.statistics.moments import Batch

SIZES = dict(a_w=(8, 3, 1, 1), b_w=(6, 8, 1, 1), y_w=(4, 6, 1, 1))
BODY = """net (float[N,3,6,10] x) => (float[N,4,6,10] y) {
    a = Conv(x, a_w)  ar = Relu(a)  b = Conv(ar, b_w)  {}  y = Conv(m, y_w)
}"""


def typing_of(model):
    return analyse(model, (), None, Quiet(), engine).typing


def images(count, seed=0, size=(3, 6, 10)):
    return np.random.default_rng(seed).standard_normal((count, *size)).astype(np.float32)


def weights_of(model, feeds, unit=1, together=64, **tuning):
    found = place_weights(typing_of(model), feeds, engine, unit, together, PlaceTuning(**tuning))
    return {name: [np.square(roots.astype(np.float64)) for roots in batches] for name, batches in found.items()}


def masked(mask):
    """A network whose output depends on the places of its second layer as ``mask`` says."""
    mask = np.asarray(mask, np.float32).reshape(1, 1, 6, 10)
    return net(BODY.replace("{}", "m = Mul(b, mask)"), 17, **SIZES, mask=mask)


def test_they_are_the_size_of_the_jacobian():
    """The mask scales the gradient at each place, and the output's channels are one linear map of the layer's."""
    mask = np.random.default_rng(3).uniform(0.2, 2.0, (6, 10))
    feeds = [{"x": images(16, seed)} for seed in range(30)]
    found = weights_of(masked(mask), feeds, share=1.0)["b"]
    expected = np.square(mask) / np.square(mask).mean()
    np.testing.assert_allclose(np.concatenate(found).mean(0), expected, rtol=0.25)
    assert [len(batch) for batch in found] == [16] * 30


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_share_follows_the_gradient(share):
    mask = np.zeros((6, 10))
    mask[:, :5] = 1
    (found,) = weights_of(masked(mask), [{"x": images(64)}], share=share)["b"]
    assert found.mean() == pytest.approx(1, abs=0.01)
    np.testing.assert_allclose(found[:, :, 5:], 1 - share, atol=1e-3)
    assert found[:, :, :5].mean() == pytest.approx(1 + share, abs=0.01)


def test_few_places_are_never_all_that_counts():
    mask = np.full((6, 10), 0.01)
    mask[2, 3] = 100
    (found,) = weights_of(masked(mask), [{"x": images(64)}], share=0.5, largest=4.0)["b"]
    assert found.max() / found.min() == pytest.approx((0.5 + 0.5 * 4) / 0.5, rel=0.01)


def test_what_outputs_do_not_depend_on_counts_as_all_else():
    body = """net (float[N,3,6,10] x) => (float[N,4,6,10] y, int64[N,6,6,10] z) {
        a = Conv(x, a_w)  ar = Relu(a)  y = Conv(ar, b_w)  c = Conv(ar, c_w)  z = Cast<to=7>(c)
    }"""
    model = net(body, 17, a_w=(8, 3, 1, 1), b_w=(4, 8, 1, 1), c_w=(6, 8, 1, 1))
    assert weights_of(model, [{"x": images(4)}]).keys() == {"a"}  # not c; and y is an output


def test_without_a_gradient_or_memory_there_are_none():
    model = masked(np.ones((6, 10)))
    assert weights_of(model, [{"x": images(4)}], together=0) == {}
    for nodes in ("y = Det(a)", "h = Hardmax<axis=1>(a)  y = ReduceMax<axes=[2,3],keepdims=0>(h)"):
        body = f"net (float[N,3,6,6] x) => (float[N,8] y) {{ a = Conv(x, a_w)  {nodes} }}"
        assert weights_of(net(body, 17, a_w=(8, 3, 1, 1)), [{"x": images(4, size=(3, 6, 6))}]) == {}


ROWS = """net (float[N,6,8] x) => (float[N,6,4] y) {
    t = Reshape(x, flat)  a = Gemm(t, a_w)  ar = Relu(a)  b = Gemm(ar, b_w)  br = Relu(b)
    u = Reshape(br, whole)  y = MatMul(u, y_w)
}"""
TURNED = """net (float[N,6,8] x) => (float[6,N,4] y) {
    t = Transpose<perm=[1,0,2]>(x)  a = MatMul(t, a_w)  ar = Relu(a)  b = MatMul(ar, b_w)  br = Relu(b)
    y = MatMul(br, y_w)
}"""


@pytest.mark.parametrize("body", [ROWS, TURNED], ids=["rows of places", "samples on the second axis"])
def test_what_has_no_row_for_each_sample_is_not_weighed(body):
    """In layers, and in outputs; all is solved as without weights."""
    shapes = dict(flat=np.array([-1, 8]), whole=np.array([-1, 6, 12])) if body == ROWS else {}
    model = net(body, 17, a_w=(8, 16), b_w=(16, 12), y_w=(12, 4), **shapes)
    feeds = [{"x": images(count, count, (6, 8))} for count in (40, 30)]
    assert weights_of(model, feeds) == {}
    samples = CalibrationSamples({"x": images(320, 1, (6, 8))}, True, engine)
    result = compress(model, CompressSettings(keep=0.5, method="reconstruct", select="auto"), samples=samples)
    assert array_of(result.model, "b_w").shape == (8, 6) and {"b", "y"} <= result.solution.errors.keys()


@pytest.mark.parametrize("memory", [2 * 10**9, 10**6, 3 * 10**5])
@pytest.mark.parametrize("number", [200, 203])
def test_samples_on_the_second_axis_in_batches_of_unlike_size(number, memory):
    """The last batch holds fewer samples than those that it is joined with."""
    model = net(TURNED, 17, a_w=(8, 16), b_w=(16, 12), y_w=(12, 4))
    samples = CalibrationSamples({"x": images(number, 1, (6, 8))}, True, engine, memory=memory)
    result = compress(model, CompressSettings(keep=0.5, method="reconstruct", select="auto"), samples=samples)
    assert array_of(result.model, "b_w").shape == (8, 6) and {"b", "y"} <= result.solution.errors.keys()


@pytest.mark.parametrize("size", [(40, 50), (2000,), (5, 7), ()])
@pytest.mark.parametrize("axis", [1, -1])
def test_blocks_of_places_become_places(size, axis):
    values = np.random.default_rng(0).uniform(1, 2, (3, *size)).astype(np.float32)
    like = np.zeros((3, 4, *size) if axis == 1 else (3, *size, 4))
    blocks = in_blocks(values)
    found = at_places(blocks, like, axis)
    assert found.shape == ((3, 1, *size) if axis == 1 else (3, *size, 1))
    assert blocks[0].size <= 1100 and found.dtype == np.float32
    np.testing.assert_allclose(found.mean(), values.mean(), rtol=1e-2)
    if np.prod(size) <= 1024:
        np.testing.assert_array_equal(found.reshape(values.shape), values)


LAYERS = {
    "conv": ("y = Conv<pads=[1,1,1,1]>(x, w, b)", (3, 6, 8), dict(w=(4, 3, 3, 3), b=(4,)), (4, 6, 8)),
    "grouped": ("y = Conv<group=2,strides=[2,2]>(x, w, b)", (4, 8, 8), dict(w=(6, 2, 2, 2), b=(6,)), (6, 4, 4)),
    "transposed": ("y = ConvTranspose<strides=[2,2]>(x, w, b)", (3, 4, 4), dict(w=(3, 5, 2, 2), b=(5,)), (5, 8, 8)),
    "tokens": ("m = MatMul(x, w)  y = Add(m, b)", (7, 5), dict(w=(5, 6), b=(6,)), (7, 6)),
    "rows": ("y = Gemm<transB=1>(x, w, b)", (5,), dict(w=(6, 5), b=(6,)), (6,)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_sample_of_weight_two_counts_as_two(name):
    """The solution is that of the samples repeated."""
    nodes, size, sizes, out = LAYERS[name]
    model = net(
        f"net (float[N,{','.join(map(str, size))}] x) => (float[N,{','.join(map(str, out))}] y) {{ {nodes} }}",
        17,
        **sizes,
    )
    (layer,) = solvable_layers(typing_of(model)).values()
    batches, repeated = [], []
    for seed in range(4):
        x, y = images(64, seed, size), images(64, seed + 9, out)
        places = [n for d, n in enumerate(y.shape) if d not in (0, layer.axis % y.ndim)]
        roots = np.ones((64, *places), np.float32)
        roots[:20] = np.sqrt(2)
        batches.append(Batch(x, y, at_places(roots, y, layer.axis)))
        twice = [*range(64), *range(20)]
        repeated.append(Batch(x[twice], y[twice]))
    prior = np.zeros(sizes["w"], np.float32)
    found, expected = (regress(layer, prior, given, engine) for given in (batches, repeated))
    np.testing.assert_allclose(found.weights, expected.weights, atol=2e-4)
    np.testing.assert_allclose(found.bias, expected.bias, atol=2e-4)
    assert found.error == pytest.approx(expected.error, rel=1e-4)


def test_places_that_outputs_depend_on_are_fitted_better():
    """Most of the map shows something else, and hardly matters to the output."""
    mask = np.full((6, 10), 0.1)
    mask[:, :3] = 1
    model = masked(mask)
    looks = np.where(mask == 1, 1.0, [[[0.1]], [[2.0]], [[-1.0]]]).astype(np.float32)
    new = {"x": looks * images(256, seed=9)}
    exact = engine(model)(new)["y"]

    def error(share):
        tuning = replace(TUNING, places=PlaceTuning(share=share))
        samples = CalibrationSamples({"x": looks * images(128, seed=1)}, True, engine)
        settings = CompressSettings(keep=0.5, method="reconstruct", select="auto")
        result = compress(model, settings, samples=samples, tuning=tuning)
        assert array_of(result.model, "b_w").shape[1] == 4
        return np.linalg.norm(engine(result.model)(new)["y"] - exact)

    assert error(0.5) < error(0.0)
