"""Limits of the verdict: one for outputs that hold classes, and others for all other outputs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class VerdictThresholds:
    """A stricter limit takes more good results for doubtful ones, a looser one passes more bad results."""

    changed: float = 0.10
    """Largest share of the samples (of places, see `onnx_merge.evaluation.class_changes`) that change class in a good
    result.

    Accuracy falls by at most the share that changes. Below this limit the drop is under ten points; above it, a larger
    drop cannot be excluded. It is also the smallest share of samples that must show another class than the most
    frequent one. Otherwise a result that always gives the same answer would pass. Derived, not tuned.
    """
    nsr: float = 0.02
    """Largest noise over signal of a good result's other outputs.

    Settled on NudeNet's detector (320n.onnx of the package nudenet) and the text detector of rapidocr-onnxruntime, with
    noise on their weights and with channels removed. The F1 of NudeNet's boxes after suppression against the original's
    is 0.97, 0.94, 0.92, 0.82 at 0.008, 0.021, 0.032, 0.12. The F1 of the text's pixels is 0.98, 0.95, 0.88 at 0.03,
    0.07, 0.21."""
    bad_nsr: float = 0.1
    """Noise over signal above which a result is bad. Between the two limits it depends on the task.

    Settled on the networks above: F1 is 0.98 or more up to a third of this limit, and below 0.9 beyond twice the limit.
    """
    made_up: float = 0.5
    """Limit in place of both others on made-up samples, on which models are less certain of the class than on real
    data.

    If most of these samples change class, or most of the signal is lost, the result computes something else. Not tuned:
    a half.
    """


THRESHOLDS = VerdictThresholds()
