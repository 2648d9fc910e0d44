"""Nodes that make channels of constants, one for each channel, beside a Gemm that makes them of its weights."""

from dataclasses import dataclass, field

import numpy as np
from netkit import ints, net

ADDED = """net (float[5,6] x) => (float[5,4] y) {{
    z = ReduceSum(x, one)  a = Gemm(x, w, b)  {}  r = Add(a, m)  y = MatMul(r, v)
}}"""
"""z: one number for each sample; m: the channels made of constants."""
CONV = "net (float[2,3,6,6] x) => (float[2,4,h,w] y) {{ {}  y = Conv(m, v) }}"
PLAIN = "net (float[5,6] x) => (float[5,4] y) {{ {}  y = MatMul(m, v) }}"
TOKENS = "net (float[2,3,6] x) => (float[2,n,4] y) {{ a = MatMul(x, w)  {}  y = MatMul(m, v) }}"
FRAMES = {
    "added": (ADDED, {"w": (6, 8), "b": (8,), "v": (8, 4), "one": ints(1)}),
    "plain": (PLAIN, {"v": (8, 4)}),
    "conv": (CONV, {"v": (4, 8, 1, 1)}),
    "tokens": (TOKENS, {"w": (6, 8), "v": (8, 4)}),
}


@dataclass(frozen=True)
class ScaleCase:
    """``scales``: whether a multiple in all of the constants is one of the channel."""

    op: str
    nodes: str
    scales: bool
    frame: str = "added"
    weights: dict = field(default_factory=dict)

    @property
    def id(self):
        return f"{self.op}-{self.frame}"

    def model(self):
        """The nodes in their frame."""
        text, weights = FRAMES[self.frame]
        return net(text.format(self.nodes), 23, 10, **{**weights, **self.weights})


def scale(op, nodes, scales, frame="added", **weights):
    return ScaleCase(op, nodes, scales, frame, weights)


K = np.float32([0.5, -1.25, 2.0, 0.75, -0.3, 1.5, 0.25, 1.0])
STEPS = np.arange(1, 9)
FLAGS = np.array([1, 0, 1, 1, 0, 1, 0, 0], bool)
ZERO = np.array(0, np.float32)
BYTES = STEPS.astype(np.uint8)
