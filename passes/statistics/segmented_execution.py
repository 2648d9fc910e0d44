"""Runs a model in segments over all samples, so that weights can change between segments and nothing runs twice.

All nodes before the next layer have run. The tensors that later nodes still read are kept: the *live* tensors, one dict
for each batch of samples, or a temporary file where they do not fit into memory. Two runs advance side by side: that of
the original and that of the compressed model.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass

import onnx
from onnx import numpy_helper

from passes.graph.model import Array
from passes.graph.nodes import node_reads
from passes.interface.engine import Engine, retaining, run_all
from passes.statistics.tensor_store import StoredTensors, TensorStore
from passes.weights.stored_tensors import tensor_of

SEGMENT = "segment"
"""Name of the graph of a segment."""
Feeds = Sequence[Mapping[str, Array]]
"""Inputs of a model by name, for each batch of samples."""


@dataclass(frozen=True)
class Recording:
    """Recorded tensors of a run: ``live`` has all of them for each batch."""

    live: Feeds

    def reach(self, tensor: str, wanted: Collection[str] = ()) -> None:
        """Do nothing: all tensors have been recorded."""


class SegmentedRun:
    """``model`` run up to node ``at`` (exclusive) on ``feeds``, one dict of inputs for each batch.

    ``arrays``: initializers with new values; ``shifts``: (tensor, input index) -> a constant that replaces this input
    of the node that produces the tensor; ``folder``: where live tensors are kept in a temporary file, None for in
    memory; ``workers``: most batches that run at the same time, where they are in memory.
    """

    def __init__(
        self, model: onnx.ModelProto, feeds: Feeds, engine: Engine, folder: str | None = None, workers: int = 1
    ) -> None:
        self._model, self._engine = model, engine
        self.workers = min(workers, len(feeds)) if folder is None else 1
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
        store = None if folder is None else TensorStore(folder)
        self.live: list[MutableMapping[str, Array]] = [
            dict(feed) if store is None else StoredTensors(store, feed) for feed in feeds
        ]

    def reach(self, tensor: str, wanted: Collection[str] = ()) -> None:
        """Run until ``tensor`` is computed. Keep it, the tensors in ``wanted``, and inputs of later nodes."""
        self.advance(max(self.at, self._maker.get(tensor, -1) + 1), {tensor, *wanted})

    def glance(self, tensor: str) -> Iterator[Array] | None:
        """``tensor`` in each batch, without keeping it. None if the run has passed and dropped it."""
        if tensor in self.live[0]:
            return (live[tensor] for live in self.live)
        end = self._maker.get(tensor, -1) + 1
        if end <= self.at:
            return None
        run = self._engine(self._segment(self.at, end, [tensor]))
        return (run(live)[tensor] for live in self.live)

    def record(self, tensors: Collection[str]) -> Recording:
        """Run until all ``tensors`` are computed. They may include tensors that earlier calls of `reach` kept."""
        for tensor in sorted(tensors, key=lambda name: self._maker.get(name, -1)):
            self.reach(tensor, tensors)
        return Recording([{name: live[name] for name in tensors} for live in self.live])

    def before(self, tensor: str, wanted: Collection[str] = ()) -> None:
        """Run up to the node that produces ``tensor`` (exclusive). The tensors in ``wanted`` are kept too."""
        self.advance(max(self.at, self._maker[tensor]), wanted)

    def again(self, tensor: str, since: str) -> None:
        """Recompute ``tensor`` from the node on that produces ``since``, with the present weights."""
        made = self._run(self._segment(self._maker[since], self._maker[tensor] + 1, [tensor]))
        for live, found in zip(self.live, made, strict=True):
            live[tensor] = found[tensor]

    def onward(self, model: onnx.ModelProto, outputs: Sequence[str]) -> list[dict[str, Array]]:
        """``outputs``, for each batch, of another model that differs from this one only after node ``at``."""
        other = SegmentedRun(model, self.live[:1], self._engine)
        made = [name for name in outputs if name not in self.live[0]]
        segment = other._segment(0, len(other._nodes), made, self.live[0].keys())
        found = run_all(retaining(self._engine), segment, self.live, self.workers)
        return [{**{n: a[n] for n in outputs if n in a}, **b} for a, b in zip(self.live, found, strict=True)]

    def advance(self, to: int, wanted: Collection[str] = ()) -> None:
        """Run the nodes from ``at`` to ``to``."""
        self.cuts.append((to, frozenset(wanted)))
        made = {n for node in self._nodes[self.at : to] for n in node.output if n}
        keep = sorted(n for n in made if self._last.get(n, -1) >= to or n in wanted)
        # A few batches at a time: old and new tensors of all batches are never held together.
        made_of = self._run(self._segment(self.at, to, keep)) if keep else ({} for _ in self.live)
        for live, found in zip(self.live, made_of, strict=True):
            for name in [n for n in live if self._last.get(n, -1) < to and n not in wanted]:
                del live[name]
            live.update({n: found[n] for n in keep})
        self.at = to

    def _run(self, segment: onnx.ModelProto) -> Iterator[Mapping[str, Array]]:
        return run_all(self._engine, segment, self.live, self.workers)

    def _segment(self, start: int, to: int, outputs: Sequence[str], given: Collection[str] = ()) -> onnx.ModelProto:
        """The nodes from ``start`` to ``to`` that ``outputs`` need. Tensors in ``given`` are inputs, not recomputed."""
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
                graph.initializer.append(tensor_of(self.arrays[name], name))
            elif name in self._constants:
                graph.initializer.append(self._constants[name])
            elif name in self.live[0]:
                graph.input.append(self._declared(name))
        graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
        return segment

    def _declared(self, name: str) -> onnx.ValueInfoProto:
        """The input ``name`` of a segment. Sizes are given of what may hold sizes: what onnxruntime makes of a vector
        of unknown length is an empty one, and a Resize to it cannot be loaded (seen in 1.31)."""
        sample = self.live[0][name]
        sizes = sample.ndim == 1 and sample.dtype.kind == "i"
        known = sizes and all(live[name].shape == sample.shape for live in self.live)
        kind = onnx.helper.np_dtype_to_tensor_dtype(sample.dtype)
        return onnx.helper.make_tensor_value_info(name, kind, sample.shape if known else [None] * sample.ndim)

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
