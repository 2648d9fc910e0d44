"""Finds the residual streams that norms read, and the tensors at which they begin or end in fixed channels.

    x0 = f(...),  x1 = x0 + g(norm(x0)),  x2 = x1 + h(norm(x1)),  ...,  y = norm(xn)

The sums, and what is moved or joined to them, are one stream. It can be rotated where linear layers write it and linear
layers read the outputs of its norms (`passes.analysis.normalised_channels`). At its ends there are often others: an
activation or a norm that writes x0, a graph output that reads y. In post-norm transformers, each norm ends a stream and
begins the next one:

    x1 = norm(x0 + g(x0)),  x2 = norm(x1 + h(x1)),  ...
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from passes.axes.op_facts import Joins, Moves, PoolWindow
from passes.axes.registry import facts_of
from passes.graph.model import Graph, Node
from passes.graph.written_norms import written_norms

_SIZES = {"Shape", "Size"}
"""Ops that read no values."""
_MOVES = {Moves.SAME, Moves.RESHAPED, Moves.PERMUTED, Moves.PICKED, Moves.GATHERED, Moves.REPEATED, Moves.CONVERTED}


@dataclass(frozen=True)
class StreamNorm:
    """A norm over the last axis, of one node or several. ``nodes``: their indices."""

    nodes: frozenset[int]
    source: str
    output: str
    centred: bool


@dataclass(frozen=True)
class Stream:
    """``channels``: of the stream, the last axis of all tensors here. ``begins``: tensors that no linear layer writes,
    or outputs of its norms that others than linear layers read; ``ends``: graph outputs in it; ``weights``: number of
    weights of the linear layers that write it or read the outputs of its norms; ``to_layers``: indices of the
    nodes through which linear layers alone read the outputs of norms."""

    channels: int
    begins: frozenset[str]
    ends: frozenset[str]
    weights: int
    to_layers: frozenset[int]


def residual_streams(graph: Graph) -> list[Stream]:
    """The streams that norms read, but for those that something reads that neither is a norm or a layer nor passes the
    channels on."""
    norms = list(_norms(graph))
    flow = _Flow(graph, norms)
    found, seen = list[Stream](), set[str]()
    for norm in norms:
        if norm.source not in seen:
            tensors = flow.connected(norm.source)
            seen |= tensors
            stream = _stream(flow, tensors, [other for other in norms if other.source in tensors])
            found += [] if stream is None else [stream]
    return found


class _Flow:
    """Which tensors hold the same channels: those that sums, moves and means connect."""

    def __init__(self, graph: Graph, norms: Iterable[StreamNorm]) -> None:
        self.graph = graph
        self.in_norms = {index for norm in norms for index in norm.nodes}
        sizes = [(norm.output, _last(graph, norm.source)) for norm in norms]
        users = [(user, name, size) for name, size in sizes if size for user in self._users(name)]
        behind = ((user.index, self._weights_behind(user, name, size)) for user, name, size in users)
        self.to_layers = {index: weights for index, weights in behind if weights is not None}
        self._joined: dict[str, set[str]] = defaultdict(set)
        for node in graph.nodes:
            for name in self.passed(node) if node.index not in self.to_layers else ():
                for output in filter(None, node.outputs):
                    self._joined[name].add(output)
                    self._joined[output].add(name)

    def passed(self, node: Node) -> list[str]:
        """The tensors whose channels ``node`` passes on to its output."""
        facts, graph = facts_of(node.domain, node.op), self.graph
        if node.index in self.in_norms or not node.outputs:
            return []
        data = [name for name in node.inputs if name and name not in graph.constants and name not in graph.integers]
        if facts.joins is Joins.SUM or facts.moves is Moves.JOINED:
            return data
        if facts.joins in (Joins.PRODUCT, Joins.QUOTIENT):
            return data if len(data) == 1 and any(graph.is_number(name) for name in node.inputs) else []
        means = facts.pool is not None and facts.pool.kind == "mean" and facts.pool.window is not PoolWindow.KERNEL
        return [name for name in data if name == node.inputs[0]] if facts.moves in _MOVES or means else []

    def is_passed_on(self, name: str) -> bool:
        """Whether what makes a tensor only passes channels on: those of other tensors, or rows of a constant."""
        maker = self.graph.producer.get(name)
        if maker is None or self.passed(maker):
            return maker is not None
        return facts_of(maker.domain, maker.op).moves is not None and maker.inputs[0] in self.graph.constants

    def written(self, name: str, size: int) -> int | None:
        """`_weights` of the linear layer that makes a tensor; None if none does."""
        maker = self.graph.producer.get(name)
        return None if maker is None else _weights(self.graph, maker, name, size)

    def read(self, name: str) -> int:
        """`_weights` of the linear layers that alone read a norm's output, directly or moved."""
        return sum(self.to_layers.get(user.index, 0) for user in self._users(name))

    def is_read_otherwise(self, name: str) -> bool:
        """Whether something else reads a norm's output too."""
        return name in self.graph.outputs or any(user.index not in self.to_layers for user in self._users(name))

    def readers(self, name: str) -> list[Node]:
        """The nodes that read the values of a tensor, but for norms, those that pass its channels on, and the layers
        that read outputs of norms."""
        others = self.in_norms | self.to_layers.keys()
        return [user for user in self._users(name) if user.index not in others and not self.passed(user)]

    def _users(self, name: str) -> list[Node]:
        return [user for user, _ in self.graph.users[name] if user.op not in _SIZES]

    def _weights_behind(self, user: Node, name: str, size: int) -> int | None:
        """`_weights` of ``user``, a linear layer that reads ``name``, or of those that it moves ``name`` to; None where
        something else reads it there."""
        if not self.passed(user):
            return _weights(self.graph, user, name, size)
        moved, adds = {*user.outputs}, facts_of(user.domain, user.op).joins is Joins.SUM
        if self.passed(user) != [name] or adds or not moved.isdisjoint(self.graph.outputs):
            return None
        behind = [self._weights_behind(other, part, size) for part in moved for other in self._users(part)]
        return None if None in behind else sum(own or 0 for own in behind)

    def connected(self, start: str) -> set[str]:
        """All tensors with the channels of ``start``."""
        found, waiting = {start}, [start]
        while waiting:
            new = self._joined[waiting.pop()] - found
            found |= new
            waiting += new
        return found


def _norms(graph: Graph) -> Iterator[StreamNorm]:
    for norm in written_norms(graph):
        yield StreamNorm(norm.nodes, norm.source, norm.output, norm.centred)
    for node in graph.nodes:
        form = facts_of(node.domain, node.op).norm
        if form is not None:
            yield StreamNorm(frozenset([node.index]), node.inputs[0], node.outputs[0], form.centred)


def _stream(flow: _Flow, tensors: set[str], norms: list[StreamNorm]) -> Stream | None:
    """The stream of ``tensors``, which ``norms`` read; None where anything else reads it. Where no norm subtracts the
    mean, layers and outputs of the model may read it too."""
    graph, centred = flow.graph, any(norm.centred for norm in norms)
    ends, sizes = tensors & {*graph.outputs}, {_last(graph, norm.source) for norm in norms}
    size = sizes.pop()
    if sizes or not size:
        return None
    readers = [_weights(graph, user, name, size) for name in tensors for user in flow.readers(name)]
    if None in readers or (centred and (readers or ends)):
        return None
    writers = {name: flow.written(name, size) for name in tensors if not flow.is_passed_on(name)}
    behind = {norm.output: flow.read(norm.output) for norm in norms}
    begins = {name for name, own in writers.items() if own is None}
    begins |= {name for name in behind if name in tensors or flow.is_read_otherwise(name)}
    starts = [_with_last_axis(flow, name, size) for name in begins]
    if None in starts or any(_last(graph, name) != size for name in ends) or not ends.isdisjoint(starts):
        return None
    weights = sum(own or 0 for own in (*writers.values(), *readers, *behind.values()))
    found = frozenset(name for name in starts if name is not None)
    return Stream(size, found, frozenset(ends), weights, frozenset(flow.to_layers))


def _last(graph: Graph, name: str) -> int:
    """Size of a tensor's last axis, 0 where it is not known."""
    return (graph.shape(name) or (0,))[-1]


def _with_last_axis(flow: _Flow, name: str, size: int) -> str | None:
    """The first tensor from ``name`` on, moved only, of which ``size`` channels are the last axis."""
    while _last(flow.graph, name) != size:
        mover = flow.graph.only_user(name)
        if mover is None or flow.passed(mover) != [name]:
            return None
        name = mover.outputs[0]
    return name


def _weights(graph: Graph, node: Node, data: str, size: int) -> int | None:
    """Number of weights of the linear layer that writes ``data``, or reads it as its input 0, for ``size`` of its
    channels; None if ``node`` is none."""
    linear = facts_of(node.domain, node.op).linear
    fits = linear is not None and data in (node.inputs[0], *node.outputs) and node.inputs[1] in graph.initializers
    if linear is None or not fits or int(node.attrs.get("group", 1)) != 1:
        return None
    shape, output = graph.shape(node.inputs[1]) or (0, 0), linear.output_axis(node)
    channels = shape[output if data in node.outputs else 1 - output]
    return math.prod(shape) // max(1, channels // size)
