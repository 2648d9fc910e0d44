"""Checks models with onnx's checker, and accepts what runtimes accept beyond it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import onnx

from onnx_merge.errors import one_line
from onnx_merge.io.node_order import sort_main_graph
from passes.graph.functions import inlined
from passes.graph.nodes import every_node

PER_CHANNEL = 21
"""The first opset whose GroupNormalization has a scale and a bias for each channel."""

RUNTIME_OPS = {"LayerNormalization", "SimplifiedLayerNormalization"}
"""Ops that onnxruntime runs in the standard domain at any opset, and that its optimizer writes there."""


def check_valid(content: bytes | str) -> None:
    """Check a model with `onnx.checker`, but accept what runtimes accept.

    These are functions with another opset than the model's, inputs and outputs without a declared shape, the domain
    name "ai.onnx", GroupNormalization before opset 21, `RUNTIME_OPS` at opsets that do not define them, and nodes in
    any order.

    Raises
    ------
    ValidationError, ValueError: the model, given serialised or as the path of its file, is invalid.
    """
    try:
        onnx.checker.check_model(content)
    except onnx.checker.ValidationError as error:
        if isinstance(content, str):
            model = _without_external(onnx.load(content, load_external_data=False))
        else:
            model = onnx.ModelProto.FromString(content)
        mended = _give_shapes(model) | _name_standard_domain(model)
        mended |= _replace_group_normalization(model) | _set_runtime_ops_apart(model) | sort_main_graph(model)
        if "FunctionOp imports version" in str(error):
            model = inlined(model)
            del model.functions[:]  # the checker ignores remaining calls, whose domain it does not know
        elif not mended:
            raise
        onnx.checker.check_model(model.SerializeToString())


def _without_external(model: onnx.ModelProto) -> onnx.ModelProto:
    """Declare inputs in place of the weights in other files, which the checker finds only beside the model's file."""
    external = [t for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    given = {value.name for value in model.graph.input}
    for tensor in external:
        model.graph.initializer.remove(tensor)
        if tensor.name not in given:
            model.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return model


def _give_shapes(model: onnx.ModelProto) -> bool:
    """Declare an empty shape for inputs and outputs that declare none. Returns whether there were any."""
    values = (*model.graph.input, *model.graph.output)
    kinds = [v.type.tensor_type for v in values if v.type.HasField("tensor_type")]
    bare = [kind for kind in kinds if not kind.HasField("shape")]
    for kind in bare:
        kind.shape.SetInParent()
    return bool(bare)


def _name_standard_domain(model: onnx.ModelProto) -> bool:
    """Replace the domain name "ai.onnx" by the empty name. Returns whether it occurred."""
    places = [p for p in (*model.graph.node, *model.opset_import) if p.domain == "ai.onnx"]
    for place in places:
        place.domain = ""
    return bool(places)


def _replace_group_normalization(model: onnx.ModelProto) -> bool:
    """Replace GroupNormalization before opset 21 by an op that takes the same inputs. Returns whether it occurred.

    The checker refuses it as deprecated. onnxruntime runs it, with one scale and bias for each group, and nothing can
    take its place below opset 21: onnx's version converter leaves the parameters as they are, which then do not fit.
    """
    nodes = [n for n in _every_node(model) if n.op_type == "GroupNormalization" and not n.domain]
    if _opset(model) >= PER_CHANNEL or not nodes:
        return False
    for node in nodes:
        node.op_type = "InstanceNormalization"
        for attribute in [a for a in node.attribute if a.name != "epsilon"]:
            node.attribute.remove(attribute)
    return True


def _set_runtime_ops_apart(model: onnx.ModelProto) -> bool:
    """Move ops that onnx does not define at the model's opset to a domain of their own, whose ops the checker takes as
    they are. Returns whether there were any."""
    unknown = {op for op in RUNTIME_OPS if not onnx.defs.has(op, max_inclusive_version=_opset(model))}
    nodes = [n for n in _every_node(model) if n.op_type in unknown and not n.domain]
    for node in nodes:
        node.domain = "com.microsoft"
    if nodes and all(o.domain != "com.microsoft" for o in model.opset_import):
        model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    return bool(nodes)


def _opset(model: onnx.ModelProto) -> int:
    return next((o.version for o in model.opset_import if not o.domain), 1)


def _every_node(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    for graph in (model.graph, *model.functions):
        yield from every_node(graph.node)


def checker_line(error: Exception) -> str:
    """The multi-line message of `onnx.checker` or shape inference on one line, with the node that it concerns."""
    text, _, context = str(error).partition("==> Context:")
    node = re.search(r"Name: (.*?) ?OpType: (\S+)", context)
    line = one_line(text).removeprefix("[ShapeInferenceError] ")
    if node and f"Node({node[1]})" not in line:
        return f"{line.rstrip('.')} (node {node[1] or 'without a name'}, {node[2]})"
    return line
