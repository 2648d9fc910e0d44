"""Each op that onnxruntime's optimizer fuses, as the standard ops that it computes.

Source: the operators of the domain com.microsoft (onnxruntime, ContribOperators.md), and what the optimizer puts them
in place of. Letters of shapes are those of the ops there.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from passes.transforms.fused_node import FusedNode, StaysFusedError

MICROSOFT = "com.microsoft"

ACTIVATIONS = {
    "Relu": (), "Sigmoid": (), "Tanh": (), "Softplus": (), "Softsign": (), "LeakyRelu": ("alpha",), "Elu": ("alpha",),
    "ThresholdedRelu": ("alpha",), "HardSigmoid": ("alpha", "beta"), "Selu": ("alpha", "gamma"), "Clip": ("min", "max"),
}  # fmt: skip
"""The activations that layers are fused with, and the attributes of each."""


def _activated(node: FusedNode, source: str) -> str:
    """The layer's activation of ``source``. FusedConv lists its numbers, FusedGemm names each; it may have none."""
    kind = str(node.attributes.get("activation", b""), "utf-8")
    if not kind:
        return source
    if kind not in ACTIVATIONS:
        raise StaysFusedError(f"has the activation {kind}")
    names = ACTIVATIONS[kind]
    given = {name: node.attributes.get(f"activation_{name}") for name in names}
    listed = dict(zip(names, node.attributes.get("activation_params", ()), strict=False))
    return node.activate(source, kind, {name: v for name, v in {**given, **listed}.items() if v is not None})


def _layer(node: FusedNode, kind: str, *inputs: str) -> str:
    """The layer before its activation, with its own attributes."""
    own = {name: value for name, value in node.attributes.items() if not name.startswith("activation")}
    return node.op(kind, *inputs, **own)


def _conv(node: FusedNode) -> None:
    """X: N (g i) ..., W: (g o) i ..., B: (g o), Z as Y -> Y = f(Conv(X, W, B) + Z): N (g o) ..."""
    made = _layer(node, "Conv", *node.inputs[: 3 if node.has(2) else 2])
    node.give(0, _activated(node, node.op("Add", made, node.inputs[3]) if node.has(3) else made))


def _gemm(node: FusedNode) -> None:
    """A: m k, B: k n, C -> Y = f(Gemm(A, B, C)): m n"""
    node.give(0, _activated(node, _layer(node, "Gemm", *node.inputs)))


def _matmul(node: FusedNode) -> None:
    """A: ... m k, B: ... k n, each with its last two axes swapped where told so -> Y = alpha A B: ... m n"""
    if node.attributes.get("transBatchA", 0) or node.attributes.get("transBatchB", 0):
        raise StaysFusedError("has its first axis behind the others")
    turned = (node.attributes.get("transA", 0), node.attributes.get("transB", 0))
    operands = [node.swapped(name) if turn else name for name, turn in zip(node.inputs, turned, strict=True)]
    made = node.op("MatMul", *operands)
    alpha = node.attributes.get("alpha", 1.0)
    node.give(0, made if alpha == 1 else node.op("Mul", made, node.number(alpha)))


def _gelu(node: FusedNode, source: str, approximate: str = "none") -> None:
    """The op of opset 20, or what exporters write before it: x (1 + erf(x / sqrt 2)) / 2, or, with u = sqrt(2 / pi)
    (x + 0.044715 x^3), x (1 + tanh u) / 2."""
    op = node.op
    if node.opset >= 20:
        node.give(0, op("Gelu", source, approximate=approximate))
        return
    half, one = node.number(0.5), node.number(1)
    if approximate == "none":
        bent = op("Erf", op("Div", source, node.number(math.sqrt(2))))
    else:
        square = op("Mul", op("Mul", source, node.number(0.044715)), source)
        bent = op("Mul", source, node.number(math.sqrt(2 / math.pi)))
        bent = op("Tanh", op("Mul", op("Add", square, one), bent))
    node.give(0, op("Mul", op("Mul", source, op("Add", bent, one)), half))


def _fast_gelu(node: FusedNode) -> None:
    """X: ..., bias: n -> Y as X"""
    _gelu(node, node.op("Add", *node.inputs) if node.has(1) else node.inputs[0], "tanh")


def _quick_gelu(node: FusedNode) -> None:
    """X -> Y = x sigmoid(alpha x); SiLU where alpha is one."""
    source, alpha = node.inputs[0], node.attributes.get("alpha", 1.702)
    scaled = source if alpha == 1 else node.op("Mul", source, node.number(alpha))
    node.give(0, node.op("Mul", source, node.op("Sigmoid", scaled)))


def _skip_norm(node: FusedNode, kind: str, bias: int, norm_inputs: tuple[int, ...]) -> None:
    """input: B S H, skip: B S H, gamma: H, beta: H, bias: H -> output = norm(input + bias + skip), and that sum."""
    if any(node.outputs[1:3]):
        raise StaysFusedError("gives mean and deviation")
    source = node.op("Add", node.inputs[0], node.inputs[bias]) if node.has(bias) else node.inputs[0]
    total = node.op("Add", source, node.inputs[1])
    parameters = [node.inputs[k] for k in norm_inputs if node.has(k)]
    normal = node.op(kind, total, *parameters, axis=-1, epsilon=node.attributes.get("epsilon", 1e-12))
    node.give(0, normal)
    if node.outputs[3:]:
        node.give(3, total)


REWRITES: dict[str, Callable[[FusedNode], None]] = {
    "FusedConv": _conv,
    "FusedGemm": _gemm,
    "FusedMatMul": _matmul,
    "TransposeMatMul": _matmul,
    "Gelu": lambda node: _gelu(node, node.inputs[0]),
    "BiasGelu": lambda node: _gelu(node, node.op("Add", *node.inputs)),
    "FastGelu": _fast_gelu,
    "QuickGelu": _quick_gelu,
    "SkipLayerNormalization": lambda node: _skip_norm(node, "LayerNormalization", 4, (2, 3)),
    "SkipSimplifiedLayerNormalization": lambda node: _skip_norm(node, "SimplifiedLayerNormalization", 3, (2,)),
}
"""By op: writes the standard ops. Raises `StaysFusedError` where it cannot."""
