"""Runs pieces of a model for the passes: for `passes.calibrated` on the chosen provider, for constants on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from onnx_merge.errors import OnnxMergeError
from onnx_merge.memory import defragment
from onnx_merge.runtime import CPU, Optimisation, ProviderChoice, loaded
from passes.graph.engine import Loaded
from passes.graph.errors import RunError
from passes.graph.model import Array


@dataclass(frozen=True)
class Piecewise:
    """An engine whose failures are `RunError`. Its threads do not spin: what is solved in between needs the cores."""

    provider: ProviderChoice
    optimisation: Optimisation = "all"

    def __call__(self, model: onnx.ModelProto) -> Loaded:
        """Load ``model``, all of whose outputs must be tensors."""
        defragment()  # the piece before has left gaps in which its tensors do not fit
        try:
            session = loaded(model, self.provider, self.optimisation, spinning=False)
        except OnnxMergeError as error:
            raise RunError(str(error)) from error
        names = {i.name for i in session.inputs}
        given = {o.name for o in session.outputs}
        for output in model.graph.output:
            if output.name not in given:
                raise RunError(f"{output.name} is no tensor")

        def run(feeds: Mapping[str, Array]) -> Mapping[str, Array]:
            try:
                return session.run({name: a for name, a in feeds.items() if name in names})
            except OnnxMergeError as error:
                raise RunError(str(error)) from error

        return run


FOLDING = Piecewise(CPU, "none")
"""Computes constants: node by node as the model says, without a rewriting that could round otherwise."""
