"""Turns inputs into constants.

Values computed from them are then computed once. The branches that they decide replace their If nodes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from passes.graph.nodes import drop_unused_initializers
from passes.interface.engine import Array, Engine
from passes.shapes.overridable_inputs import list_initializers, unlist_constants
from passes.transforms.canonicalize import canonicalize
from passes.transforms.cleanup import drop_dead_nodes
from passes.transforms.constant_branches import decide_branches


def fix_inputs(model: onnx.ModelProto, values: Mapping[str, Array], engine: Engine | None) -> onnx.ModelProto:
    """A normalised copy of ``model`` in which some inputs are constants of the given values, cast to the inputs'
    types."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    unlist_constants(result)
    graph = result.graph
    for items in (graph.input, graph.initializer):
        for index in reversed([i for i, item in enumerate(items) if item.name in values]):
            del items[index]
    graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in values.items())
    list_initializers(result)
    result = canonicalize(result, engine)
    while decide_branches(result):
        result = canonicalize(result, engine)
    drop_dead_nodes(result.graph)
    defaults = {v.name for v in result.graph.input}
    drop_unused_initializers(result.graph, defaults - values.keys())
    list_initializers(result)
    made = {n for node in result.graph.node for n in node.output}
    for index in reversed([i for i, v in enumerate(result.graph.value_info) if v.name not in made]):
        del result.graph.value_info[index]
    return result
