"""Reads and changes the bias of a Conv, ConvTranspose or Gemm in a patch."""

from __future__ import annotations

import numpy as np

from passes.graph.model import Array, Node
from passes.graph.patch import Patch


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
