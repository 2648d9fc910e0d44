"""Prepares a job: reads and checks the samples, and analyses the model."""

from __future__ import annotations

from onnx_merge.calibration.moved_samples import move_held_out
from onnx_merge.compression.job import Job
from onnx_merge.compression.model_analysis import analysed
from onnx_merge.config.options import Options
from onnx_merge.evaluation.comparison import Comparison
from onnx_merge.evaluation.doubts import doubts
from onnx_merge.io.model_source import Source
from onnx_merge.runtime.providers import ProviderChoice
from passes.interface.runner import Progress, StageTimer


def prepared_job(
    source: Source,
    options: Options,
    provider: ProviderChoice,
    stages: StageTimer,
    progress: Progress,
    *,
    processes: int = 1,
    default_amount: bool = False,
) -> Job:
    """Return the job of compressing ``source``. For ``processes`` and ``default_amount`` see `Job`.

    Raises
    ------
    OnnxMergeError: the options, samples and model do not fit each other, or nothing can be removed.
    """
    comparison = Comparison(source.model, options, provider)
    analysis = analysed(source, options, comparison, stages)
    warnings = doubts(comparison)
    job = Job(source, options, stages, comparison, progress, analysis, processes, warnings, default_amount)
    move_held_out(comparison, analysis)
    return job
