"""The graph of a model with the shapes that it has on given inputs."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from passes.graph.model import Array, Graph
from passes.interface.engine import Engine
from passes.interface.errors import RunError
from passes.shapes.inference import Assignment, Shape
from passes.shapes.shape_probe import shape_name, with_shape_outputs


def graph_at(model: onnx.ModelProto, feed: Mapping[str, Array], engine: Engine) -> Graph:
    """The graph of ``model`` with its shapes on ``feed``. Those that inference cannot find are observed in a run."""

    def observed(model: onnx.ModelProto, _: Assignment, names: list[str]) -> Mapping[str, Shape]:
        try:
            found = engine(with_shape_outputs(model, names))(feed)
        except RunError:
            return {}
        return {name: tuple(int(n) for n in found[shape_name(name)]) for name in names}

    return Graph(model, [{name: array.shape for name, array in feed.items()}], observed, engine)
