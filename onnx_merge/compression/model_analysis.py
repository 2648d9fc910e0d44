"""Analyses a model before its samples are used, and refuses one of which nothing can be removed."""

from __future__ import annotations

import numpy as np

from onnx_merge.compression.explain_no_change import explain_no_change
from onnx_merge.config.options import Options
from onnx_merge.errors import NotCompressibleError
from onnx_merge.inputs.feeds import declared_inputs, resolve_shapes
from onnx_merge.inputs.shape_observer import RunObserver
from onnx_merge.inputs.size_inputs import fixing
from onnx_merge.io.model_source import Source
from onnx_merge.original.opened_model import OpenedModel
from onnx_merge.report.group_result import group_results
from onnx_merge.runtime.blame import checked_by_running
from onnx_merge.runtime.segment_runner import FOLDING
from passes.analysis.analyse import Analysis, analyse
from passes.analysis.ungrouped import every_ungrouped, first_quantised
from passes.interface.runner import StageTimer
from passes.planning.plan import GroupPlan


def analysed(source: Source, options: Options, original: OpenedModel, stages: StageTimer) -> Analysis:
    """The channel groups of the model, found before a sample is calibrated on.

    Raises
    ------
    UsageError: the shapes that the user gave do not fit the model.
    NotCompressibleError: nothing can be removed, for any samples.
    """
    resolve_shapes(declared_inputs(source.model), None, dict(options.input_shape))
    observer = RunObserver(original.provider, seed=options.seed)
    with checked_by_running(source.model):
        analysis = analyse(source.model, original.assignments.witnesses, observer, stages, FOLDING)
    if options.asks_for_change and all(group.frozen for group in analysis.every_group):
        whole = [GroupPlan(g, np.arange(g.size), reason=g.frozen) for g in analysis.every_group]
        left = [layer for layer in every_ungrouped(analysis) if layer.is_layer]
        quantised = first_quantised(analysis.typing)
        why = explain_no_change(options.lossless, group_results(whole, {}), quantised, left)
        remedy = fixing(source.model) if _lacks_shapes(analysis) else ""
        raise NotCompressibleError(f"{why}; {remedy}" if remedy else why)
    return analysis


def _lacks_shapes(analysis: Analysis) -> bool:
    """Whether the shape of a tensor was not found, for instance because the model does not run on made-up values."""
    graph = analysis.before
    return any(name not in graph.info.shapes for node in graph.nodes for name in node.outputs if name)
