"""Warnings about what the samples cannot show about a model, reported next to its numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx_merge.evaluation.layer_activity import complaint, layers

if TYPE_CHECKING:
    from onnx_merge.evaluation.comparison import Comparison

MADE_UP = "made up: how the model does on yours is not known; give --calib"


def doubts(comparison: Comparison) -> tuple[str, ...]:
    """Return warnings about the samples on which ``comparison`` compares outputs, one line each.

    Empty if the samples are the user's and look like the model's training data.
    """
    model = comparison.model
    if comparison.session is None:
        return ()
    feeds = comparison.feeds_compared()
    found = [] if comparison.real else [MADE_UP]
    most = comparison.fitting.examined_layers(model)
    off = complaint(layers(model, feeds, comparison.provider, most)) if most else None
    remedy = (
        "are they scaled as in training? see --input-range, --mean and --std" if comparison.real else "give --calib"
    )
    found += [f"{off}: {remedy}"] if off else []
    return tuple(found)
