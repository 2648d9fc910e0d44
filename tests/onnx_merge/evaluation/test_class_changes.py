"""Classes that change, and how far distributions are from the original's."""

import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from scipy.stats import binomtest, entropy

from onnx_merge.evaluation.class_changes import ClassMeter, distribution, share_bounds

RNG = np.random.default_rng(0)


def result(kind, x, y, axis=1):
    meter = ClassMeter(kind, axis)
    meter.add(x, y)
    return meter.result()


def test_distributions_are_known_by_their_values():
    x = RNG.standard_normal((9, 5, 4)) * 3
    assert distribution(softmax(x, 2)) == ("probabilities", 2)
    assert distribution(softmax(x, 1).astype(np.float32)) == ("probabilities", 1)
    assert distribution(log_softmax(x, 1)) == ("log-probabilities", 1)
    assert distribution(softmax(x, 2).astype(np.float16)) == ("probabilities", 2)
    assert distribution(x) is None and distribution(1 / (1 + np.exp(-x))) is None
    assert distribution(softmax(x, 0)) is None  # samples are no classes
    assert distribution(np.ones((9, 1))) is None and distribution(np.ones((9, 0))) is None
    assert distribution(np.ones((9, 2), np.int64)) is None


@pytest.mark.parametrize("kind", ["logits", "probabilities", "log-probabilities"])
def test_against_the_definitions(kind):
    a, b = (RNG.standard_normal((200, 6)) * 2 for _ in range(2))
    b = a + 0.5 * b
    form = {
        "logits": lambda v: v,
        "probabilities": lambda v: softmax(v, 1),
        "log-probabilities": lambda v: log_softmax(v, 1),
    }
    found = result(kind, form[kind](a), form[kind](b))
    assert found.kl == pytest.approx(entropy(softmax(a, 1), softmax(b, 1), axis=1).mean())
    changed = int((a.argmax(1) != b.argmax(1)).sum())
    exact = binomtest(changed, 200).proportion_ci(0.95, method="exact")
    assert found.changed == changed / 200 and 0.1 < found.changed < 0.5 and found.reason is None
    assert (found.low, found.high) == (pytest.approx(exact.low), pytest.approx(exact.high))
    assert found.low < found.likely[0] < found.changed < found.likely[1] < found.high


def test_batches_and_layouts_add_up():
    a = RNG.standard_normal((20, 3, 8))
    b = a + RNG.standard_normal(a.shape) * 0.3
    whole = result("logits", a, b)
    meter = ClassMeter("logits", 2)
    for start in range(0, 20, 3):
        meter.add(*(v[start : start + 3].transpose(0, 2, 1) for v in (a, b)))
    again = meter.result()
    assert again.changed == whole.changed and again.kl == pytest.approx(whole.kl)


def test_the_bounds_are_exact():
    assert share_bounds(0, 299, 0.05) == (0, pytest.approx(0.009968, rel=1e-3))
    assert share_bounds(5, 5, 0.025) == (pytest.approx(0.4782, rel=1e-3), 1)
    assert share_bounds(0, 0, 0.025) == (0, 1)
    same = result("logits", *[RNG.standard_normal((32, 4))] * 2)
    assert (same.changed, same.low, same.kl) == (0, 0, 0) and same.high == pytest.approx(1 - 0.025 ** (1 / 32))


def test_places_of_a_sample_do_not_count_as_samples():
    """Where a sample changes as a whole, a hundred places say no more than one."""
    before = RNG.integers(0, 5, (40, 100))
    alike, apart = before.copy(), before.copy()
    alike[:4] += 1
    apart[:, :10] += 1
    one, many = (result("labels", before, after) for after in (alike, apart))
    exact = binomtest(4, 40).proportion_ci(0.95, method="exact")
    assert one.changed == pytest.approx(many.changed, abs=0.03)
    assert one.high - one.low == pytest.approx(exact.high - exact.low, rel=0.1)
    assert many.high - many.low < 0.1 * (one.high - one.low) + 0.05
    assert one.kl is None


def test_background_hides_nothing():
    """Of 4,000 anchors a few hold faces; losing half of those is no 0.1%."""
    before = np.zeros((30, 4000), int)
    before[:, :8] = 1
    after = before.copy()
    after[:, :4] = 0
    assert result("labels", before, after).changed == 0.5
    after[:, 100:104] = 1  # four more where there are none: twelve places where one of them has something
    assert result("labels", before, after).changed == pytest.approx(8 / 12)


def test_one_answer_is_no_test():
    scores = np.tile([2.0, -2.0], (64, 1))
    assert result("logits", scores, scores).reason == "100% of the samples show one class only"
    scores[:6] *= -1  # 9%: always the same answer would be right for more than a good result must
    assert result("logits", scores, scores).reason == "91% of the samples show one class only"
    scores[:7] = [-2, 2]
    assert result("logits", scores, scores).reason is None
    background = np.zeros((64, 50), int)
    found = result("labels", background, background)
    assert found.reason is not None and (found.changed, found.low, found.high) == (0, 0, 1)


def test_labels_may_be_any_whole_numbers():
    before = np.array([[-1], [10**12], [5], [5]])
    found = result("labels", before, np.array([[-1], [7], [5], [6]]))
    assert found.changed == 0.5


def test_features_are_no_scores():
    def peaked(x):
        meter = ClassMeter("logits")
        meter.add(x, x)
        return meter.peaked()

    features = np.tanh(RNG.standard_normal((64, 384)))
    assert not peaked(features) and not peaked(features / np.linalg.norm(features, axis=1, keepdims=True))
    logits = RNG.standard_normal((64, 1000))
    logits[np.arange(64), RNG.integers(0, 1000, 64)] += 12
    assert peaked(logits) and peaked(9 * RNG.standard_normal((300, 2)))


def test_what_is_masked_out_is_no_class():
    a = np.array([[1.0, 2.0, -1e9], [3.0, 1.0, -1e9]] * 8)
    found = result("logits", a, a + [[0.1, 0, 0]])
    assert np.isfinite(found.kl) and found.changed == 0
    certain = np.array([[1.0, 0.0], [0.0, 1.0]] * 8)
    assert np.isfinite(result("probabilities", certain, certain[:, ::-1]).kl)
