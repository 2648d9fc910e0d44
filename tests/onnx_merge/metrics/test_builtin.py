"""The metrics that are there by name, against scikit-learn and torchmetrics as judges."""

import math

import numpy as np
import onnx
import onnx.helper
import onnx.parser
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from onnx_merge.config.option_parsing import METRICS
from onnx_merge.errors import InputError, UsageError
from onnx_merge.metrics.metric import BuiltIn
from onnx_merge.metrics.predictor import Predictor
from onnx_merge.runtime.batching import BatchSize
from onnx_merge.runtime.providers import CPU
from onnx_merge.runtime.session import Session

judge = pytest.importorskip("sklearn.metrics")
ROWS, CLASSES = 45, 9


def predictor(body="y = Identity(x)", inputs="float[N,9] x", outputs="float[N,9] y", most=8, original=None):
    text = f'<ir_version: 8, opset_import: ["" : 17]> g ({inputs}) => ({outputs}) {{ {body} }}'
    return Predictor(Session(onnx.parser.parse_model(text), CPU), BatchSize(most), original)


@pytest.fixture(scope="module")
def identity():
    """A model that gives what it gets."""
    return predictor()


@pytest.fixture
def scores():
    return np.random.default_rng(0).standard_normal((ROWS, CLASSES)).astype(np.float32)


@pytest.fixture
def labels(scores):
    """Mostly the best class, of which some are in no sample."""
    noisy = scores + 0.5 * np.random.default_rng(1).standard_normal(scores.shape)
    return np.minimum(noisy.argmax(1), CLASSES - 2)


def value(name, predict, x, labels=None):
    return BuiltIn(name)(predict, {"x": x}, labels)


def softmax(scores):
    exact = np.exp(scores - scores.max(1, keepdims=True))
    return (exact / exact.sum(1, keepdims=True)).astype(scores.dtype)


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.float32, "column", "one hot"])
def test_accuracy(identity, scores, labels, kind):
    given = {"column": labels[:, None], "one hot": np.eye(CLASSES)[labels]}.get(kind)
    given = labels.astype(kind) if given is None else given
    expected = 100 * judge.accuracy_score(labels, scores.argmax(1))
    assert 0 < expected < 100 and value("accuracy", identity, scores, given) == pytest.approx(expected, rel=1e-12)


def test_top5(identity, scores):
    labels = np.random.default_rng(2).integers(0, CLASSES, ROWS)
    expected = 100 * judge.top_k_accuracy_score(labels, scores, k=5, labels=range(CLASSES))
    assert 0 < expected < 100 and value("top5", identity, scores, labels) == pytest.approx(expected, rel=1e-12)


def test_of_equal_scores_the_lower_class_comes_first(identity):
    same = np.zeros((CLASSES, CLASSES), np.float32)
    assert value("accuracy", identity, same, np.arange(CLASSES)) == pytest.approx(100 / 9)
    assert value("top5", identity, same, np.arange(CLASSES)) == pytest.approx(500 / 9)


def test_what_is_no_number_is_right_about_nothing(identity, scores):
    predict = predictor("y = Log(x)")
    assert value("accuracy", predict, -abs(scores), scores.argmax(1)) == 0
    assert value("top5", predict, -abs(scores), scores.argmax(1)) == 0
    one = abs(scores) + 1
    one[:, 3] = -1
    assert value("top5", predict, one, np.full(ROWS, 3)) == 0


def test_cross_entropy_of_probabilities_and_of_logits(identity, scores, labels):
    expected = -judge.log_loss(labels, softmax(scores.astype(np.float64)), labels=range(CLASSES))
    log_softmax = predictor("y = LogSoftmax(x)")
    for predict, made in (
        (identity, scores),
        (identity, scores + 50),
        (identity, softmax(scores)),
        (log_softmax, scores),
    ):
        assert value("neg-cross-entropy", predict, made, labels) == pytest.approx(expected, rel=1e-5)


def test_one_sample_that_is_no_distribution_makes_all_logits(identity, scores, labels):
    mixed = softmax(scores)
    mixed[-1] *= 3
    expected = -judge.log_loss(labels, softmax(mixed.astype(np.float64)), labels=range(CLASSES))
    assert value("neg-cross-entropy", identity, mixed, labels) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_a_probability_of_nothing_costs_what_scikit_learn_says(dtype):
    names = {np.float32: "float", np.float64: "double", np.float16: "float16"}
    kind = names[dtype]
    certain = np.eye(CLASSES, dtype=dtype)
    labels = (np.arange(CLASSES) + (np.arange(CLASSES) < 2)) % CLASSES
    expected = -judge.log_loss(labels, certain, labels=range(CLASSES))
    predict = predictor(inputs=f"{kind}[N,9] x", outputs=f"{kind}[N,9] y")
    assert value("neg-cross-entropy", predict, certain, labels) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("shape", [(ROWS,), (ROWS, 1), (ROWS, 3), (ROWS, 2, 2)])
def test_r2(shape):
    rng = np.random.default_rng(3)
    truth = rng.standard_normal(shape) * 3 + 1000
    given = (truth + rng.standard_normal(shape)).astype(np.float32).reshape(ROWS, *(shape[1:] or (1,)))
    sizes = ",".join(map(str, given.shape[1:]))
    predict = predictor(inputs=f"float[N,{sizes}] x", outputs=f"float[N,{sizes}] y")
    expected = judge.r2_score(truth.reshape(ROWS, -1), given.reshape(ROWS, -1))
    assert 0.5 < value("r2", predict, given, truth) < 1
    assert value("r2", predict, given, truth) == pytest.approx(expected, rel=1e-9)
    # A model whose outputs have axes of one more, or fewer, than the labels.
    assert value("r2", predict, given, truth.reshape(ROWS, 1, *shape[1:])) == pytest.approx(expected, rel=1e-9)


def test_r2_where_targets_do_not_vary():
    truth = np.random.default_rng(4).standard_normal((ROWS, 3))
    truth[:, 1:] = 0.1
    given = (truth + [0.3, 0.3, 0]).astype(np.float64)
    predict = predictor(inputs="double[N,3] x", outputs="double[N,3] y")
    assert value("r2", predict, given, truth) == pytest.approx(judge.r2_score(truth, given), rel=1e-9)


@given(arrays(np.float64, (12, 2), elements=st.floats(-1e3, 1e3, width=16)), st.integers(1, 12))
def test_r2_does_not_depend_on_batches(truth, most):
    given = np.roll(truth, 1, axis=0)
    predict = predictor(inputs="double[N,2] x", outputs="double[N,2] y", most=most)
    assert value("r2", predict, given, truth) == pytest.approx(judge.r2_score(truth, given), rel=1e-6, abs=1e-6)


def test_psnr():
    """By hand: a range of 4, and a mean squared error of 0.04."""
    truth = np.linspace(-1, 3, 36).reshape(4, 9)
    given = (truth + np.where(np.arange(9) % 2, 0.2, -0.2)).astype(np.float32)
    assert value("psnr", predictor(most=1), given, truth) == pytest.approx(10 * math.log10(16 / 0.04), rel=1e-5)


@pytest.mark.torch
def test_torchmetrics_agrees(identity, scores, labels):
    torch, other = pytest.importorskip("torch"), pytest.importorskip("torchmetrics.functional")
    x, y = torch.from_numpy(scores), torch.from_numpy(labels)
    truth = scores + np.random.default_rng(5).standard_normal(scores.shape).astype(np.float32)
    target = torch.from_numpy(truth)
    classes = {"task": "multiclass", "num_classes": CLASSES, "average": "micro"}
    for name, labelled, expected in (
        ("accuracy", labels, 100 * other.accuracy(x, y, **classes)),
        ("top5", labels, 100 * other.accuracy(x, y, top_k=5, **classes)),
        ("neg-cross-entropy", labels, -torch.nn.functional.cross_entropy(x, y)),
        ("psnr", truth, other.image.peak_signal_noise_ratio(x, target, data_range=float(truth.max() - truth.min()))),
        ("r2", truth, other.r2_score(x, target)),
    ):
        assert value(name, identity, scores, labelled) == pytest.approx(float(expected), rel=1e-5), name


def test_without_labels_the_original_is_the_target(identity, scores):
    half = predictor("h = Constant<value_float = 0.5>()  y = Mul(x, h)", original=identity)
    expected = judge.r2_score(scores, scores / 2)
    assert value("r2", half, scores) == pytest.approx(expected, rel=1e-6)
    assert value("r2", identity, scores) == 1.0 and value("psnr", identity, scores) == math.inf
    exact = 10 * math.log10((scores.max() - scores.min()) ** 2 / ((scores / 2) ** 2).mean())
    assert value("psnr", half, scores) == pytest.approx(exact, rel=1e-6)


def test_the_worst_output_counts(scores):
    outputs = "float[N,9] y, float[N,9] z"
    original = predictor("y = Identity(x)  z = Identity(x)", outputs=outputs)
    worse = predictor(
        "h = Constant<value_float = 0.5>()  y = Identity(x)  z = Mul(x, h)", outputs=outputs, original=original
    )
    assert value("r2", worse, scores) == pytest.approx(judge.r2_score(scores, scores / 2), rel=1e-6)


def test_the_output_that_labels_fit_is_taken(scores, labels):
    both = predictor("y = Identity(x)  z = ReduceMean<axes = [1], keepdims = 0>(x)", outputs="float[N,9] y, float[N] z")
    assert value("r2", both, scores, scores.mean(1)) == pytest.approx(1.0)
    assert value("r2", both, scores, scores) == 1.0
    assert value("accuracy", both, scores, scores.argmax(1)) == 100.0, "a score alone is no class"


def test_names():
    from onnx_merge.metrics.builtin import BUILT_IN

    assert tuple(BUILT_IN) == METRICS


def refused(name, predict, x, labels=None, kind=UsageError):
    with pytest.raises(kind) as caught:
        value(name, predict, x, labels)
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize("name", ["accuracy", "top5", "neg-cross-entropy"])
def test_what_classes_need(identity, scores, labels, name):
    assert refused(name, identity, scores) == f"metric {name} needs labels: give --labels with a file that holds them"
    assert "labels must be class numbers from 0 to 8, found 9" in refused(
        name, identity, scores, labels + 9 - labels.max()
    )
    assert "must be whole class numbers" in refused(name, identity, scores, labels + 0.5, InputError)
    maps = predictor(inputs="float[N,9,2] x", outputs="float[N,9,2] y")
    said = refused(name, maps, np.zeros((ROWS, 9, 2), np.float32), labels)
    assert said == f"metric {name} needs a model with one output of class scores, (N, classes)"


def test_what_targets_need(identity, scores):
    said = refused("r2", identity, scores, scores[:, :4])
    assert said.endswith("needs labels of the shape of one output: of a sample, they are (4,), and outputs are y (9,)")
    assert "needs labels that are numbers, not <U1" in refused("psnr", identity, scores, np.full((ROWS, 9), "a"))
    assert "r2 needs at least 2 samples" in refused("r2", identity, scores[:1], scores[:1])
    assert "the targets of output 'y' are all the same" in refused("psnr", identity, scores, np.zeros_like(scores))
    assert "needs more than 5 classes, but the model has 5" in refused(
        "top5", predictor(inputs="float[N,5] x", outputs="float[N,5] y"), scores[:, :5], np.zeros(ROWS, int)
    )
    assert "cannot be computed: the outputs or the labels" in refused("r2", predictor("y = Log(x)"), scores, scores)
