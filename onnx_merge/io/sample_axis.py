"""Adds an axis of samples in front of the inputs and outputs of a model, and takes it away again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx
from onnx import helper

from onnx_merge.errors import StructureError
from passes.graph.nodes import drop_unused_initializers, fresh, names_in, rename_tensors, set_nodes
from passes.shapes.constants import STANDARD_DOMAINS
from passes.shapes.overridable_inputs import list_initializers, overridable

MARK = "onnx_merge/sample_axis/"
"""Begins the names of the nodes that are added."""
AXES_ARE_INPUT = 13
"""The opset from which on Squeeze and Unsqueeze take their axes as an input."""


@dataclass(frozen=True, eq=False)
class SampleAxis:
    """An axis of size one in front of every input and output of a model of which each run takes one sample.

    ``given``: the model without it. ``ready``: outputs whose first axis has the size one anyway; they stay.
    """

    given: onnx.ModelProto
    ready: frozenset[str] = frozenset()

    @staticmethod
    def fits(model: onnx.ModelProto) -> bool:
        """Whether ``model`` can get the axis: inputs and outputs are tensors, and the inputs' ranks are declared."""
        graph = model.graph
        inputs, outputs = _fed(model), list(graph.output)
        tensors = all(v.type.HasField("tensor_type") for v in (*inputs, *outputs))
        ranks = all(v.type.tensor_type.HasField("shape") for v in inputs)
        made = {name for node in graph.node for name in node.output}
        known = {(o.domain or "ai.onnx"): o.version for o in model.opset_import}
        return tensors and ranks and "ai.onnx" in known and all(v.name in made for v in outputs)

    def added(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """A copy of ``model``, the given one or a result of it, with the axis."""
        result = onnx.ModelProto()
        result.CopyFrom(model)
        graph, taken = result.graph, {*names_in(model.graph)}
        opset = next(o.version for o in model.opset_import if o.domain in STANDARD_DOMAINS)
        first, last = _fed(result), [v for v in graph.output if v.name not in self.ready]
        first = [v for v in first if v.type.tensor_type.shape.dim]  # a scalar is the same for all samples
        inner = {v.name: fresh(f"{v.name}/one", taken) for v in (*first, *last)}
        declared = [onnx.ValueInfoProto.FromString(v.SerializeToString()) for v in (*first, *last)]
        rename_tensors(graph, inner)
        for value, old in zip((*first, *last), declared, strict=True):
            value.CopyFrom(old)
            if value.type.tensor_type.HasField("shape"):
                dims = value.type.tensor_type.shape.dim
                rest = [onnx.TensorShapeProto.Dimension.FromString(d.SerializeToString()) for d in dims]
                del dims[:]
                dims.add(dim_value=1)
                dims.extend(rest)
        axes = [fresh("axes", taken)] if opset >= AXES_ARE_INPUT and inner else []
        graph.initializer.extend(helper.make_tensor(name, onnx.TensorProto.INT64, [1], [0]) for name in axes)
        attributes: dict[str, Any] = {} if axes else {"axes": [0]}
        before = [
            helper.make_node("Squeeze", [v.name, *axes], [inner[v.name]], f"{MARK}{v.name}", **attributes)
            for v in first
        ]
        behind = [
            helper.make_node("Unsqueeze", [inner[v.name], *axes], [v.name], f"{MARK}{v.name}", **attributes)
            for v in last
        ]
        set_nodes(graph, [*before, *graph.node, *behind])
        list_initializers(result)
        return result

    def removed(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """A copy of ``model``, a result of the model with the axis, without it.

        Raises
        ------
        StructureError: the axis is not where it was put (a bug).
        """
        result = onnx.ModelProto()
        result.CopyFrom(model)
        graph = result.graph
        ours = [
            (node.op_type, list(node.input), node.output[0], node.name)
            for node in graph.node
            if node.name.startswith(MARK)
        ]
        outputs = {v.name for v in graph.output}
        set_nodes(graph, [node for node in graph.node if not node.name.startswith(MARK)])
        made = {name for node in graph.node for name in node.output}
        now = dict[str, str]()
        for op, (read, *_), written, name in ours:
            kept, gone = now.get(read, read), written
            if op == "Unsqueeze":
                if kept not in made or kept in outputs:  # an input, or several outputs read it
                    graph.node.append(helper.make_node("Identity", [kept], [written], name.removeprefix(MARK)))
                    continue
                kept, gone = written, kept
            rename_tensors(graph, {gone: kept})
            now[gone] = kept
        for value in [*_fed(result), *graph.output]:
            if value.name not in self.ready and value.type.tensor_type.shape.dim:
                if value.type.tensor_type.shape.dim[0].dim_value != 1:
                    raise StructureError(f"the axis of samples of {value.name!r} is lost (a bug)")
                del value.type.tensor_type.shape.dim[0]
        declared = {v.name for v in (*graph.input, *graph.output)}
        for index in reversed([k for k, v in enumerate(graph.value_info) if v.name in declared]):
            del graph.value_info[index]
        axes = {name for _, (_, *more), _, _ in ours for name in more}
        drop_unused_initializers(graph, ({t.name for t in graph.initializer} - axes) | overridable(result))
        return result


def _fed(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The inputs that a caller must feed."""
    constants = {t.name for t in model.graph.initializer}
    return [v for v in model.graph.input if v.name not in constants]
