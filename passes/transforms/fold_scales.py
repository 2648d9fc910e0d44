"""Folds a constant factor for each channel into the layer before it.

Before:  x -> MatMul(W) -> Add(b) -> Mul(s) -> y          (Conv and Gemm, with the bias inside, alike)
After:   x -> MatMul(W s) -> Add(b s) -> y

Such factors stand at the end of each branch of deep transformers (LayerScale: Touvron et al., Going deeper with image
transformers, ICCV 2021). Behind them, the branch is no longer what one layer writes.

Conditions: weights, bias and factor are initializers, of one float type, in which they are stored; nothing else reads
the weights, the bias, or what is multiplied. Weights that hold a norm stay, since they are told apart from those that
were trained.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx

from passes.axes.registry import facts_of
from passes.graph.added_bias import added_bias
from passes.graph.model import Array, Graph, Node
from passes.graph.patch import Patch
from passes.transforms.cleanup import cleanup
from passes.weights.storage_types import storage_of


def fold_scales(graph: Graph, norms: Collection[str]) -> onnx.ModelProto:
    """The model with all such factors folded, or the graph's own. ``norms``: weights that hold a norm."""
    patch = Patch(graph)
    for node in graph.nodes:
        for k in (0, 1) if node.op == "Mul" and node.domain == "" else ():
            if _fold(graph, node, k, norms, patch):
                break
    return cleanup(patch.apply()) if patch.replaced else graph.model


def _fold(graph: Graph, node: Node, k: int, norms: Collection[str], patch: Patch) -> bool:
    """Fold the constant at input ``k`` of a Mul."""
    scale, data = node.inputs[k], node.inputs[1 - k]
    found = _layer(graph, data)
    if found is None or not _is_fixed(graph, scale, alone=False) or graph.only_user(data) is None:
        return False
    layer, biases = found
    weight = layer.inputs[1]
    linear = facts_of(layer.domain, layer.op).linear
    if linear is None or weight in norms or not all(_is_fixed(graph, name) for name in (weight, *biases)):
        return False
    factor = _line(graph, scale, data, 1 if linear.convolves else -1)
    same = {graph.array(name).dtype for name in (weight, scale, *biases)}
    if factor is None or len(same) > 1 or next(iter(same)).kind != "f":
        return False
    values, output = graph.array(weight), linear.output_axis(layer)
    if values.shape[output] != len(factor) or any(graph.array(name).shape[-1:] != factor.shape for name in biases):
        return False
    patch.set_array(weight, values * factor.reshape([-1 if d == output else 1 for d in range(values.ndim)]))
    for name in biases:
        patch.set_array(name, graph.array(name) * factor)
    last = graph.producer[data]
    patch.remove(node)
    patch.outputs[last.index][0] = node.outputs[0]
    return True


def _layer(graph: Graph, data: str) -> tuple[Node, list[str]] | None:
    """The layer whose output, with its bias, is ``data``, and the constants that it, or an Add behind it, adds."""
    maker = graph.producer.get(data)
    if maker is None:
        return None
    if maker.op == "Add":
        for name in maker.inputs:
            layer, found = graph.producer.get(name), added_bias(graph, name)
            if layer is not None and layer.op == "MatMul" and found is not None and found[0] is maker:
                return layer, [maker.inputs[found[1]]]
        return None
    return (maker, [n for n in maker.inputs[2:] if n]) if maker.op in ("MatMul", "Gemm", "Conv") else None


def _is_fixed(graph: Graph, name: str, alone: bool = True) -> bool:
    """Whether ``name`` is an initializer that callers cannot override, is not rounded to a narrower type and, if
    ``alone``, has one reader."""
    fixed = name in graph.initializers and name not in graph.overridable and name not in graph.captured
    single = not alone or (len(graph.users[name]) == 1 and name not in graph.outputs)
    return fixed and single and storage_of(graph.initializers[name]) is None


def _line(graph: Graph, scale: str, data: str, axis: int) -> Array | None:
    """The factors (C,) along ``axis`` of ``data``; None where they are not one for each channel."""
    whole, shape = graph.shape(data), graph.shape(scale)
    if not whole or shape is None or not 0 < len(shape) <= len(whole):
        return None
    wide = (1,) * (len(whole) - len(shape)) + tuple(shape)
    axis %= len(whole)
    if wide[axis] != whole[axis] or wide[axis] < 2 or any(n != 1 for d, n in enumerate(wide) if d != axis):
        return None
    return np.ravel(graph.array(scale))
