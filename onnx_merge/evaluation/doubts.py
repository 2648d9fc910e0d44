"""Warnings about what the samples cannot show about a model, reported next to its numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx_merge.evaluation.layer_activity import complaint, layers

if TYPE_CHECKING:
    from onnx_merge.evaluation.comparison import Comparison

MADE_UP = "made up: how the model does on yours is not known; give --calib"
LAYERS = 100
"""Largest number of layers that are examined."""
SHARE = 4
"""The activations of one sample may take at most 1 / `SHARE` of the memory, and so may the model's weights."""


def doubts(comparison: Comparison) -> tuple[str, ...]:
    """Return warnings about the samples on which ``comparison`` compares outputs, one line each.

    Empty if the samples are the user's and look like the model's training data.
    """
    options, model = comparison.options, comparison.model
    if comparison.session is None:
        return ()
    feeds = comparison.feeds_compared()
    found = [] if comparison.real else [MADE_UP]
    room, each = options.memory_limit // SHARE, comparison.fitting.each
    if sum(tensor.ByteSize() for tensor in model.graph.initializer) <= room:
        most = LAYERS if each is None else min(LAYERS, int(room / max(1.0, each.widest)))
        off = complaint(layers(model, feeds, comparison.provider, most)) if most else None
        remedy = "are they scaled as in training? see --mean and --std" if comparison.real else "give --calib"
        found += [f"{off}: {remedy}"] if off else []
    return tuple(found)
