"""Reads and changes the bias of a Conv, ConvTranspose or Gemm in a patch, and separates it from a convolution."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from passes.graph.model import Array, Node
from passes.graph.nodes import fresh
from passes.graph.patch import Patch
from passes.weights.stored_tensors import tensor_of


def bias_name(patch: Patch, layer: Node) -> str:
    """Name of the bias after the patch, ``""`` if there is none."""
    return patch.inputs[layer.index].get(2, layer.inputs[2] if len(layer.inputs) > 2 else "")


def set_bias(patch: Patch, layer: Node, value: Array) -> None:
    """Set the layer's bias to ``value`` of shape (C,). A Gemm's beta becomes 1."""
    if layer.op == "Gemm":
        patch.set_attribute(layer, "beta", None)
    patch.reroute(layer, 2, patch.add_array(f"{layer.label}.bias", value))


def add_bias(patch: Patch, layer: Node, shift: Array) -> None:
    """Add ``shift`` (C,) to the layer's output."""
    name = bias_name(patch, layer)
    beta = 1.0 if "beta" in patch.attributes[layer.index] else float(layer.attrs.get("beta", 1.0))
    old = patch.array(name).astype(np.float64) * beta if name else np.zeros(len(shift))
    old = old.ravel() if old.size in (1, len(shift)) else old
    set_bias(patch, layer, (old + shift).astype(patch.array(layer.inputs[1]).dtype))


def separate_bias(model: onnx.ModelProto, layer: onnx.NodeProto, bias: str, rank: int, taken: set[str]) -> None:
    """Add the tensor ``bias`` (C,) behind the convolution ``layer`` and not in it, in place.

    onnxruntime reorders kernels for its fastest convolutions only where kernel and bias are constants. ``rank``: of the
    output; ``taken``: names in use, to which the new ones are added.
    """
    output = layer.output[0]
    alone, column, sizes = (fresh(f"{output}.{part}", taken) for part in ("unbiased", "bias", "sizes"))
    del layer.input[2:]
    layer.output[0] = alone
    model.graph.initializer.append(tensor_of(np.array([-1, *[1] * (rank - 2)], np.int64), sizes))
    at = next(k for k, node in enumerate(model.graph.node) if node.output[:1] == [alone]) + 1
    model.graph.node.insert(at, helper.make_node("Reshape", [bias, sizes], [column], name=column))
    model.graph.node.insert(at + 1, helper.make_node("Add", [alone, column], [output], name=output))
