"""What a model costs: parameters, multiply-adds, bytes and nodes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from passes.graph import terms
from passes.graph.infer import Typing
from passes.graph.model import STANDARD_DOMAINS, Graph, Node
from passes.graph.patch import copy_without_weights
from passes.graph.terms import Atom, Term
from passes.project import Indices, kept_size


@dataclass(frozen=True)
class Cost:
    """``params``: weights and other floating-point constants; ``macs``: multiply-adds of one sample (dynamic sizes at
    their stand-ins, the batch at one); ``bytes``: of the serialised model; ``ops``: how often each op type occurs."""

    params: int
    macs: int
    bytes: int
    nodes: int
    ops: dict[str, int]


def cost(graph: Graph) -> Cost:
    """Cost of a model."""
    model = graph.model
    return Cost(
        params=sum(int(np.prod(t.dims)) for t in model.graph.initializer if _is_float(t)),
        macs=sum(node_macs(graph, node) for node in graph.nodes) // batch(graph),
        bytes=model_bytes(model),
        nodes=len(graph.nodes),
        ops=dict(Counter(node.op for node in graph.nodes).most_common()),
    )


def model_bytes(model: onnx.ModelProto) -> int:
    """Serialised size with external data; over 2 GB, where protobuf has no word for it, to within some kilobytes."""
    tensors = model.graph.initializer
    external = sum(_tensor_bytes(t) for t in tensors if t.external_data)
    inside = sum(t.ByteSize() for t in tensors)
    return external + int(model.ByteSize() if inside < 2**30 else inside + copy_without_weights(model).ByteSize())


def _tensor_bytes(tensor: onnx.TensorProto) -> int:
    """Bytes of a tensor's values as stored."""
    width = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)).itemsize
    return int(np.prod(tensor.dims)) * width


def batch(graph: Graph) -> int:
    """Samples that the concrete shapes stand for: the stand-in size of a dynamic first axis, or one."""
    for name in graph.inputs:
        if (name, 0) in graph.info.dynamic:
            return graph.info.shapes[name][0]
    return 1


def node_macs(graph: Graph, node: Node) -> int:
    """Multiply-adds of one node at the concrete shapes; all but Conv, ConvTranspose, Gemm and MatMul count as free."""
    axes = mac_axes(graph, node)
    return math.prod(graph.info.shapes[name][axis] for name, axis in axes) if axes else 0


def mac_axes(graph: Graph, node: Node) -> list[tuple[str, int]]:
    """(tensor, axis) of each loop of the node, the product of whose sizes are its multiply-adds; none if it is free."""
    if node.op not in ("Conv", "ConvTranspose", "Gemm", "MatMul") or node.domain not in STANDARD_DOMAINS:
        return []
    a, b, y = node.inputs[0], node.inputs[1], node.outputs[0]
    shapes = [graph.shape(name) for name in (a, b, y)]
    if any(shape is None for shape in shapes):
        return []
    of_a, of_b, of_y = ([(name, axis) for axis in range(len(graph.info.shapes[name]))] for name in (a, b, y))
    if node.op == "Conv":  # each output value sums over the weights of one filter
        return of_y + of_b[1:]
    if node.op == "ConvTranspose":  # each input value is spread by the weights of one filter
        return of_a + of_b[1:]
    return of_y + [of_a[0 if node.attrs.get("transA", 0) else -1]]


@dataclass(frozen=True)
class Held:
    """Multiply-adds of one sample and parameters that depend on some channels, and their shares of the model's."""

    macs: int
    params: int
    macs_share: float
    params_share: float


class Holdings:
    """What of a model's cost depends on channels: the multiply-adds in which they take part, the weights made for them.

    A node's multiply-adds are a product of axes (`mac_axes`), and so is the size of a constant. Without the channels
    each axis is as long as what else stands on it; by how much that makes the product smaller is what they hold: all
    of a Conv that makes, reads or filters them, but of one that reads them among others (a concat) their part only.
    What two groups hold together, such as a Conv from one to the other, counts for both.
    """

    def __init__(self, typing: Typing) -> None:
        graph = typing.graph
        self._batch = batch(graph)
        nodes = [[typing.axes[name][axis] for name, axis in mac_axes(graph, node)] for node in graph.nodes]
        self._nodes = [axes for axes in nodes if axes]
        self._weights = [typing.axes.get(t.name, []) for t in graph.initializers.values() if _is_float(t)]
        self._where: dict[Atom, tuple[set[int], set[int]]] = {}
        for kind, products in enumerate((self._nodes, self._weights)):
            for index, axes in enumerate(products):
                for a in (a for term in axes for a in terms.atoms(term)):
                    self._where.setdefault(a, (set(), set()))[kind].add(index)
        self._macs, self._params = (sum(map(_size, products)) for products in (self._nodes, self._weights))

    def of(self, atoms: Iterable[Atom]) -> Held:
        """What the channels of ``atoms`` hold; what several of them do, counts once."""
        gone = dict.fromkeys(atoms, np.zeros(0, np.intp))
        found = [self._where[a] for a in gone if a in self._where]
        nodes, weights = (set[int]().union(*(pair[kind] for pair in found)) for kind in (0, 1))
        macs = sum(_held(self._nodes[index], gone) for index in nodes)
        params = sum(_held(self._weights[index], gone) for index in weights)
        return Held(macs // self._batch, params, _share(macs, self._macs), _share(params, self._params))


def _size(axes: Sequence[Term]) -> int:
    return math.prod(map(terms.size, axes))


def _share(part: int, whole: int) -> float:
    return round(part / whole, 6) if whole else 0.0


def _held(axes: Sequence[Term], gone: Mapping[Atom, Indices]) -> int:
    return _size(axes) - math.prod(kept_size(term, gone) for term in axes)


def _is_float(tensor: onnx.TensorProto) -> bool:
    integers = (onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.BOOL, onnx.TensorProto.STRING)
    return tensor.data_type not in integers
