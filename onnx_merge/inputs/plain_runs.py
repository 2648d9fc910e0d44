"""Run a model as it is written, without onnxruntime's optimisations."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping

import onnx

from onnx_merge.errors import OnnxMergeError
from onnx_merge.inputs.dimensions import shapes
from onnx_merge.inputs.feeds import feeds_at, index_bounds
from onnx_merge.runtime.session import Session


class PlainRuns:
    """Whether a model runs without onnxruntime's optimisations.

    These put -1 for the batch size in the computed target of a Reshape. Such a Reshape accepts lengths that do not fit,
    and a compressed model with fewer channels accepts other lengths than the original.
    """

    def __init__(self, model: onnx.ModelProto, session: Session, seed: int) -> None:
        known = {t.name for t in model.graph.initializer} | {
            name for node in model.graph.node if node.op_type == "Constant" for name in node.output
        }
        graphs = [model.graph.node, *(function.node for function in model.functions)]
        self._same = not any(
            node.op_type == "Reshape" and len(node.input) > 1 and node.input[1] not in known
            for nodes in graphs
            for node in nodes
        )
        self._model, self._provider, self._seed = model, session.provider, seed

    @functools.cached_property
    def _session(self) -> Session | None:
        """None if onnxruntime cannot load the model unoptimised."""
        with contextlib.suppress(OnnxMergeError):
            return Session(self._model, self._provider, optimisation="none")
        return None

    def __call__(self, values: Mapping[str, int]) -> bool:
        """Whether it runs at these sizes; true where that is unknown."""
        if self._same or self._session is None:
            return True
        inputs = self._session.inputs
        try:
            self._session.run(feeds_at(inputs, shapes(inputs, values), self._seed, index_bounds(self._model)))
        except OnnxMergeError:
            return False
        return True
