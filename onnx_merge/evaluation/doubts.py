"""Warnings about what the samples cannot show about a model, reported next to its numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx_merge.evaluation.layer_activity import complaint, layers

if TYPE_CHECKING:
    from onnx_merge.calibration.model_samples import ModelSamples

MADE_UP = "made up: how the model does on yours is not known; give --calib"


def doubts(samples: ModelSamples) -> tuple[str, ...]:
    """Return warnings about the samples on which outputs are compared, one line each.

    Empty if the samples are the user's and look like the model's training data.
    """
    original = samples.original
    if original.session is None:
        return ()
    feeds = samples.compared()
    found = [] if samples.real else [MADE_UP]
    most = original.memory.examined_layers(original.model)
    off = complaint(layers(original.model, feeds, original.provider, most)) if most else None
    remedy = "are they scaled as in training? see --input-range, --mean and --std" if samples.real else "give --calib"
    found += [f"{off}: {remedy}"] if off else []
    return tuple(found)
