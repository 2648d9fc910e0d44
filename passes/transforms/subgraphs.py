"""Converts bodies of If, Loop and Scan to models of their own, and back again.

    Before:  y = If(c) <then_branch: t = Gemm(x, w, b), ...>        (x, w and b of the outer graph)
    Model:   net (x) => (t) { t = Gemm(x, w, b) }                   w, b: initializers

The inputs of the model are the body's formal inputs and the tensors that it captures. Inputs and outputs of the model
keep all of their channels. Captured constants become initializers of the model. The cut copy of such a constant goes
into the body under another name, and the outer constant is removed if nothing else reads it. Weights that something
else reads as well stay as they are (``shared``): a copy would cost what sharing saves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Set
from dataclasses import dataclass, field

import onnx

from passes.graph.model import Graph, Node
from passes.graph.nodes import fresh, names_in, rename_tensors, subgraphs
from passes.settings.tuning import TUNING
from passes.shapes.constants import FLOATS, STANDARD_DOMAINS, constants_in
from passes.shapes.inference import Assignment, skeleton
from passes.shapes.sizes import Size, at
from passes.weights.stored_tensors import bring_into_memory, same_values

ATTRIBUTES = {"If": ("then_branch", "else_branch"), "Loop": ("body",), "Scan": ("body",)}
"""Ops with bodies, and the attributes that hold them."""
SCAN_SINCE = 9
"""First opset in which Scan has the form that is supported here."""


@dataclass(frozen=True)
class Body:
    """``model``: the body of ``node`` in its attribute ``attribute``, as a model of its own. ``where``: prefix of the
    names of its layers. ``captured``: constants of the outer graph in it. ``shared``: those that others read too.
    ``assignments``: shapes of its inputs. ``times``: how often it runs for one sample of the outer graph, where that is
    fixed."""

    node: Node
    attribute: str
    where: str
    model: onnx.ModelProto
    captured: frozenset[str]
    shared: frozenset[str]
    times: int = 1
    assignments: tuple[Assignment, ...] = ()


def bodies_of(graph: Graph, where: str = "", shared: Set[str] = frozenset()) -> list[Body]:
    """Every body of the main graph's nodes that holds or captures weights, in order.

    ``where``: prefix of the names there. ``shared``: constants of ``graph`` that are read outside it too.
    """
    found: list[Body] = []
    given: _Types | None = None
    readers = _readers(graph)
    for node in graph.nodes:
        if node.op not in ATTRIBUTES or node.domain not in STANDARD_DOMAINS:
            continue
        if node.op == "Scan" and graph.opset < SCAN_SINCE:
            continue
        for attribute in graph.model.graph.node[node.index].attribute:
            if attribute.name not in ATTRIBUTES[node.op]:
                continue
            names = captured_names(attribute.g)
            captured = frozenset(n for n in names if n in graph.initializers)
            if not _has_weights(attribute.g, [graph.initializers[n] for n in captured]):
                continue
            given = given or _Types(graph)
            model = _standalone(graph, node, attribute.g, given)
            if model is not None:
                kept = frozenset(n for n in captured if n in shared or readers[n] > 1)
                place = f"{where}{node.label}/{attribute.name}/"
                times = _times(graph, node) * given.samples(model)
                sizes = given.assignments(model)
                found.append(Body(node, attribute.name, place, model, captured, kept, times, sizes))
    return found


def captured_names(graph: onnx.GraphProto) -> list[str]:
    """Names that a body, or a body nested in it, reads but does not define, in order."""
    defined = {v.name for v in graph.input} | {t.name for t in graph.initializer}
    defined |= {t.values.name for t in graph.sparse_initializer}
    found: dict[str, None] = {}
    for node in graph.node:
        inner = (name for body in subgraphs(node) for name in captured_names(body))
        found.update((name, None) for name in (*node.input, *inner) if name and name not in defined)
        defined.update(node.output)
    found.update((v.name, None) for v in graph.output if v.name not in defined)
    return list(found)


def rebuilt(body: Body, original: onnx.GraphProto, model: onnx.ModelProto, graph: Graph) -> onnx.GraphProto:
    """Convert a smaller ``model`` of a body back to a body, with the inputs and outputs of the ``original``.

    ``graph`` is the outer graph. The body reads constants from it where they did not change.
    """
    result = onnx.GraphProto()
    result.CopyFrom(original)
    for cleared in ("node", "initializer", "sparse_initializer", "value_info"):
        result.ClearField(cleared)
    result.node.extend(model.graph.node)
    result.sparse_initializer.extend(model.graph.sparse_initializer)
    own = {*names_in(original)} - body.captured
    for tensor in model.graph.initializer:
        if tensor.name not in body.captured or not same_values(tensor, graph.initializers[tensor.name]):
            result.initializer.add().CopyFrom(tensor)
            bring_into_memory(result.initializer[-1])
    defined = {t.name for t in result.initializer} | {n for node in result.node for n in node.output if n}
    taken = {*names_in(graph.model.graph), *names_in(model.graph)}
    rename_tensors(result, {name: fresh(f"{body.where}{name}", taken) for name in sorted(defined - own)})
    return result


@dataclass
class _Types:
    """Types of the tensors of an outer graph. ``sized``: sizes that vary -> their symbols."""

    graph: Graph
    kinds: dict[str, onnx.TypeProto] = field(default_factory=dict)
    sized: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        model = self.graph.model
        inferred = onnx.shape_inference.infer_shapes(skeleton(model, {})).graph
        for value in (*inferred.value_info, *inferred.output, *inferred.input, *model.graph.value_info):
            if value.type.WhichOneof("value") is not None:
                self.kinds.setdefault(value.name, value.type)
        for value in model.graph.input:
            self.kinds[value.name] = value.type
        for tensor in model.graph.initializer:
            self.kinds[tensor.name] = onnx.helper.make_tensor_type_proto(tensor.data_type, tensor.dims)

    def dims(self, name: str) -> list[int | str] | None:
        """Dims of a tensor. Varying dims are symbols, and equal sizes have the same symbol."""
        sizes, dynamic = self.graph.info.sizes.get(name), self.graph.info.dynamic
        if sizes is None:
            return None
        return [
            self._symbol(n) if isinstance(n, Size) or (name, axis) in dynamic else int(n)
            for axis, n in enumerate(sizes)
        ]

    def _symbol(self, size: int) -> str:
        return self.sized.setdefault(size, f"size_{len(self.sized)}")

    def assignments(self, model: onnx.ModelProto) -> tuple[Assignment, ...]:
        """Shapes of a body's inputs at each of the outer graph's assignments."""
        named = {name: size for size, name in self.sized.items()}
        constants = {t.name for t in model.graph.initializer}
        given = [v for v in model.graph.input if v.name not in constants and v.type.tensor_type.HasField("shape")]
        found: list[Assignment] = []
        for k in range(self.graph.info.count):
            inner = TUNING.transforms.body_sizes[k % len(TUNING.transforms.body_sizes)]
            sizes = {name: at(size, k) for name, size in named.items()}
            dims = {v.name: v.type.tensor_type.shape.dim for v in given}
            found.append(
                {n: tuple(d.dim_value or sizes.get(d.dim_param, inner) for d in own) for n, own in dims.items()}
            )
        return tuple(found)

    def samples(self, model: onnx.ModelProto) -> int:
        """Number of a body's samples for one of the outer graph's. The outer graph may have no dynamic first axis that
        counts samples."""
        sizes = {name: int(size) for size, name in self.sized.items()}
        constants = {t.name for t in model.graph.initializer}
        inside = (v.type.tensor_type.shape.dim for v in model.graph.input if v.name not in constants)
        held = next((sizes.get(dims[0].dim_param, 1) for dims in inside if dims and dims[0].dim_param), 1)
        graph = self.graph
        firsts = (graph.info.shapes[n][0] for n in graph.inputs if (n, 0) in graph.info.dynamic)
        return max(1, held // int(next(firsts, 1)))

    def of(self, name: str) -> onnx.TypeProto | None:
        """The type of a tensor with its shape, where they are known."""
        kind = self.kinds.get(name)
        if kind is None or not kind.HasField("tensor_type") or not kind.tensor_type.elem_type:
            return kind if kind is not None and not kind.HasField("tensor_type") else None
        return onnx.helper.make_tensor_type_proto(kind.tensor_type.elem_type, self.dims(name))


def _standalone(graph: Graph, node: Node, body: onnx.GraphProto, given: _Types) -> onnx.ModelProto | None:
    """The body as a model. None where the type of a captured tensor is unknown."""
    source = graph.model
    model = onnx.ModelProto(ir_version=max(source.ir_version, 4))
    model.opset_import.extend(source.opset_import)
    model.graph.name = body.name or "body"
    model.graph.node.extend(body.node)
    model.graph.initializer.extend(body.initializer)
    model.graph.sparse_initializer.extend(body.sparse_initializer)
    model.graph.output.extend(body.output)
    defaults = {t.name for t in body.initializer}
    for position, value in enumerate(body.input):
        if value.name in defaults:
            continue
        kind = _formal(graph, node, position, value, given)
        if kind is None:
            return None
        model.graph.input.add(name=value.name).type.CopyFrom(kind)
    for name in captured_names(body):
        if name in graph.initializers:
            model.graph.initializer.add().CopyFrom(graph.initializers[name])
            continue
        kind = given.of(name)
        if kind is None:
            return None
        model.graph.input.add(name=name).type.CopyFrom(kind)
    for value, outer in zip(body.output, _outer_outputs(node), strict=False):
        known = given.of(outer) if outer and not value.type.HasField("tensor_type") else None
        if known is not None:
            known.tensor_type.ClearField("shape")
            value = next(v for v in model.graph.output if v.name == value.name)
            value.type.CopyFrom(known)
    return model


def _outer_outputs(node: Node) -> list[str]:
    """The outer tensor that has the element type of each output of a body."""
    return ["", *node.outputs] if node.op == "Loop" else list(node.outputs)


def _formal(
    graph: Graph, node: Node, position: int, value: onnx.ValueInfoProto, given: _Types
) -> onnx.TypeProto | None:
    """The type of a formal input. It is the declared type; what is not declared comes from the node's actual input."""
    declared = value.type.tensor_type
    if value.type.WhichOneof("value") not in (None, "tensor_type"):
        return value.type
    if node.op == "Loop" and position < 2:
        return onnx.helper.make_tensor_type_proto((onnx.TensorProto.INT64, onnx.TensorProto.BOOL)[position], [])
    outer = node.inputs[position] if position < len(node.inputs) else ""
    kind, dims = given.of(outer), given.dims(outer)
    scanned = node.op == "Scan" and position >= len(node.inputs) - int(node.attrs["num_scan_inputs"])
    if scanned and dims is not None:
        first = len(node.inputs) - int(node.attrs["num_scan_inputs"])
        axes = node.attrs.get("scan_input_axes") or [0] * int(node.attrs["num_scan_inputs"])
        del dims[axes[position - first]]
    if declared.HasField("shape"):
        own = [d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in declared.shape.dim]
        if dims is None or len(dims) != len(own):
            dims = [n if n is not None else f"{value.name}_{axis}" for axis, n in enumerate(own)]
        dims = [n if n is not None else dim for n, dim in zip(own, dims, strict=True)]
    elem = declared.elem_type or (kind.tensor_type.elem_type if kind is not None else 0)
    return onnx.helper.make_tensor_type_proto(elem, dims) if elem else None


def _times(graph: Graph, node: Node) -> int:
    """How often a body runs, where that number is fixed; else one."""
    if node.op == "Loop":
        count = graph.value(node.inputs[0]) if node.inputs and node.inputs[0] else None
        return max(1, int(count.ravel()[0])) if count is not None and count.size else 1
    if node.op == "Scan":
        scans = int(node.attrs["num_scan_inputs"])
        name = node.inputs[len(node.inputs) - scans]
        shape, axis = graph.shape(name), (node.attrs.get("scan_input_axes") or [0])[0]
        if shape is not None and (name, axis % len(shape)) not in graph.info.dynamic:
            return max(1, int(shape[axis]))
    return 1


def _readers(graph: Graph) -> Counter[str]:
    """How many nodes, bodies and outputs of the graph read each tensor."""
    found = Counter(n for node in graph.nodes for n in {*node.inputs})
    found.update(v.name for v in graph.model.graph.output)
    for node in graph.model.graph.node:
        for body in subgraphs(node):
            found.update(captured_names(body))
    return found


def _has_weights(body: onnx.GraphProto, captured: list[onnx.TensorProto]) -> bool:
    """Whether a body reads floating-point constants other than vectors."""
    for tensor in (*body.initializer, *constants_in(body.node), *captured):
        if tensor.data_type in FLOATS and sum(n > 1 for n in tensor.dims) > 1:
            return True
    return any(_has_weights(inner, []) for node in body.node for inner in subgraphs(node))
