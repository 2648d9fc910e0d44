"""Prepares a job: reads and checks the samples, and analyses the model."""

from __future__ import annotations

from onnx_merge.calibration.moved_samples import with_moved
from onnx_merge.calibration.prepared_samples import prepared_samples
from onnx_merge.compression.job import Job
from onnx_merge.compression.model_analysis import analysed
from onnx_merge.config.options import Options
from onnx_merge.evaluation.comparison import Comparison
from onnx_merge.evaluation.doubts import doubts
from onnx_merge.io.model_source import Source
from onnx_merge.metrics.measure import check_measured
from onnx_merge.original.opened_model import open_model
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
    check_measured(options)
    samples = prepared_samples(open_model(source.model, options, provider), provider)
    analysis = analysed(source, options, samples.original, stages)
    warnings = doubts(samples)
    comparison = Comparison(with_moved(samples, analysis), options)
    return Job(source, options, stages, comparison, progress, analysis, processes, warnings, default_amount)
