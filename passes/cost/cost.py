"""Computes the cost of a model: parameters, multiply-adds, bytes and nodes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from passes.axes.op_facts import Moves
from passes.axes.registry import facts_of
from passes.cost.multiplications import factor_sizes, input_batches, mac_products, samples_in_product, weight_inputs
from passes.graph.model import Graph, Node
from passes.graph.nodes import subgraphs
from passes.graph.patch import copy_without_weights
from passes.interface.engine import Engine
from passes.shapes.constants import FLOATS, constants_in
from passes.shapes.inference import Observer
from passes.transforms.canonicalize import canonicalize
from passes.transforms.densify import sparse_values
from passes.transforms.subgraphs import Body, bodies_of
from passes.transforms.unshare_constants import original


@dataclass(frozen=True)
class Cost:
    """``params``: weights and other floating-point constants, including quantised weights. ``macs``: multiply-adds of
    one sample (dynamic sizes as in the first assignment, the batch at one). ``bytes``: size of the serialised model.
    ``ops``: number of nodes of each op type."""

    params: int
    macs: int
    bytes: int
    nodes: int
    ops: dict[str, int]


def cost(graph: Graph, observer: Observer | None = None, engine: Engine | None = None) -> Cost:
    """Cost of a model, including its control-flow bodies. ``observer`` and ``engine`` find shapes there."""
    model = graph.model
    counted = parameters(graph).items()
    sparse = sum(int(np.prod(t.dims)) for t in sparse_values(model.graph) if t.data_type in FLOATS)
    return Cost(
        params=sum(int(np.prod(graph.initializers[name].dims)) * each for name, each in counted)
        + sparse
        + sum(weights_inside(node) for node in model.graph.node),
        macs=_macs_of_sample(graph) + _macs_inside(graph, observer, engine),
        bytes=model_bytes(model),
        nodes=len(graph.nodes),
        ops=dict(Counter(node.op for node in graph.nodes).most_common()),
    )


def _macs_of_sample(graph: Graph) -> int:
    """Multiply-adds of the main graph with a batch of one."""
    batches, found = input_batches(graph), Counter[int]()
    for product in (product for node in graph.nodes for product in mac_products(graph, node)):
        found[samples_in_product(graph, product, batches)] += math.prod(factor_sizes(graph, product))
    return sum(macs // samples for samples, macs in found.items())


def weights_inside(node: onnx.NodeProto) -> int:
    """Floating-point constants of a node's control-flow bodies, and of the bodies in them."""
    found = 0
    for graph in subgraphs(node):
        own = (t for t in (*graph.initializer, *constants_in(graph.node)) if t.data_type not in NON_FLOATS)
        found += sum(math.prod(t.dims) for t in own) + sum(weights_inside(inner) for inner in graph.node)
    return found


def _macs_inside(graph: Graph, observer: Observer | None, engine: Engine | None) -> int:
    """Multiply-adds of the control-flow bodies."""
    bodies = bodies_of(graph)
    graphs = (Graph(canonicalize(body.model, engine), body.assignments[:1], observer, engine) for body in bodies)
    each = [cost(inner, observer, engine).macs for inner in graphs]
    return macs_of_bodies(bodies, each)


def macs_of_bodies(bodies: Sequence[Body], macs: Sequence[int]) -> int:
    """Multiply-adds of bodies that have ``macs`` each. An If counts its larger branch. A body that runs several times
    counts as often, where that number is fixed."""
    found: dict[int, int] = {}
    for body, one in zip(bodies, macs, strict=True):
        found[body.node.index] = max(found.get(body.node.index, 0), body.times * one)
    return sum(found.values())


def model_bytes(model: onnx.ModelProto) -> int:
    """Serialised size with external data. Over 2 GB, which protobuf cannot serialise, it is exact to within some
    kilobytes."""
    tensors = model.graph.initializer
    external = sum(_tensor_bytes(t) for t in tensors if t.external_data)
    inside = sum(t.ByteSize() for t in tensors)
    return external + int(model.ByteSize() if inside < 2**30 else inside + copy_without_weights(model).ByteSize())


def _tensor_bytes(tensor: onnx.TensorProto) -> int:
    """Bytes of a tensor's values as stored."""
    width = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)).itemsize
    return int(np.prod(tensor.dims)) * width


def samples_held(graph: Graph) -> int:
    """Number of samples that are processed at once at the concrete shapes, by the inputs' first axes."""
    fed = (name for name in graph.inputs if name not in graph.overridable)
    sizes = (graph.info.shapes[name][0] for name in fed if graph.info.shapes.get(name))
    return max(1, min(sizes, default=1))


def sample_macs(graph: Graph) -> float:
    """Multiply-adds of a sample at the concrete shapes, of one at least."""
    return max(1.0, cost(graph).macs / samples_held(graph))


def node_macs(graph: Graph, node: Node) -> int:
    """Multiply-adds of one node at the concrete shapes (see `passes.cost.multiplications`). Other ops count as zero."""
    return sum(math.prod(factor_sizes(graph, product)) for product in mac_products(graph, node))


CARRYING = {*Moves} - {Moves.REPEATED, Moves.PADDED}
"""Ops that pass weights on to the layer that reads them, and how."""
DEQUANTISING = ("DequantizeLinear", "GatherBlockQuantized")
"""Ops whose first input is a quantised weight where it is constant, or rows of a constant table."""
NON_FLOATS = {
    number
    for name, number in onnx.TensorProto.DataType.items()
    if name.startswith(("INT", "UINT", "BOOL", "STRING", "UNDEFINED"))
}
"""Element types other than floating-point and complex numbers."""


def parameters(graph: Graph) -> dict[str, int]:
    """Constants that count as parameters -> number of values in each of their elements (two where bytes are packed).

    These are floating-point constants, and integers that a layer reads as its weights or biases, directly or
    dequantised. Sizes, indices and zero points do not count.
    """
    places = [(node, facts_of(node.domain, node.op).packed) for node in graph.nodes]
    packed = {node.inputs[k]: node for node, k in places if k is not None}
    found = {t.name: 1 for t in graph.initializers.values() if not original(t) and t.data_type not in NON_FLOATS}
    waiting = [name for node in graph.nodes for name in weight_inputs(node)]
    for name in (node.inputs[0] for node in graph.nodes if node.op in DEQUANTISING and node.inputs):
        maker = graph.producer.get(name)
        rows = maker is not None and maker.op == "Gather" and name not in graph.constants
        waiting.append(maker.inputs[0] if maker is not None and rows else name)
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in graph.constants:
            continue
        seen.add(name)
        if name in graph.initializers:
            if not original(graph.initializers[name]):
                node = packed.get(name)
                found[name] = 8 // int(node.attrs.get("bits", 4)) if node is not None else 1
        elif name in graph.producer:
            maker = graph.producer[name]
            moves = facts_of(maker.domain, maker.op).moves
            if moves in CARRYING:
                waiting.extend(n for n in (maker.inputs if moves is Moves.JOINED else maker.inputs[:1]) if n)
    return {t.name: found[t.name] for t in graph.initializers.values() if t.name in found}
