"""What a verdict rests on: a limit for outputs that name classes, and limits for all others, in one place."""

from __future__ import annotations

CHANGED = 0.10
"""Share of the samples (of places, see `onnx_merge.evaluation.class_changes`) that change class, at most, in a good
result.

Accuracy falls by no more than the share that changes, so that with less the drop is under ten points, and with more
nothing excludes one. It is also the least share of the samples that must show another class than the most frequent one:
below it, a result that always gives the same answer would pass."""
NSR = 0.02
"""Noise over signal, at most, of a good result's other outputs.

Settled on NudeNet's detector (320n.onnx of the package nudenet, F1 of its boxes after suppression against the
original's: 0.97, 0.94, 0.92, 0.82 at 0.008, 0.021, 0.032, 0.12) and the text detector of rapidocr-onnxruntime (F1 of
the text's pixels 0.98, 0.95, 0.88 at 0.03, 0.07, 0.21), with noise on their weights and with channels removed."""
NSR_BAD = 0.1
"""Noise over signal above which a result is bad; between the two it depends on the task. On the networks above, an F1
of 0.98 is kept at a third of it and less; beyond twice as much all are under 0.9."""
MADE_UP = 0.5
"""What takes the place of both limits on made-up samples, of which none is as sure of its class as those of the data:
where most of them change class, or most of the signal is lost, the result computes something else."""
