"""All layers refined together: nearer to the original on unseen inputs, never worse, exact surgery, reasons."""

from dataclasses import replace

import numpy as np
import pytest
from netkit import array_of, engine, net, observer
from unitkit import Quiet

from passes.analysis.analyse import analyse
from passes.cost.cost import sample_macs
from passes.numerics.arrays import parts_of
from passes.pipeline import compress
from passes.planning.plan import PlanSettings
from passes.planning.planner import Planner
from passes.reconstruction.step_schedule import scheduled
from passes.reconstruction.student import student_of
from passes.reconstruction.weight_variant import WeightVariant
from passes.samples.calibration_samples import CalibrationSamples
from passes.settings.compress import CompressSettings
from passes.settings.distillation_tuning import DistillationTuning
from passes.settings.tuning import TUNING, Tuning
from passes.surgery.apply_plan import Solution

SHORT = Tuning(distillation=DistillationTuning(steps=(200, 400)))
NOTE = "the layers were not refined together"


def refined(model, effort="medium", samples=None, tuning=SHORT, **settings):
    settings = {"keep": 0.5, "method": "reconstruct", "select": "auto", "effort": effort, **settings}
    return compress(model, CompressSettings(**settings), samples=samples or samples_for(model, 64), tuning=tuning)


def steps(count, **changes):
    return replace(TUNING, distillation=DistillationTuning(steps=(count, count), **changes))


def samples_for(model, count=24, seed=0, real=True):
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(seed).standard_normal([count, *shape[1:]]).astype(np.float32)
    return CalibrationSamples({"x": x}, real, engine)


def run(model, feeds):
    return engine(model)(feeds)["y"]


def chain():
    body = """net (float[N,6,8,8] x) => (float[N,5,8,8] y) {
        a = Conv(x, a_w, a_b)  ar = Relu(a)  b = Conv<pads=[1,1,1,1]>(ar, b_w, b_b)  br = Relu(b)
        y = Conv(br, y_w, y_b)
    }"""
    return net(body, a_w=(12, 6, 1, 1), a_b=(12,), b_w=(16, 12, 3, 3), b_b=(16,), y_w=(5, 16, 1, 1), y_b=(5,))


def decoder():
    body = """net (float[N,6,5,5] x) => (float[N,4,P,Q] y) {
        a = Conv<pads=[1,1,1,1]>(x, a_w, a_b)  ar = Relu(a)
        b = ConvTranspose<strides=[2,2],pads=[1,1,1,1],output_padding=[1,1]>(ar, b_w, b_b)  br = Relu(b)
        y = ConvTranspose<strides=[2,2],pads=[2,1,0,1]>(br, y_w, y_b)
    }"""
    return net(body, a_w=(12, 6, 3, 3), a_b=(12,), b_w=(12, 10, 3, 3), b_b=(10,), y_w=(10, 4, 2, 2), y_b=(4,))


RESIDUAL = """net (float[N,6,8,8] x) => (float[N,5] y) {
    a = Conv<pads=[1,1,1,1]>(x, a_w, a_b)  ar = Relu(a)
    b = Conv(ar, b_w, b_b)  br = Relu(b)  d = Conv<group=16,pads=[1,1,1,1]>(br, d_w, d_b)  dr = Clip(d, zero, six)
    c = Conv(dr, c_w)  s = Add(ar, c)  p = GlobalAveragePool(s)  f = Flatten(p)  y = Gemm<transB=1>(f, y_w, y_b)
}"""


def residual():
    """An inverted residual block: expansion, depthwise convolution, linear projection."""
    return net(
        RESIDUAL, a_w=(8, 6, 3, 3), a_b=(8,), b_w=(16, 8, 1, 1), b_b=(16,), d_w=(16, 1, 3, 3), d_b=(16,),
        c_w=(8, 16, 1, 1), y_w=(5, 8), y_b=(5,), zero=np.array(0, np.float32), six=np.array(6, np.float32),
    )  # fmt: skip


def tokens():
    """A linear layer as MatMul and Add, a norm, and an activation of two nodes."""
    body = """net (float[N,7,12] x) => (float[N,7,4] y) {
        a = MatMul(x, a_w)  ab = Add(a, a_b)  g = Sigmoid(ab)  h = Mul(ab, g)
        b = MatMul(h, b_w)  bb = Add(b, b_b)  n = LayerNormalization(bb, n_s, n_b)  y = MatMul(n, y_w)
    }"""
    sizes = dict(a_w=(12, 20), a_b=(20,), b_w=(20, 10), b_b=(10,), n_s=(10,), n_b=(10,), y_w=(10, 4))
    return net(body, **sizes)


@pytest.mark.parametrize(("make", "left"), [(chain, 1.005), (decoder, 0.999), (residual, 0.97), (tokens, 0.95)])
def test_it_comes_nearer_on_unseen_inputs(make, left):
    """The layers of the chain are two pairs that were solved together: nothing much is left to gain there."""
    model = make()
    new = samples_for(model, 64, seed=1).feeds
    before = run(model, new)
    samples = samples_for(model, 256)
    error = {e: np.linalg.norm(run(refined(model, e, samples).model, new) - before) for e in ("low", "medium")}
    assert error["medium"] < left * error["low"]


@pytest.mark.parametrize("make", [chain, decoder, residual, tokens])
def test_the_refined_model_equals_its_twin(make):
    model = make()
    result = refined(model, tuning=steps(40))
    inputs = samples_for(model).feeds
    a, b = run(result.model, inputs), run(result.twin(), inputs)
    np.testing.assert_allclose(a, b, atol=2e-5 * np.abs(b).max())


def test_of_depthwise_layers_the_biases_are_refined():
    """Their kernels are few weights, and would take most of the time."""
    model = residual()
    tuning = steps(200, least_gain=9.0)
    low, medium = (refined(model, effort, tuning=tuning).solution for effort in ("low", "medium"))
    assert ("d", 2) not in low.biases and ("d", 2) in medium.biases and "d_w" not in medium.weights
    assert {"b_w", "c_w", "y_w"} <= medium.weights.keys()


@pytest.mark.parametrize(("side", "refined"), [(32, {"b_w"}), (8, {"a_w", "b_w"})], ids=["large maps", "small maps"])
def test_a_first_convolution_on_large_maps_stays(side, refined):
    """Its gradient would take a large part of a step, for few weights: 324 here, and 1,024 or 64 places."""
    body = f"""net (float[N,3,{side},{side}] x) => (float[N,5,{side},{side}] y) {{
        a = Conv<pads=[1,1,1,1]>(x, a_w)  ar = Relu(a)  y = Conv(ar, b_w) }}"""
    found = analyse(net(body, a_w=(12, 3, 3, 3), b_w=(5, 12, 1, 1)), (), observer, Quiet(), engine)
    group = next(group for group in found.groups if not group.frozen)
    plan = Planner(found.typing, PlanSettings("prune", "l1")).plan(group, 6)
    student = student_of(found.typing, [plan], Solution())
    assert {one.layer.weight for one in student.layers} == refined


def test_low_effort_refines_nothing():
    """The default of the settings is the layerwise solution."""
    model = chain()
    low = refined(model, "low")
    plain = compress(
        model, CompressSettings(keep=0.5, method="reconstruct", select="auto"), samples=samples_for(model, 64)
    )
    assert low.model.SerializeToString() == plain.model.SerializeToString()


def test_whole_groups_of_a_convolution_may_be_gone():
    """A softmax over the channels of a group ties them."""
    body = """net (float[N,3,8,8] x) => (float[N,5,8,8] y) {
        a = Conv<pads=[1,1,1,1]>(x, a_w)  q = Reshape(a, s5)  t = Softmax<axis=2>(q)  r = Reshape(t, s4)
        b = Conv<group=6,pads=[1,1,1,1]>(r, b_w)  u = Reshape(b, s5)  v = Softmax<axis=2>(u)  w = Reshape(v, s4)
        y = Conv(w, y_w)
    }"""
    shapes = {"s5": np.array([0, 6, 4, 64]), "s4": np.array([0, 24, 8, 8])}
    result = refined(net(body, a_w=(24, 3, 3, 3), b_w=(24, 4, 3, 3), y_w=(5, 24, 1, 1), **shapes), keep=0.67)
    weights = array_of(result.model, "b_w")
    assert weights.shape in ((16, 4, 3, 3), (20, 4, 3, 3)) and "b_w" in result.solution.weights


@pytest.mark.parametrize("rate", [1e4, 1e20])
def test_it_is_never_worse(rate):
    """Steps that make the outputs worse leave the layerwise solution on all samples, to the last bit."""
    model = chain()
    low, tried = refined(model, "low"), refined(model, tuning=steps(40, rates=(rate,)))
    assert tried.model.SerializeToString() == low.model.SerializeToString()


def test_a_rate_that_is_too_high_is_reduced():
    model, new = residual(), samples_for(residual(), 64, seed=1).feeds
    before, samples = run(model, new), samples_for(model, 256)
    high, low = (refined(model, e, samples, steps(200, rates=(300.0, 0.5))) for e in ("medium", "low"))
    assert np.linalg.norm(run(high.model, new) - before) < np.linalg.norm(run(low.model, new) - before)


@pytest.mark.parametrize(
    ("count", "batch", "unit", "sizes"),
    [
        (28, 16, 1, [14, 14]),
        (7, 4, 1, [3, 4]),
        (8, 8, 1, [8]),
        (3, 8, 1, [3]),
        (24, 16, 8, [8, 16]),
        (10, 4, 4, [4, 4, 2]),
    ],
)
def test_no_sample_is_left_out_of_the_batches(count, batch, unit, sizes):
    feed = {"x": np.arange(count, dtype=np.float32)[:, None], "c": np.float32(3)}
    parts = parts_of(feed, batch, unit)
    assert [len(part["x"]) for part in parts] == sizes
    assert np.array_equal(np.concatenate([part["x"] for part in parts]), feed["x"])


def test_two_runs_give_the_same_bytes():
    model = residual()
    one, two = (refined(model, tuning=steps(40)).model.SerializeToString() for _ in range(2))
    assert one == two


def test_what_has_no_gradient_is_named():
    body = """net (float[N,6,12] x) => (float[N,1,6,5] y) {
        a = MatMul(x, a_w)  ar = Relu(a)  b = MatMul(ar, b_w)  y = LSTM<hidden_size=5>(b, w, r)
    }"""
    model = net(body, a_w=(12, 16), b_w=(16, 8), w=(1, 20, 8), r=(1, 20, 5))
    result = refined(model)
    note = next(note for note in result.notes if note.startswith(NOTE))
    assert "LSTM" in note
    low = refined(model, "low")
    assert result.model.SerializeToString() == low.model.SerializeToString()


def towers():
    """Similarities of all rows of a batch, as of images and texts."""
    body = """net (float[N,6] x) => (float[N,N] y) {
        a = MatMul(x, a_w)  ar = Relu(a)  b = MatMul(ar, b_w)  c = MatMul(x, c_w)  cr = Relu(c)  d = MatMul(cr, d_w)
        t = Transpose<perm=[1,0]>(d)  y = MatMul(b, t)
    }"""
    return net(body, 17, a_w=(6, 16), b_w=(16, 8), c_w=(6, 16), d_w=(16, 8))


def columns():
    """Each sample is a column of the output."""
    body = """net (float[N,6] x) => (float[3,N] y) {
        a = MatMul(x, a_w)  ar = Relu(a)  b = MatMul(ar, b_w)  br = Relu(b)  c = MatMul(br, c_w)
        y = Transpose<perm=[1,0]>(c)
    }"""
    return net(body, 17, a_w=(6, 16), b_w=(16, 8), c_w=(8, 3))


@pytest.mark.parametrize("make", [towers, columns])
def test_outputs_without_channels_are_refused_with_a_reason(make):
    """The samples that judge are fewer than those of a batch: what their outputs hold cannot be weighed alike."""
    result = refined(make(), samples=samples_for(make(), 44))
    assert any(note.startswith(NOTE) and "as many values in every batch" in note for note in result.notes)


def test_a_sequence_whose_length_is_the_same_in_all_samples_is_refined():
    """Scores of the places of a text, as of where an answer begins."""
    body = """net (float[N,T,6] x) => (float[N,T] y) {
        a = MatMul(x, a_w)  ar = Relu(a)  b = MatMul(ar, b_w)  br = Relu(b)  c = MatMul(br, c_w)  y = Squeeze(c, last)
    }"""
    model = net(body, 17, a_w=(6, 16), b_w=(16, 8), c_w=(8, 1), last=np.array([2]))
    x = np.random.default_rng(0).standard_normal((44, 5, 6), np.float32)
    result = refined(model, samples=CalibrationSamples({"x": x}, True, engine), tuning=steps(60))
    assert not any(note.startswith(NOTE) for note in result.notes)


def test_few_samples_are_refused_with_a_reason():
    result = refined(chain(), samples=samples_for(chain(), 6))
    assert any(note.startswith(NOTE) and "too few samples" in note for note in result.notes)


def test_a_model_that_takes_too_long_is_refused_with_a_reason():
    result = refined(chain(), tuning=steps(60, multiply_adds=(1.0, 1.0), most_multiply_adds=1.0))
    assert any(note.startswith(NOTE) and "too long" in note for note in result.notes)


@pytest.mark.parametrize("most", [1e12, 2e6])
def test_large_models_see_a_number_of_samples_within_a_limit(most):
    """Here models of any size are large: `multiply_adds` allows no step at all."""
    found = analyse(chain(), (), observer, Quiet(), engine)
    variant = WeightVariant(found.typing, [samples_for(chain(), 8, seed).feeds for seed in range(8)], engine)
    tuning = DistillationTuning(multiply_adds=(1.0, 1.0), seen=100, most_multiply_adds=most)
    schedule = scheduled(variant, tuning, 0)
    macs = tuning.passes * sample_macs(found.typing.graph)
    seen = schedule.steps * schedule.batch * schedule.joined
    assert seen <= min(100, most / macs) < seen + schedule.batch * schedule.joined


def test_few_weights_at_many_places_are_learned_from_few_samples():
    """A filter of a few weights sees as many places in one large image as a classifier's in thousands of small ones."""
    body = "net (float[N,3,64,64] x) => (float[N,2,64,64] y) { a = Conv(x, a_w)  ar = Relu(a)  y = Conv(ar, y_w) }"
    model = net(body, a_w=(8, 3, 1, 1), y_w=(2, 8, 1, 1))
    found = analyse(model, (), observer, Quiet(), engine)
    feeds = [{"x": np.random.default_rng(0).standard_normal((16, 3, 64, 64), np.float32)}] * 4
    variant, tuning = WeightVariant(found.typing, feeds, engine), DistillationTuning()
    each, weights = tuning.passes * sample_macs(found.typing.graph), 8 * 3 + 2 * 8
    for level, most in enumerate((4e6, 4e7)):
        limits = replace(tuning, weight_multiply_adds=(most, most))
        schedule = scheduled(variant, limits, level)
        seen = schedule.steps * schedule.batch * schedule.joined
        assert seen <= 1.5 * most * weights / each and schedule.steps >= 40
        assert seen < tuning.steps[level] * tuning.batch
    fewest = scheduled(variant, replace(tuning, weight_multiply_adds=(1.0, 1.0)), 0)
    seen = fewest.steps * fewest.batch * fewest.joined
    assert not fewest.obstacle and seen == tuning.fewest_steps * tuning.dense_batch


def test_weights_of_half_precision_stay():
    body = """net (float[N,6,8,8] x) => (float[N,5,8,8] y) {
        h = Cast<to=10>(x)  a = Conv(h, a_w, a_b)  ar = Relu(a)  b = Conv(ar, b_w, b_b)  y = Cast<to=1>(b)
    }"""
    half = {"a_w": (12, 6, 1, 1), "a_b": (12,), "b_w": (5, 12, 1, 1), "b_b": (5,)}
    rng = np.random.default_rng(0)
    model = net(body, **{n: (0.3 * rng.standard_normal(s)).astype(np.float16) for n, s in half.items()})
    result = refined(model)
    assert any(note.startswith(NOTE) and "float32" in note for note in result.notes)


NORMED = """net (float[N,6,8,8] x) => (float[N,5] y) {
    a = Conv<pads=[1,1,1,1]>(x, a_w)  an = BatchNormalization(a, a_s, a_o, a_m, a_var)  ar = Relu(an)
    d = Conv<group=3,pads=[1,1,1,1]>(ar, d_w)  dn = BatchNormalization(d, d_s, d_o, d_m, d_var)  dr = Relu(dn)
    c = Conv(dr, c_w)  p = GlobalAveragePool(c)  f = Flatten(p)  y = Gemm<transB=1>(f, y_w, y_b)
}"""


def test_both_weight_variants_are_refined():
    """On made-up samples the network standardises by their statistics. What is learned there is carried over."""
    sizes = {f"{n}_{k}": (12,) for n in "ad" for k in ("s", "o", "m", "var")}
    model = net(NORMED, a_w=(12, 6, 3, 3), d_w=(12, 4, 3, 3), c_w=(10, 12, 1, 1), y_w=(5, 10), y_b=(5,), **sizes)
    made_up = samples_for(model, 64, real=False)
    unmoved = replace(steps(200), matching=replace(TUNING.matching, steps=0))
    result = refined(model, samples=made_up, tuning=unmoved)
    inputs = samples_for(model).feeds
    a, b = run(result.model, inputs), run(result.twin(), inputs)
    np.testing.assert_allclose(a, b, atol=2e-5 * np.abs(b).max())
    assert not any(note.startswith(NOTE) for note in result.notes)
    low = refined(model, "low", samples=made_up, tuning=unmoved)
    found, layerwise = result.solution.weights, low.solution.weights
    assert not any(np.array_equal(found[name], layerwise[name]) for name in ("c_w", "y_w"))


def test_a_fixed_batch_is_kept():
    model = chain()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 4
    rng = np.random.default_rng(0)
    samples = samples_for(model)
    samples.feeds["x"] = rng.standard_normal((64, 6, 8, 8)).astype(np.float32)
    result = refined(model, samples=samples, tuning=steps(40))
    assert not any(note.startswith(NOTE) for note in result.notes)
    assert array_of(result.model, "a_w").shape[0] == 6
    assert engine(result.model)({"x": samples.feeds["x"][:4]})["y"].shape == (4, 5, 8, 8)
