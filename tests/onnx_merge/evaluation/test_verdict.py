"""The verdict that follows from the loss of the outputs."""

from dataclasses import replace

import pytest

from onnx_merge.evaluation.thresholds import THRESHOLDS
from onnx_merge.evaluation.verdict import Fidelity, OutputFidelity, in_order

FINE = OutputFidelity("fine", 0.5 * THRESHOLDS.nsr)
LOST = OutputFidelity("lost", 2 * THRESHOLDS.bad_nsr)
BETWEEN = OutputFidelity("between", 2 * THRESHOLDS.nsr)
STILL = OutputFidelity("still", None, tested=False, reason="it is the same for every sample", constant=True)
FAINT = OutputFidelity("faint", 0.0, tested=False, reason="it varies by 1.0e-05 of its level")


def classes(changed, low, high, **changes):
    """A share that changes, which is between two others with some certainty."""
    some = OutputFidelity("classes", 0.3, 0.1, changed, low / 2, min(1.0, 2 * high), likely=(low, high))
    return replace(some, **changes)


def looks(*shares, **changes):
    """The same where only the values say that they are class scores."""
    return classes(*shares, told_by_values=True, **changes)


def close(*outputs, **changes):
    return replace(Fidelity(0.99, 0.1, None, 32, "calib c.npz", "cpu", in_order(outputs)), **changes)


@pytest.mark.parametrize(
    ("outputs", "word", "why"),
    [
        ([FINE], "good", "noise/signal 0.01, limit 0.02"),
        ([LOST], "bad", "noise/signal 0.2, limit 0.1"),
        ([FINE, LOST], "bad", "lost: noise/signal 0.2, limit 0.1"),
        ([FINE, FAINT], "untested", "faint: it varies by 1.0e-05 of its level"),
        ([LOST, FAINT], "bad", "lost: noise/signal 0.2, limit 0.1"),
        ([replace(LOST, tested=False, reason="one sample shows no spread")], "untested", "one sample shows no spread"),
        ([BETWEEN, FINE], "untested", "between: noise/signal 0.04; above 0.02 it depends on the task; see --metric"),
        ([replace(LOST, spared=True)], "untested", "noise/signal 0.2; above 0.02 it depends on the task"),
        ([STILL], "untested", "it is the same for every sample"),
        ([FINE, STILL], "good", "fine: noise/signal 0.01, limit 0.02"),
        ([], "untested", "nothing was compared"),
        ([classes(0.03, 0.01, 0.07)], "good", "3.0% change class, limit 10%"),
        ([classes(0.2, 0.12, 0.3)], "bad", "20.0% change class, limit 10%"),
        ([classes(0.05, 0.02, 0.11)], "untested", "too few samples to tell whether more than 10% change class"),
        ([classes(0.12, 0.09, 0.2)], "untested", "too few samples to tell whether more than 10% change class"),
        ([classes(0.2, 0.12, 0.3, tested=False, reason="x")], "bad", "20.0% change class, limit 10%"),
        ([looks(0.03, 0.01, 0.07)], "untested", "3.0% change class, noise/signal 0.3: class scores or quantities?"),
        ([looks(0.03, 0.01, 0.07, nsr=0.05)], "good", "3.0% change class, limit 10%"),
        ([looks(0.2, 0.12, 0.3)], "bad", "20.0% change class, limit 10%"),
        ([looks(0.2, 0.12, 0.3, nsr=0.01)], "untested", "20.0% change class, noise/signal 0.01: class scores or"),
        ([classes(0.0, 0.0, 0.05, tested=False, reason="95% of the samples show one class only")], "untested", "95%"),
    ],
)
def test_the_verdict(outputs, word, why):
    found = close(*outputs)
    assert found.verdict == word and found.why.startswith(why)


def test_labels_say_that_they_are_classes():
    assert close(looks(0.03, 0.01, 0.07), accuracy_lost=(0.0, 100)).verdict == "good"
    assert close(looks(0.2, 0.12, 0.3, nsr=0.01), accuracy_lost=(0.0, 100)).verdict == "bad"


def test_samples_unlike_the_training_data_show_nothing_good():
    assert close(FINE, unlike_training=True).why == "the samples look unlike the training data: see above"
    assert close(LOST, unlike_training=True).verdict == "bad"


@pytest.mark.parametrize(
    ("lost", "count", "word"),
    [(1.0, 1, "bad"), (0.2, 100, "bad"), (0.11, 100, "untested"), (0.1, 10000, "untested"), (-0.5, 100, "untested")],
)
def test_accuracy_that_falls_is_bad_whatever_the_outputs_show(lost, count, word):
    """As many of the samples could change class, but for an accidental few."""
    found = close(STILL, accuracy_lost=(lost, count))
    assert found.verdict == word
    assert word != "bad" or found.why == f"accuracy falls by {100 * lost:.1f} points, limit 10"
    assert close(FINE, accuracy_lost=(lost, count)).verdict == ("bad" if word == "bad" else "good")


def test_made_up_samples_earn_nothing_good():
    assert close(FINE, real=False).verdict == "untested"
    assert close(FINE, real=False).why == "made-up samples; give your own with --calib"
    assert close(FAINT, real=False).why == f"made-up samples: {FAINT.reason}; give your own with --calib"
    assert close(LOST, real=False).verdict == "untested"  # less sure of their classes than those of the data
    far = replace(LOST, nsr=0.6), classes(0.7, 0.6, 0.8)
    assert [close(one, real=False).verdict for one in far] == ["bad", "bad"]
    assert close(far[0], real=False).why == "noise/signal 0.6, limit 0.5"
    assert close(far[1], real=False).why == "70.0% change class, limit 50%"
    assert close(FINE, in_sample=True).verdict == "untested" and close(LOST, in_sample=True).verdict == "bad"
    assert close(FINE, real=False, exact=True).verdict == "good"  # by the way it was made
    assert close(LOST, real=False, exact=True).verdict == "bad"


def test_the_worst_stands_first():
    found = close(STILL, FINE, FAINT, LOST, classes(0.5, 0.4, 0.6))
    assert [o.name for o in found.outputs] == ["classes", "lost", "faint", "fine", "still"]
    assert found.worst.name == "classes" and close().worst is None


def test_one_number():
    assert close(classes(0.03, 0.01, 0.07)).loss == 0.03 and close(FINE, LOST).loss == 2 * THRESHOLDS.bad_nsr
    assert close(classes(0.03, 0.01, 0.07), FINE).loss == 0.3  # where not all are classes, the noise of all
    assert close(classes(0.03, 0.01, 0.07), STILL).loss == 0.03
    assert close(STILL, relative_l2=0.5).loss == 0.25 and close().loss == pytest.approx(0.01)
    assert close(replace(LOST, nsr=1e30)).loss == 1e6
    assert close(FINE, replace(LOST, tested=False, reason="x")).nsr == 0.5 * THRESHOLDS.nsr  # tested ones first
    assert close(FINE).kl is None and close(classes(0.1, 0, 1)).kl == 0.1


def test_what_was_held_out():
    assert close(FINE).held_out == 32 and close(FINE, in_sample=True).held_out == 0


def test_the_limits_are_what_the_words_say():
    words = [
        close(replace(FINE, nsr=value)).verdict
        for value in (THRESHOLDS.nsr, THRESHOLDS.nsr * 1.001, THRESHOLDS.bad_nsr, THRESHOLDS.bad_nsr * 1.001)
    ]
    assert words == ["good", "untested", "untested", "bad"]
    assert (THRESHOLDS.changed, THRESHOLDS.nsr, THRESHOLDS.bad_nsr) == (0.10, 0.02, 0.1)
