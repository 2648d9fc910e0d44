"""Cases for op rules: a few nodes as ONNX text, and what their axes are to become."""

from dataclasses import dataclass, field

from netkit import engine, net

from passes.axes import algebra
from passes.axes.inference import infer
from passes.graph.model import Graph
from passes.interface.reason import text

GEMM = ("float[2,6] x", "a = Gemm(x, w)  b = Gemm(x, w2)  {}  y = Gemm(r, v)", {"w": (6, 8), "w2": (6, 8), "v": (8, 4)})
"""(2, 8): the last axis is made by a Gemm and read by one."""
LAST = ("float[2,3,5,6] x", "a = MatMul(x, w)  {}  y = MatMul(r, v)", {"w": (6, 8), "v": (8, 4)})
"""(2, 3, 5, 8): the last axis is made by a MatMul and read by one."""
MIDDLE = ("float[2,6,5] x", "a = MatMul(w, x)  {}  y = MatMul(v, r)", {"w": (8, 6), "v": (4, 8)})
"""(2, 8, 5): the axis in the middle is."""
CONV_SHAPES = {"r": (2, 8, 6, 6), "y": (2, 4, 6, 6)}
LAST_SHAPES = {"r": (2, 3, 5, 8), "y": (2, 3, 5, 4)}
"""For ops whose shapes onnx does not infer."""
CONV = ("float[2,3,6,6] x", "a = Conv(x, w)  {}  y = Conv(r, v)", {"w": (8, 3, 1, 1), "v": (4, 8, 1, 1)})
"""(2, 8, 6, 6): the channels are made by a Conv and read by one."""
UNKNOWN = ("float[2,8] x", "u = custom.Foo(x)  {}  y = Gemm(r, v)", {"v": (8, 4)})
"""u: a tensor whose shape nobody knows; the shape of r is observed."""


@dataclass(frozen=True)
class Case:
    """``expected``: for a firing case `types` of some tensors, for a freezing one "tensor axis: part of the reason"."""

    op: str
    fires: bool
    frame: tuple
    nodes: str
    expected: str
    scaling: str | None = None
    opset: int = 17
    observed: dict = field(default_factory=dict)
    weights: dict = field(default_factory=dict)

    @property
    def id(self):
        return f"{self.op}-{'fires' if self.fires else 'freezes'}"

    def typing(self):
        inputs, frame, weights = self.frame
        body = f"net ({inputs}) => (float[] y) {{ {frame.format(self.nodes)} }}"
        model = net(body, self.opset, 10, **{**weights, **self.weights})
        return infer(Graph(model, observer=lambda *_: self.observed, engine=engine))


def fires(op, frame, nodes, expected, scaling, opset=17, observed=(), **weights):
    return Case(op, True, frame, nodes, expected, scaling, opset, dict(observed), weights)


def freezes(op, frame, nodes, expected, opset=17, observed=(), **weights):
    return Case(op, False, frame, nodes, expected, None, opset, dict(observed), weights)


def unknown(op, nodes=None, opset=17, **weights):
    """The op refuses where the shape of its input is unknown."""
    reason = f"r ({op}) the shape of input 0 is unknown"
    return freezes(op, UNKNOWN, nodes or f"r = {op}(u)", f"r 1: {reason}", opset, {"r": (2, 8)}, **weights)


def types(typing, names):
    """Types of the axes of tensors, free atoms by letter, frozen ones as a dot: ``a: . (A B); w: 1 B+.``."""
    letters = {}

    def show(term, inner=False):
        term = algebra.resolve(term)
        if isinstance(term, algebra.Atom):
            return "." if term.reason else letters.setdefault(term, chr(ord("A") + len(letters)))
        if isinstance(term, algebra.Sum):
            text = "+".join(show(part, True) for part in term.parts)
            return f"({text})" if inner else text
        return f"({' '.join(show(f, True) for f in term.factors)})" if term.factors else "1"

    return "; ".join(f"{name}: {' '.join(show(t) for t in typing.axes[name])}" for name in names)


def reasons(typing, name, axis):
    return [text(a.reason) for a in algebra.atoms(typing.axes[name][axis])]


def scaling_of(typing, op):
    return next(flow.scaling.name for flow in typing.flows if flow.record.node.op == op)
