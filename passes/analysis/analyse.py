"""Finds the channel groups of a model: the first half of the pipeline."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from passes.analysis.analysis_passes import analysis_passes
from passes.analysis.known import Analysis, Inside
from passes.interface.engine import Engine
from passes.interface.model_pass import WorkingModel
from passes.interface.runner import Stage, run_passes
from passes.shapes.inference import Assignment, Observer

__all__ = ["Analysis", "Inside", "analyse"]


def analyse(
    model: onnx.ModelProto,
    assignments: Sequence[Assignment],
    observer: Observer | None,
    stage: Stage,
    engine: Engine | None = None,
) -> Analysis:
    """The channel groups of ``model``, which is not modified. Parameters are those of `analysis_passes`."""
    passes = analysis_passes(assignments, observer, engine)
    return run_passes(passes, WorkingModel(model), stage).model[Analysis]
