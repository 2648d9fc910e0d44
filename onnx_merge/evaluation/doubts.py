"""What the samples at hand leave unknown about a model, said where its numbers are read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx_merge.evaluation.layer_activity import complaint, layers

if TYPE_CHECKING:
    from onnx_merge.evaluation.comparison import Comparison

MADE_UP = "made up: how the model does on yours is not known; give --calib"
LAYERS = 100
"""That are looked at, at most."""
SHARE = 4
"""What is computed in a model for one sample takes one part in so many of the memory, at most, as do its weights."""


def doubts(comparison: Comparison) -> tuple[str, ...]:
    """Lines about the samples on which ``comparison`` compares outputs, none if they are the user's and look like what
    the model was trained on."""
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
