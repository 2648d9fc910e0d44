"""Moves the made-up samples on which results are compared."""

from __future__ import annotations

from onnx_merge.calibration.model_samples import ModelSamples
from onnx_merge.inputs.user_arrays import Samples
from onnx_merge.runtime.devices.device_runner import engine_of
from passes.analysis.analyse import Analysis
from passes.reconstruction.held_out_samples import moved_held_out
from passes.reconstruction.weight_variants import CalibrationSamples


def move_held_out(held: ModelSamples, analysis: Analysis) -> None:
    """Move the samples on which results are compared, where they are made up, as those that layers are fitted to.

    Layers are fitted to samples that look to the model like its training data. On others a result answers otherwise,
    which says nothing of what it is worth.
    """
    if held.real or held.session is None or not held.options.fits:
        return
    feeds = held.feeds_compared() if held.samples is None else held.samples.feeds
    made = CalibrationSamples(feeds, False, engine_of(held.provider), held.options.memory_limit)
    moved = moved_held_out(analysis.before, analysis.typing, made)
    if moved is not None:
        held.samples = Samples(dict(moved))
