"""How a small network of a kind that exporters write is added to the table in `architectures`."""

from dataclasses import dataclass

import onnx
from netkit import TOLERANCE, filled, net
from onnx import helper


@dataclass(frozen=True)
class Architecture:
    """``groups``: how many groups shrink at least; ``tolerance``: of outputs computed in this precision."""

    model: onnx.ModelProto
    groups: int
    tolerance: float = TOLERANCE


ARCHITECTURES: dict[str, Architecture] = {}


def add(name, groups, body, tolerance=TOLERANCE, **weights):
    ARCHITECTURES[name] = Architecture(net(body, **weights), groups, tolerance)


def op(kind, inputs, output, domain="", **attributes):
    """A node for `built`, its tensors separated by blanks; named as its first output without ``:0``."""
    outputs = output.split()
    return helper.make_node(kind, inputs.split(), outputs, outputs[0].removesuffix(":0"), domain=domain, **attributes)


def built(nodes, inputs, outputs, weights, opset=17, ir_version=8, **domains):
    """A model without the text form, which has no room for exporters' names; float tensors are given by their dims."""
    values = (
        [v if isinstance(v, onnx.ValueInfoProto) else helper.make_tensor_value_info(*v) for v in values]
        for values in (inputs, outputs)
    )
    opsets = [helper.make_opsetid(d, n) for d, n in {"": opset, **domains}.items()]
    graph = helper.make_graph(nodes, "net", *values)
    return filled(helper.make_model(graph, opset_imports=opsets, ir_version=ir_version), weights)


def norm(name, n, separator="_"):
    """Weights of a BatchNormalization; in the text: ``BatchNormalization(x, {name}_scale, ...)``."""
    return {f"{name}{separator}{part}": (n,) for part in ("scale", "bias", "mean", "var")}


def conv(name, *shape):
    return {f"{name}_w": shape, f"{name}_b": shape[:1]}
