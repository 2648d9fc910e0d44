"""What a verdict rests on: two limits, the one for outputs that name classes, the other for all others."""

from __future__ import annotations

CHANGED = 0.10
"""Share of the samples (of places, see `onnx_merge.class_changes`) that change class, at most, in a good result.

Accuracy falls by no more than the share that changes, so that with less the drop is under ten points, and with more
nothing excludes one. It is also the least share of the samples that must show another class than the most frequent one:
below it, a result that always gives the same answer would pass."""
NSR = 0.02
"""Noise over signal, at most, of a good result's other outputs."""
