"""Normalises a model, so that later passes handle one form of what exporters write in several.

- Calls of local functions are inlined.
- Constant nodes become initializers of the same name.
- Nodes on which no output depends are removed.
- Where all initializers are graph inputs too, by an old convention, they no longer are
  (`passes.shapes.overridable_inputs`).
- Ops that onnxruntime's optimizer fused become those that it fused (`passes.transforms.unfuse`).
- Initial states of recurrent layers are removed where they are zero.
- Sparse weights become dense, where that takes little more memory.
- Values computed from initializers alone (layout changes, weight standardisation, scaled weights) are computed once, by
  the engine that runs models. This is done only where it needs no second copy of a large weight and the result does not
  grow. Quantised weights stay as they are.

Weights and names are otherwise unchanged. The input model is not modified.

onnx-ir's passes, such as LiftConstantsToInitializersPass, are not used: reading a model into onnx-ir and writing it
back drops sparse initializers and adds shapes of all initializers.
"""

from __future__ import annotations

import onnx

from passes.graph.functions import inlined
from passes.graph.nodes import replace_nodes
from passes.interface.engine import Engine
from passes.shapes.constants import constant_tensor
from passes.shapes.overridable_inputs import overridable, unlist_constants
from passes.transforms.cleanup import drop_dead_nodes
from passes.transforms.densify import sparse_to_dense
from passes.transforms.fold_constants import fold_constants
from passes.transforms.unfuse import unfuse
from passes.transforms.zero_states import drop_zero_states


def canonicalize(model: onnx.ModelProto, engine: Engine | None = None) -> onnx.ModelProto:
    """A normalised copy of ``model``. Without an ``engine``, no constants are computed."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    unlist_constants(result)
    defaults = overridable(result)
    result = inlined(result)
    sparse_to_dense(result.graph)
    _constants_to_initializers(result.graph)
    drop_dead_nodes(result.graph)
    unfuse(result)
    drop_zero_states(result.graph, defaults)
    if engine is not None:
        fold_constants(result, defaults, engine)
    return result


def _constants_to_initializers(graph: onnx.GraphProto) -> None:
    kept: list[onnx.NodeProto] = []
    for node in graph.node:
        tensor = constant_tensor(node)
        if tensor is None:
            kept.append(node)
        else:
            graph.initializer.add().CopyFrom(tensor)
            graph.initializer[-1].name = node.output[0]
    replace_nodes(graph, kept)
