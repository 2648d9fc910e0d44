"""Measures latency before and after a run of the tool, at the batch sizes that the user asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from onnx_merge.errors import OnnxMergeError
from onnx_merge.evaluation.comparison import Comparison
from onnx_merge.latency.measure import Latencies, Source, compare_latency
from onnx_merge.runtime.tensor_info import TensorInfo
from onnx_merge.tuning.runtime import DEVICE


def benchmark(results: Sequence[Source], comparison: Comparison) -> tuple[tuple[Latencies, ...], tuple[str, ...]]:
    """Latency of the comparison's model and of ``results``, for each batch size of ``options.benchmark``.

    A batch size that cannot be measured is left out, with a note that says why.
    The compression is complete at that point, and a failed benchmark must not discard it.

    Returns
    -------
    The latencies, and the notes.
    """
    options = comparison.options
    measured, notes = list[Latencies](), list[str]()
    if comparison.original.session is None:
        return (), ("latency was not measured: the model cannot be run",)
    asked = options.benchmark or ()
    fixed = declared_batch(comparison.original.inputs)
    default = DEVICE.latency_batches if comparison.original.provider.on_device else (1,)
    sizes = (asked or default) if fixed is None else (fixed,)
    if others := [str(size) for size in asked if size not in sizes]:
        notes.append(f"latency was not measured at batch size {', '.join(others)}: the model's is {fixed}")
    for size in sizes:
        try:
            models, feeds = (comparison.original.model, *results), comparison.samples.batch(size)
            timed = compare_latency(models, feeds, comparison.original.provider, options.threads)
        except (OnnxMergeError, MemoryError) as error:
            notes.append(f"latency was not measured at batch size {size}: {error}")
        else:
            measured.append(replace(timed, batch=size))
    return tuple(measured), tuple(notes)


def declared_batch(inputs: Sequence[TensorInfo]) -> int | None:
    """The only batch size of a model with fixed inputs: the first axis of its first input. None if an input's first
    axis is dynamic."""
    firsts = [info.shape[0] for info in inputs if info.shape]
    sizes = [size for size in firsts if isinstance(size, int) and size > 0]
    if not firsts:  # of scalars only
        return 1
    return sizes[0] if len(sizes) == len(firsts) else None
