"""A model run piece by piece over all samples, so that weights may change on the way and nothing is computed twice.

What lies before the next layer has been run, and what is still to be read of it is kept: the *live* tensors, a dict for
each batch of samples. Two flows, the original's and the compressed model's, advance side by side.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx
from onnx import numpy_helper

from passes.graph.model import Array
from passes.graph.nodes import node_reads
from passes.interface.engine import Engine

SEGMENT = "segment"
"""Name of the pieces of a model."""
Feeds = Sequence[Mapping[str, Array]]
"""Inputs of a model by name, for each batch of samples."""


@dataclass(frozen=True)
class Recording:
    """Tensors that a flow has come by: ``live`` for each batch, all of them at once."""

    live: Feeds

    def reach(self, tensor: str, wanted: Collection[str] = ()) -> None:
        """It is there already."""


class SegmentedRun:
    """``model`` run up to node ``at`` (exclusive) on ``feeds``, one dict of inputs for each batch.

    ``arrays``: initializers with other values; ``shifts``: (tensor, input) -> a constant that stands at that input of
    the node which makes the tensor.
    """

    def __init__(self, model: onnx.ModelProto, feeds: Feeds, engine: Engine) -> None:
        self._model, self._engine = model, engine
        self._nodes = list(model.graph.node)
        self._constants = {t.name: t for t in model.graph.initializer}
        self._reads = [node_reads(node) for node in self._nodes]
        self._last = {name: i for i, reads in enumerate(self._reads) for name in reads}
        self._maker = {name: i for i, node in enumerate(self._nodes) for name in node.output}
        self.at = 0
        self.cuts: list[tuple[int, frozenset[str]]] = []
        """What `advance` was called with: where a model is cut decides how its values are rounded."""
        self.arrays: dict[str, Array] = {}
        self.shifts: dict[tuple[str, int], Array] = {}
        self.live: list[dict[str, Array]] = [dict(feed) for feed in feeds]

    def reach(self, tensor: str, wanted: Collection[str] = ()) -> None:
        """Run until ``tensor`` is there; it, tensors that are ``wanted``, and what later nodes read stay."""
        self.advance(max(self.at, self._maker.get(tensor, -1) + 1), {tensor, *wanted})

    def glance(self, tensor: str) -> Iterator[Array] | None:
        """``tensor`` in each batch, of which nothing stays; nothing where it lies behind."""
        if tensor in self.live[0]:
            return (live[tensor] for live in self.live)
        end = self._maker.get(tensor, -1) + 1
        if end <= self.at:
            return None
        run = self._engine(self._segment(self.at, end, [tensor]))
        return (run(live)[tensor] for live in self.live)

    def record(self, tensors: Collection[str]) -> Recording:
        """Run until all of ``tensors`` are there, those that earlier calls of `reach` wanted among them."""
        for tensor in sorted(tensors, key=lambda name: self._maker.get(name, -1)):
            self.reach(tensor, tensors)
        return Recording([{name: live[name] for name in tensors} for live in self.live])

    def before(self, tensor: str, wanted: Collection[str] = ()) -> None:
        """Run up to the node that makes ``tensor``; tensors that are ``wanted`` stay too."""
        self.advance(max(self.at, self._maker[tensor]), wanted)

    def again(self, tensor: str, since: str) -> None:
        """Make ``tensor`` again, with what has changed from the node on that makes ``since``."""
        run = self._engine(self._segment(self._maker[since], self._maker[tensor] + 1, [tensor]))
        for live in self.live:
            live[tensor] = run(live)[tensor]

    def onward(self, model: onnx.ModelProto, outputs: Sequence[str]) -> list[dict[str, Array]]:
        """``outputs`` of another model, which differs from this one only from here on, for each batch."""
        other = SegmentedRun(model, self.live, self._engine)
        made = [name for name in outputs if name not in self.live[0]]
        run = self._engine(other._segment(0, len(other._nodes), made, self.live[0].keys()))
        return [{**{n: live[n] for n in outputs if n in live}, **run(live)} for live in self.live]

    def advance(self, to: int, wanted: Collection[str] = ()) -> None:
        """Run the nodes from ``at`` to ``to``."""
        self.cuts.append((to, frozenset(wanted)))
        made = {n for node in self._nodes[self.at : to] for n in node.output if n}
        keep = sorted(n for n in made if self._last.get(n, -1) >= to or n in wanted)
        run = self._engine(self._segment(self.at, to, keep)) if keep else None
        for live in self.live:  # one after the other: what all have left behind and what all have made is never there
            found = run(live) if run else {}
            for name in [n for n in live if self._last.get(n, -1) < to and n not in wanted]:
                del live[name]
            live.update({n: found[n] for n in keep})
        self.at = to

    def _segment(self, start: int, to: int, outputs: Sequence[str], given: Collection[str] = ()) -> onnx.ModelProto:
        """Nodes ``start`` to ``to`` as far as ``outputs`` need them; what is ``given`` is not made again."""
        segment = onnx.ModelProto(ir_version=self._model.ir_version)
        segment.opset_import.extend(self._model.opset_import)
        graph = segment.graph
        graph.name = SEGMENT
        reads = set(outputs)
        nodes: list[onnx.NodeProto] = []
        for index in reversed(range(start, to)):
            if reads & set(self._nodes[index].output).difference(given):
                nodes.append(self._shifted(self._nodes[index], graph))
                reads |= node_reads(nodes[-1])
        graph.node.extend(reversed(nodes))
        present = {t.name for t in graph.initializer}.union(*(node.output for node in nodes))
        for name in sorted(reads - present):
            if name in self.arrays:
                graph.initializer.append(numpy_helper.from_array(self.arrays[name], name))
            elif name in self._constants:
                graph.initializer.append(self._constants[name])
            elif name in self.live[0]:
                sample = self.live[0][name]
                kind = onnx.helper.np_dtype_to_tensor_dtype(sample.dtype)
                graph.input.append(onnx.helper.make_tensor_value_info(name, kind, [None] * sample.ndim))
        graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
        return segment

    def _shifted(self, node: onnx.NodeProto, graph: onnx.GraphProto) -> onnx.NodeProto:
        for (tensor, k), value in self.shifts.items():
            if tensor in node.output:
                copy = onnx.NodeProto()
                copy.CopyFrom(node)
                copy.input.extend([""] * (k + 1 - len(copy.input)))
                copy.input[k] = f"{tensor}.shift"
                graph.initializer.append(numpy_helper.from_array(value, copy.input[k]))
                return copy
        return node
