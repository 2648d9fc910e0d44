"""Gives each reader of a small constant a copy of its own, so that a shared constant does not tie channels.

    Before:  y = Conv(x, w, zeros)  z = Conv(y, v, zeros)       (zeros: (C,), from tools that merge equals)
    After:   y = Conv(x, w, zeros)  z = Conv(y, v, zeros_2)

After the surgery, copies that are still equal become one tensor again, under the old name.

Which constants are copied: Every *vector* is (at most one axis is longer than one): biases, per-channel scales, slopes,
statistics. A small constant with more axes is copied if only elementwise ops and norms read it. The *weights* of a
layer (the filter of a Conv, the matrix of a Gemm or an LSTM, the table of a Gather) stay one tensor, whatever their
size. A model that shares them does so on purpose, and a copy would cost what sharing saved. They are cut once, alike
for every reader. Scalars tie no channels. A constant that callers may override stays one tensor. A constant that is
read by a control-flow body or is an output of the graph keeps its name there, and the copies go to the other readers.
"""

from __future__ import annotations

import math
from collections import defaultdict

import onnx

from passes.axes.registry import facts_of
from passes.graph.nodes import fresh, names_in, node_reads, subgraphs
from passes.settings.tuning import TUNING
from passes.weights.stored_tensors import same_values

MARK = "\x00copy of "
"""Prefix of the doc string of a copy. The original's name, a line break and the original's doc string follow."""


def is_weight(node: onnx.NodeProto, k: int) -> bool:
    """Whether input ``k`` of ``node`` holds the weights of a layer."""
    return k in facts_of(node.domain, node.op_type).weights


def unshare(model: onnx.ModelProto) -> onnx.ModelProto:
    """Give every reader of a small constant in ``model`` its own copy, in place. Returns the model."""
    graph = model.graph
    readers: dict[str, list[tuple[int, int]]] = defaultdict(list)
    bodies: set[str] = {v.name for v in graph.output}
    for index, node in enumerate(graph.node):
        for k, name in enumerate(node.input):
            readers[name].append((index, k))
        if subgraphs(node):
            bodies |= node_reads(node) - set(node.input)
    given = {v.name for v in graph.input}
    names = {t.name for t in graph.initializer}
    overridable = set() if names <= given else given  # if all are inputs, this is exporter style
    moved: dict[str, list[tuple[int, int]]] = {}
    for tensor in graph.initializer:
        if tensor.name in overridable:
            continue
        places = [p for p in readers[tensor.name] if not is_weight(graph.node[p[0]], p[1])]
        if not _is_small(tensor, [graph.node[index] for index, _ in places]):
            continue
        kept = tensor.name in bodies or len(places) < len(readers[tensor.name])
        if len(places) > (0 if kept else 1):
            moved[tensor.name] = places if kept else places[1:]
    if not moved:
        return model
    taken = {*names_in(graph)}
    for tensor in list(graph.initializer):
        for number, (index, k) in enumerate(moved.get(tensor.name, ()), 2):
            copy = graph.initializer.add()
            copy.CopyFrom(tensor)
            copy.name = fresh(f"{tensor.name}_{number}", taken)
            copy.doc_string = f"{MARK}{tensor.name}\n{tensor.doc_string}"
            graph.node[index].input[k] = copy.name
    return model


def _is_small(tensor: onnx.TensorProto, readers: list[onnx.NodeProto]) -> bool:
    dims = [int(n) for n in tensor.dims]
    size = math.prod(dims)
    if size <= 1 or tensor.data_type == onnx.TensorProto.STRING:
        return False
    if size == max(dims):
        return size <= TUNING.transforms.copied_vector
    facts = [facts_of(node.domain, node.op_type) for node in readers]
    return size <= TUNING.transforms.copied_elements and all(
        known.broadcasts or known.affine is not None for known in facts
    )


def original(tensor: onnx.TensorProto) -> str:
    """Name of the constant that ``tensor`` is a copy of; ``""`` if it is not a copy."""
    return tensor.doc_string[len(MARK) :].partition("\n")[0] if tensor.doc_string.startswith(MARK) else ""


def merge_copies(model: onnx.ModelProto) -> onnx.ModelProto:
    """Merge, in place, the copies in ``model`` that equal one another or their original. Returns the model."""
    graph = model.graph
    copies = [t for t in graph.initializer if original(t)]
    if not copies:
        return model
    read = {v.name for v in graph.output}.union(*(node_reads(node) for node in graph.node))
    held: dict[str, list[onnx.TensorProto]] = defaultdict(list)
    for tensor in graph.initializer:
        if not original(tensor) and tensor.name in read:
            held[tensor.name].append(tensor)
    names: dict[str, str] = {}
    for copy in copies:
        first = original(copy)
        given = copy.doc_string.partition("\n")[2]
        copy.ClearField("doc_string")
        if given:
            copy.doc_string = given
        if copy.name not in read:
            continue
        same = next((t for t in held[first] if same_values(t, copy)), None)
        if same is not None:
            names[copy.name] = names.get(same.name, same.name)
        elif not held[first] and first not in read:  # the old name is unused
            names[copy.name] = first
        if same is None:
            held[first].append(copy)
    _rename(graph, names, {n for n in names.values() if n not in read})
    return model


def _rename(graph: onnx.GraphProto, names: dict[str, str], freed: set[str]) -> None:
    """Rename the inputs of nodes by ``names``. The first copy that maps to a ``freed`` name takes that name."""
    for node in graph.node:
        for k, name in enumerate(node.input):
            if name in names:
                node.input[k] = names[name]
    takers = {name: copy for copy, name in reversed(names.items()) if name in freed}
    for index in reversed(range(len(graph.initializer))):
        name = graph.initializer[index].name
        if name in freed or (name in names and takers.get(names[name]) != name):
            del graph.initializer[index]
    for tensor in graph.initializer:
        if tensor.name in names:
            tensor.name = names[tensor.name]
            for value in graph.input:
                if value.name == tensor.name:
                    value.CopyFrom(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
