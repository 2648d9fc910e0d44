"""Keeps weights in the type in which a model stores them, where it casts them to a wider one before it uses them.

    Before:  w = Cast(w16), y = Conv(x, w)      While channels are removed:  y = Conv(x, w), w marked as float16

Casts are folded like other computations (`passes.transforms.fold_constants`), so that such weights can be merged. New
values are rounded to the storage type (`passes.graph.patch`). `store_narrow` puts the casts back into the result.
"""

from __future__ import annotations

import onnx

from passes.graph.nodes import fresh, names_in, node_reads, replace_nodes, subgraphs
from passes.shapes.constants import STANDARD_DOMAINS
from passes.weights.storage_types import NARROW_FLOATS, clear_storage, storage_of
from passes.weights.stored_tensors import array_of, stored_array, tensor_of


def share_casts(graph: onnx.GraphProto) -> None:
    """Make readers of equal casts of a narrow initializer read the first one, in place, so that its weights stay one
    tensor."""
    narrow = {t.name for t in graph.initializer if t.data_type in NARROW_FLOATS}
    fixed = {v.name for v in graph.output}.union(*(node_reads(node) - {*node.input} for node in graph.node))
    first: dict[tuple[str, int], str] = {}
    same: dict[str, str] = {}
    kept: list[onnx.NodeProto] = []
    for node in graph.node:
        for k, name in enumerate(node.input):
            node.input[k] = same.get(name, name)
        if node.op_type == "Cast" and node.domain in STANDARD_DOMAINS and node.input[0] in narrow:
            place = node.input[0], next((a.i for a in node.attribute if a.name == "to"), 0)
            given = first.setdefault(place, node.output[0])
            if given != node.output[0] and node.output[0] not in fixed:
                same[node.output[0]] = given
                continue
        kept.append(node)
    replace_nodes(graph, kept)


def store_narrow(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store marked initializers, those of control-flow bodies too, in their narrower types, in place, and cast them.
    Returns the model."""
    _store(model.graph, {*names_in(model.graph)})
    return model


def _store(graph: onnx.GraphProto, taken: set[str]) -> None:
    casts: list[onnx.NodeProto] = []
    for tensor in graph.initializer:
        storage = storage_of(tensor)
        clear_storage(tensor)
        stored = storage.narrow(array_of(tensor)) if storage is not None else None
        if storage is None or stored is None:
            continue
        wide = tensor.name
        name = fresh(storage.name, taken)
        casts.append(onnx.helper.make_node("Cast", [name], [wide], f"{wide}.cast", to=tensor.data_type))
        doc = tensor.doc_string
        tensor.CopyFrom(tensor_of(stored_array(stored), name))
        if doc:
            tensor.doc_string = doc
        for value in graph.input:
            if value.name == wide:
                value.CopyFrom(onnx.helper.make_tensor_value_info(name, tensor.data_type, tensor.dims))
    for node in reversed(casts):
        graph.node.insert(0, node)
    for node in graph.node:
        for inner in subgraphs(node):
            _store(inner, taken)
