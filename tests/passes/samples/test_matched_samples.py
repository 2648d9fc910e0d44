"""Made-up samples are moved until the statistics that BatchNormalization recorded hold."""

import itertools
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from netkit import engine, net, random_weight
from onnx import numpy_helper
from scipy.special import softmax
from unitkit import Quiet

from passes.analysis.analyse import analyse
from passes.pipeline import compress
from passes.reconstruction.weight_variants import WeightVariants
from passes.samples.calibration_samples import CalibrationSamples
from passes.samples.matched_samples import matched_samples
from passes.samples.score_targets import targets_of
from passes.samples.statistics_gradients import statistics_gradients
from passes.settings.compress import CompressSettings
from passes.settings.tuning import TUNING

BODY = """net (float[N,6,8,8] x) => (float[N,5,8,8] y) {
    a = Conv(x, a_w)  an = BatchNormalization(a, a_scale, a_bias, a_mean, a_var)  ar = Relu(an)
    b = Conv(ar, b_w)  bn = BatchNormalization(b, b_scale, b_bias, b_mean, b_var)  br = Relu(bn)
    y = Conv(br, y_w, y_b)
}"""
SIZES = dict(a_w=(12, 6, 1, 1), b_w=(16, 12, 1, 1), y_w=(5, 16, 1, 1), y_b=(5,))
PARAMETERS = dict(a_scale=(12,), a_bias=(12,), b_scale=(16,), b_bias=(16,))
TRUE = (2 * np.random.default_rng(1).standard_normal((64, 6, 8, 8)) + 1).astype(np.float32)
MADE = np.random.default_rng(0).standard_normal((32, 6, 8, 8)).astype(np.float32)


def network(body=BODY, offset=0.0):
    """A network that recorded its statistics on TRUE. ``offset``: what is added to the input of the first norm."""
    weights = {k: random_weight(k, shape) for k, shape in {**SIZES, **PARAMETERS}.items()}
    weights["a_scale"], weights["b_scale"] = np.abs(weights["a_scale"]) + 0.5, np.abs(weights["b_scale"]) + 0.5
    x = TRUE.transpose(1, 0, 2, 3).reshape(6, -1)
    for name in "ab":
        seen = weights[f"{name}_w"][:, :, 0, 0] @ x
        mean, variance = seen.mean(1), seen.var(1)
        weights |= {f"{name}_mean": mean, f"{name}_var": variance}
        normed = (seen - mean[:, None]) / np.sqrt(variance[:, None] + 1e-5)
        x = np.maximum(weights[f"{name}_scale"][:, None] * normed + weights[f"{name}_bias"][:, None], 0)
    weights["a_mean"] = weights["a_mean"] + offset
    if "offset" in body:
        weights["offset"] = np.full(1, offset)
    return net(body, 17, **{k: v.astype(np.float32) for k, v in weights.items()})


def moved(model, feeds, run=engine, memory=1e9, **tuning):
    analysis = analyse(model, (), None, Quiet(), engine)
    limits = replace(TUNING.matching, **tuning)
    return matched_samples(analysis.before, analysis.typing.graph, feeds, run, memory, limits)


def test_deviations_fall():
    found = moved(network(), [{"x": MADE[:24]}, {"x": MADE[24:]}], first_step=0.2)
    first, last = found.deviations
    assert last < 0.3 * first
    assert [feed["x"].shape for feed in found.feeds] == [(24, 6, 8, 8), (8, 6, 8, 8)]
    assert all(feed["x"].dtype == np.float32 for feed in found.feeds)
    assert abs(np.concatenate([f["x"] for f in found.feeds]).std() - 2) < abs(MADE.std() - 2)  # as in training


def test_a_fixed_batch_stays():
    """Each batch is moved by itself."""
    feeds = [{"x": MADE[k : k + 1]} for k in range(4)]
    found = moved(network(BODY.replace("[N,", "[1,")), feeds, first_step=0.2, least_gain=1.0, unfit=10.0)
    first, last = found.deviations
    assert last < first and [feed["x"].shape for feed in found.feeds] == [(1, 6, 8, 8)] * 4


@pytest.mark.parametrize(("passes", "count"), [(500, 5), (100, 3), (10**6, 8)])
def test_few_samples_that_move_far_instead_of_many(passes, count):
    """Where all steps of all samples would take too long."""
    model, feeds = network(BODY.replace("[N,", "[1,")), [{"x": MADE[k : k + 1]} for k in range(8)]
    multiply_adds = passes * TUNING.matching.passes * 64 * (6 * 12 + 12 * 16 + 16 * 5)
    limits = dict(
        steps=100, fewest_samples=3, more_share=1.0, multiply_adds=(multiply_adds,) * 3, least_gain=1.0, unfit=10.0
    )
    assert len(moved(model, feeds, **limits).feeds) == count


def test_empty_inputs_are_not_moved():
    assert moved(network(), [{"x": MADE[:, :, :0]}]) is None


def test_the_best_samples_are_kept():
    """A single step that is far too long makes them worse."""
    assert moved(network(), [{"x": MADE}], first_step=1e4, steps=1, fewest_steps=1) is None


def test_steps_that_lose_are_taken_back():
    """They are shortened until they gain."""
    first, last = moved(network(), [{"x": MADE}], first_step=100.0, steps=40).deviations
    assert last < 0.3 * first


def test_samples_that_are_close_stay():
    found = moved(network(), [{"x": MADE}], close=10.0)
    assert np.array_equal(found.feeds[0]["x"], MADE) and found.deviations[0] == found.deviations[1]


@pytest.mark.parametrize("offset", [0.0, 1e4], ids=["centred", "far from zero"])
def test_deviations_hold_where_means_are_large(offset):
    """Squares of values far from zero would lose all digits."""
    model = network(BODY.replace("a = Conv(x, a_w)", "c = Conv(x, a_w)  a = Add(c, offset)"), offset)
    first, last = moved(model, [{"x": MADE}]).deviations
    assert np.isclose(first, moved(network(), [{"x": MADE}]).deviations[0], rtol=0.02) and last < 0.3 * first


CLASSIFIER = BODY.replace("(float[N,5,8,8] y)", "(float[N,5] y)").replace(
    "y = Conv(br, y_w, y_b)", "g = GlobalAveragePool(br)  f = Flatten(g)  y = Gemm<transB=1>(f, y_w)"
)


def classifier(scale, body=CLASSIFIER):
    """``scale``: of the logits. Those of a trained network are far apart."""
    model = network(body)
    for tensor in model.graph.initializer:
        if tensor.name == "y_w":
            wide = scale * random_weight("y_w", (5, 16))
            tensor.CopyFrom(numpy_helper.from_array(wide.astype(np.float32), "y_w"))
    return model


@pytest.mark.parametrize(
    ("made", "count"), [(network, 8), (partial(classifier, 20.0), 32)], ids=["many places", "one place"]
)
def test_no_sample_is_left_out_that_layers_need(made, count):
    """Sixteen features are read at 64 places of each sample, or at one."""
    found = analyse(made(), (), None, Quiet(), engine)
    limits = replace(TUNING.matching, fewest_samples=4, multiply_adds=(1.2e7,) * 3, unfit=10.0, least_gain=1.0)
    samples = CalibrationSamples({"x": MADE}, False, engine)
    variants = WeightVariants(found.before, found.typing, samples, replace(TUNING, matching=limits))
    assert list(variants) and sum(len(feed["x"]) for feed in variants.feeds) == count


@pytest.mark.parametrize(("scale", "sure"), [(20.0, True), (0.01, False)])
def test_samples_of_a_classifier_become_samples_of_all_classes(scale, sure):
    model, start = classifier(scale), {"x": MADE}
    found = moved(model, [start], steps=40, close=0.0, score_weight=0.1)
    before, after = (softmax(engine(model)({"x": x})["y"], 1) for x in (start["x"], found.feeds[0]["x"]))
    assert (len(set(after.argmax(1))) == 5 and (after.max(1).mean() > 0.8)) == sure
    assert not sure or len(set(before.argmax(1))) < 5 or before.max(1).mean() < 0.8
    assert found.deviations[1] < found.deviations[0]


@pytest.mark.parametrize("ends", [(0, 16, 32), (0, 20, 21, 32)], ids=["over each batch", "over all"])
def test_classes_are_balanced(ends):
    """Over all samples where a batch has fewer than there are classes."""
    analysis = analyse(classifier(20.0), (), None, Quiet(), engine)
    batches = [{"x": MADE[start:stop]} for start, stop in itertools.pairwise(ends)]
    gradients = statistics_gradients(analysis.before, ["x"], batches[0], engine, TUNING.matching, True)
    targets = [found.inputs["made.target"] for found in targets_of(gradients, batches, TUNING.matching)]
    assert [len(found) for found in targets] == [len(batch["x"]) for batch in batches]
    assert len(ends) == 4 or all(max(np.bincount(found.argmax(1), minlength=5)) == 4 for found in targets)
    assert max(np.bincount(np.concatenate(targets).argmax(1), minlength=5)) <= 8  # of 32 samples


def test_no_class_where_one_answer_is_not_finite():
    analysis = analyse(classifier(20.0), (), None, Quiet(), engine)
    batches = [{"x": MADE}, {"x": MADE * np.float32(np.inf)}]
    gradients = statistics_gradients(analysis.before, ["x"], batches[0], engine, TUNING.matching, True)
    assert not any(found.move for found in targets_of(gradients, batches, TUNING.matching))


def test_little_memory_makes_small_batches():
    seen = []

    def observed(model):
        run = engine(model)

        def counted(feeds):
            seen.append(len(feeds["x"]))
            return run(feeds)

        return counted

    found = moved(network(), [{"x": MADE}], observed, memory=8 * 4 * 2 * 64 * (2 * 12 + 2 * 16 + 5 + 6 * 6))
    assert found.feeds[0]["x"].shape == MADE.shape and max(seen) == 8


@pytest.mark.parametrize(
    "limits",
    [{"multiply_adds": (1e3,) * 3}, {"weight_multiply_adds": (1.0,) * 3}, {"steps": 0, "fewest_steps": 1}],
    ids=["too long", "too few weights", "no steps"],
)
def test_nothing_is_moved_where_it_takes_too_long(limits):
    assert moved(network(), [{"x": MADE}], **limits) is None


def folded(body):
    first = "an = BatchNormalization(a, a_scale, a_bias, a_mean, a_var)  ar = Relu(an)"
    second = "bn = BatchNormalization(b, b_scale, b_bias, b_mean, b_var)  br = Relu(bn)"
    return body.replace(first, "ar = Relu(a)").replace(second, "br = Relu(b)")


def test_without_norms_samples_of_a_classifier_become_samples_of_all_classes():
    model = classifier(8.0, folded(CLASSIFIER))
    found = moved(model, [{"x": MADE}])
    before, after = (softmax(engine(model)({"x": x})["y"], 1) for x in (MADE, found.feeds[0]["x"]))
    assert not found.recorded and found.deviations[1] < 0.2 * found.deviations[0]
    assert len(set(before.argmax(1))) == 1 and len(set(after.argmax(1))) >= 4


DETECTOR = folded(BODY).replace("y = Conv(br, y_w, y_b)", "z = Conv(br, y_w, y_b)  s = Sigmoid(z)  y = Identity(s)")


def test_without_norms_a_detector_finds_objects():
    model = network(DETECTOR)
    for tensor in model.graph.initializer:
        if tensor.name == "y_b":
            tensor.CopyFrom(numpy_helper.from_array(np.full(5, -20, np.float32), "y_b"))
    found = moved(model, [{"x": MADE}])
    before, after = (engine(model)({"x": x})["y"].max((1, 2, 3)) for x in (MADE, found.feeds[0]["x"]))
    assert before.max() < 0.5 < after.min()


def test_inputs_that_no_score_depends_on_stay():
    body = DETECTOR.replace("x) =>", "x, float[N,1] k) =>").replace(
        "float[N,5,8,8] y)", "float[N,5,8,8] y, float[N,1] e)"
    )
    scale = np.ones((32, 1), np.float32)
    found = moved(network(body.replace("y = Identity(s)", "y = Identity(s)  e = Neg(k)")), [{"x": MADE, "k": scale}])
    assert np.array_equal(found.feeds[0]["k"], scale) and not np.array_equal(found.feeds[0]["x"], MADE)


def test_no_norm_or_no_gradient():
    assert moved(network(folded(BODY)), [{"x": MADE}]) is None
    sorted_ = BODY.replace("ar = Relu(an)", "k = Constant<value_ints=[12]>()  ar, at = TopK<axis=1>(an, k)")
    model = network(sorted_)
    found = moved(model, [{"x": MADE}])  # the first norm can be matched, or nothing
    assert found is None or found.deviations[1] < found.deviations[0]


def compressed(model, real=False, tuning=TUNING):
    settings = CompressSettings(keep=0.5, method="reconstruct", select="auto")
    return compress(model, settings, samples=CalibrationSamples({"x": MADE}, real, engine), tuning=tuning)


def test_a_run_uses_them_and_says_so():
    model = network()
    assert any("made-up samples were moved" in note for note in compressed(model).notes)
    assert not any("moved" in note for note in compressed(model, real=True).notes)


def error_on_true(result, model):
    exact, now = (engine(m)({"x": TRUE})["y"] for m in (model, result.model))
    return float(np.square(exact - now).sum() / np.square(exact - exact.mean((0, 2, 3), keepdims=True)).sum())


def test_results_are_nearer_to_the_original_on_true_samples():
    model, limits = network(), TUNING.matching
    errors = [
        error_on_true(compressed(model, tuning=replace(TUNING, matching=replace(limits, **given))), model)
        for given in ({}, {"steps": 0, "fewest_steps": 1})
    ]
    assert errors[0] < 1.1 * errors[1]


def test_samples_that_overflow_stay():
    """A network may have no finite statistics on them from the first step on."""

    def overflowing(model):
        run = engine(model)
        return lambda feeds: {n: np.full_like(v, np.inf) if v.dtype.kind == "f" else v for n, v in run(feeds).items()}

    assert moved(network(), [{"x": MADE}], overflowing) is None
