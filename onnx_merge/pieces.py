"""Runs pieces of a model for `passes.calibrated`, on the chosen provider."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from onnx_merge.errors import OnnxMergeError
from onnx_merge.runtime import ProviderChoice, Session
from passes.calibrated.flow import Engine, Loaded
from passes.graph.errors import RunError
from passes.graph.model import Array


def piecewise(provider: ProviderChoice) -> Engine:
    """An engine whose failures are `RunError`. Its threads do not spin: what is solved in between needs the cores."""

    def load(model: onnx.ModelProto) -> Loaded:
        try:
            session = Session(model, provider, spinning=False)
        except OnnxMergeError as error:
            raise RunError(str(error)) from error
        names = {i.name for i in session.inputs}

        def run(feeds: Mapping[str, Array]) -> Mapping[str, Array]:
            try:
                return session.run({name: a for name, a in feeds.items() if name in names})
            except OnnxMergeError as error:
                raise RunError(str(error)) from error

        return run

    return load
