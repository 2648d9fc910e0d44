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
  grow. Quantised weights stay as they are. Those in float16 that are cast first are marked, to be stored so again.
- Readers of a copy of an initializer (Identity) read the initializer. PyTorch's exporter writes such copies where
  layers share weights.

Weights and names are otherwise unchanged. The input model is not modified.

onnx-ir's passes, such as LiftConstantsToInitializersPass, are not used: reading a model into onnx-ir and writing it
back drops sparse initializers and adds shapes of all initializers.
"""

from __future__ import annotations

from collections.abc import Set

import onnx

from passes.graph.functions import inlined
from passes.graph.nodes import node_reads, replace_nodes
from passes.interface.engine import Engine
from passes.shapes.constants import STANDARD_DOMAINS, constant_tensor
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
    _bypass_copies(result.graph, defaults)
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


def _bypass_copies(graph: onnx.GraphProto, defaults: Set[str]) -> None:
    """Remove Identity nodes of initializers other than the ``defaults``. What a body or the graph itself gives on
    keeps its name."""
    original = {t.name: t.name for t in graph.initializer if t.name not in defaults}
    fixed = {v.name for v in graph.output}.union(*(node_reads(node) - {*node.input} for node in graph.node))
    kept: list[onnx.NodeProto] = []
    for node in graph.node:
        for k, name in enumerate(node.input):
            node.input[k] = original.get(name, name)
        is_copy = node.op_type == "Identity" and node.domain in STANDARD_DOMAINS and node.input[0] in original
        if is_copy and node.output[0] not in fixed:
            original[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    replace_nodes(graph, kept)
