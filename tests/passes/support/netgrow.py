"""A hypothesis strategy for small random networks, grown op by op from those that have a rule."""

from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st
from netkit import ints, net
from onnx import numpy_helper

ACTIVATIONS = [
    "Relu", "LeakyRelu<alpha=0.2>", "Sigmoid", "HardSwish", "Tanh", "Abs", "Softplus", "Elu", "Neg", "Identity",
    "HardSigmoid",
]  # fmt: skip
BINARY = ["Add", "Sub", "Mul", "Max", "Min", "Mean", "Sum"]


@dataclass
class Growth:
    """A network so far: lines of text, weights, and the tensors (N, C, H, W) that may be read, as name -> (C, H)."""

    draw: st.DrawFn
    lines: list = field(default_factory=list)
    weights: dict = field(default_factory=dict)
    tensors: dict = field(default_factory=dict)
    filters: list = field(default_factory=list)

    def pick(self, options):
        return self.draw(st.sampled_from(list(options)))

    def some(self, low, high):
        return self.draw(st.integers(low, high))

    def fresh(self):
        return f"t{len(self.lines)}"

    def tensor(self):
        """A tensor to go on from, preferably a late one."""
        names = list(self.tensors)
        return self.pick(names[-3:] if self.some(0, 3) else names)

    def line(self, text, *shapes):
        """Add ``text``, in which ``{y}`` (and ``{z}``) name the outputs, of the given (C, H)."""
        names = [f"{self.fresh()}{suffix}" for suffix in ("", "b")[: len(shapes)]]
        self.lines.append(text.format(**dict(zip("yz", names, strict=False))))
        self.tensors.update(zip(names, shapes, strict=True))
        return names[0]

    def weight(self, kind, value):
        name = f"{self.fresh()}_{kind}"
        self.weights[name] = value
        return name


def dense(g):
    x = g.tensor()
    c, h = g.tensors[x]
    o = g.pick([2, 4, 6, 8, 12])
    groups = g.pick([n for n in (1, 1, 2, c) if c % n == 0 and o % n == 0])
    k = g.pick([1, 3])
    w = g.weight("w", (o, c // groups, k, k))
    g.filters.append((w, groups, k))
    bias = f", {g.weight('b', (o,))}" if g.some(0, 1) else ""
    return g.line(f"{{y}} = Conv<group={groups}, pads=[{k // 2},{k // 2},{k // 2},{k // 2}]>({x}, {w}{bias})", (o, h))


def depthwise(g):
    x = g.tensor()
    c, h = g.tensors[x]
    m = g.pick([1, 1, 2])
    w, b = g.weight("w", (c * m, 1, 3, 3)), g.weight("b", (c * m,))
    g.line(f"{{y}} = Conv<group={c}, pads=[1,1,1,1]>({x}, {w}, {b})", (c * m, h))


def shared(g):
    """A convolution with the weights of an earlier one."""
    fits = [
        (x, w, groups, k)
        for w, groups, k in g.filters
        for x, (c, _) in g.tensors.items()
        if c == g.weights[w][1] * groups
    ]
    if fits:
        x, w, groups, k = g.pick(fits)
        pads = f"pads=[{k // 2},{k // 2},{k // 2},{k // 2}]"
        g.line(f"{{y}} = Conv<group={groups}, {pads}>({x}, {w})", (g.weights[w][0], g.tensors[x][1]))


def transposed(g):
    x = g.tensor()
    c, h = g.tensors[x]
    groups = g.pick([n for n in (1, 2) if c % n == 0])
    w = g.weight("w", (c, g.pick([1, 3, 4]), 1, 1))
    g.line(f"{{y}} = ConvTranspose<group={groups}>({x}, {w})", (g.weights[w][1] * groups, h))


def batchnorm(g):
    x = g.tensor()
    c, _ = g.tensors[x]
    parts = ", ".join(g.weight(part, (c,)) for part in ("scale", "bias", "mean", "var"))
    g.line(f"{{y}} = BatchNormalization({x}, {parts})", g.tensors[x])


def activation(g):
    x = g.tensor()
    g.line(f"{{y}} = {g.pick(ACTIVATIONS)}({x})", g.tensors[x])


def prelu(g):
    x = g.tensor()
    g.line(f"{{y}} = PRelu({x}, {g.weight('slope', (g.tensors[x][0], 1, 1))})", g.tensors[x])


def constant(g):
    """Added or multiplied, on the left or on the right."""
    x = g.tensor()
    k = g.weight("k", g.pick([(g.tensors[x][0], 1, 1), (1,), (1, g.tensors[x][0], 1, 1)]))
    operands = [x, k] if g.some(0, 1) else [k, x]
    g.line(f"{{y}} = {g.pick(['Add', 'Mul', 'Sub', 'Max'])}({', '.join(operands)})", g.tensors[x])


def binary(g):
    x = g.tensor()
    z = g.pick([n for n, shape in g.tensors.items() if shape == g.tensors[x]])
    g.line(f"{{y}} = {g.pick(BINARY)}({x}, {z})", g.tensors[x])


def concat(g):
    x = g.tensor()
    height = g.tensors[x][1]
    others = [n for n, (_, h) in g.tensors.items() if h == height]
    names = [x, *(g.pick(others) for _ in range(g.some(1, 2)))]
    channels = sum(g.tensors[n][0] for n in names)
    if channels <= 24:
        g.line(f"{{y}} = Concat<axis=1>({', '.join(names)})", (channels, height))


def split(g):
    x = g.tensor()
    c, h = g.tensors[x]
    if c > 1:
        first = g.some(1, c - 1)
        sizes = g.weight("sizes", ints(first, c - first))
        g.line(f"{{y}}, {{z}} = Split<axis=1>({x}, {sizes})", (first, h), (c - first, h))


def slice_(g):
    x = g.tensor()
    c, h = g.tensors[x]
    low = g.some(0, c - 1)
    high = g.some(low + 1, c)
    bounds = [low, high] if g.some(0, 1) else [low - c, high if high == c else high - c]
    start, end, axis = (g.weight(kind, ints(v)) for kind, v in zip(("from", "to", "axis"), (*bounds, 1), strict=True))
    g.line(f"{{y}} = Slice({x}, {start}, {end}, {axis})", (high - low, h))


def pool(g):
    x = g.tensor()
    kind = g.pick(["MaxPool", "AveragePool", "LpPool"])
    g.line(f"{{y}} = {kind}<kernel_shape=[3,3], pads=[1,1,1,1]>({x})", g.tensors[x])


def shuffle(g):
    x = g.tensor()
    c, h = g.tensors[x]
    groups = g.pick([n for n in (1, 2, 3, 4) if c % n == 0])
    five, four = g.weight("five", ints(-1, groups, c // groups, h, h)), g.weight("four", ints(0, -1, h, h))
    a, b = g.fresh() + "r", g.fresh() + "p"
    g.line(f"{a} = Reshape({x}, {five})  {b} = Transpose<perm=[0,2,1,3,4]>({a})  {{y}} = Reshape({b}, {four})", (c, h))


def gate(g):
    x = g.tensor()
    c, h = g.tensors[x]
    w, b = g.weight("w", (c, c, 1, 1)), g.weight("b", (c,))
    p, q, s = (g.fresh() + suffix for suffix in "pqs")
    text = f"{p} = GlobalAveragePool({x})  {q} = Conv({p}, {w}, {b})  {s} = Sigmoid({q})  {{y}} = Mul({x}, {s})"
    g.line(text, (c, h))


def channels_last(g):
    x = g.tensor()
    c, h = g.tensors[x]
    o = g.pick([3, 4, 8])
    w, b = g.weight("w", (c, o)), g.weight("b", (o,))
    t, m, a = (g.fresh() + suffix for suffix in "tma")
    text = f"{t} = Transpose<perm=[0,2,3,1]>({x})  {m} = MatMul({t}, {w})  {a} = Add({m}, {b})"
    g.line(f"{text}  {{y}} = Transpose<perm=[0,3,1,2]>({a})", (o, h))


def pad(g):
    x = g.tensor()
    c, h = g.tensors[x]
    low, high = g.some(0, 2), g.some(0, 2)
    g.line(f"{{y}} = Pad({x}, {g.weight('pads', ints(0, low, 0, 0, 0, high, 0, 0))})", (c + low + high, h))


def blocks(g):
    x = g.tensor()
    c, h = g.tensors[x]
    if h == 4:
        g.line(f"{{y}} = SpaceToDepth<blocksize=2>({x})", (c * 4, 2))
    elif c % 4 == 0:
        g.line(f'{{y}} = DepthToSpace<blocksize=2, mode="{g.pick(["CRD", "DCR"])}">({x})', (c // 4, 4))


def instance_norm(g):
    x = g.tensor()
    c, _ = g.tensors[x]
    g.line(f"{{y}} = InstanceNormalization({x}, {g.weight('scale', (c,))}, {g.weight('bias', (c,))})", g.tensors[x])


STEPS = [
    dense, dense, dense, depthwise, shared, transposed, batchnorm, activation, activation, prelu, constant, binary,
    binary,
    concat, split, slice_, pool, shuffle, gate, channels_last, pad, blocks, instance_norm,
]  # fmt: skip


def head(g):
    """Join up to three tensors and classify: by global pooling, or flattened."""
    last = list(g.tensors)[-1]
    height = g.tensors[last][1]
    names = [last, *[n for n, (_, h) in g.tensors.items() if h == height and n not in (last, "x")][: g.some(0, 2)]]
    channels = sum(g.tensors[n][0] for n in names)
    g.lines.append(f"j = Concat<axis=1>({', '.join(names)})" if len(names) > 1 else f"j = Identity({last})")
    pooled = g.some(0, 1)
    g.lines.append("p = GlobalAveragePool(j)  f = Flatten(p)" if pooled else "f = Flatten(j)")
    g.weights["out_w"], g.weights["out_b"] = (5, channels * (1 if pooled else height * height)), (5,)
    g.lines.append("y = Gemm<transB=1>(f, out_w, out_b)")


@st.composite
def networks(draw, most=10):
    """A network from ``x`` (N, 3, 4, 4) to ``y`` (N, 5)."""
    g = Growth(draw)
    g.tensors["x"] = (3, 4)
    dense(g)
    for _ in range(draw(st.integers(2, most))):
        g.pick(STEPS)(g)
    head(g)
    body = "net (float[N,3,4,4] x) => (float[N,5] y) {\n  " + "\n  ".join(g.lines) + "\n}"
    used = {k: v for k, v in g.weights.items() if any(k in line for line in g.lines)}
    return net(body, seed=draw(st.integers(0, 99)), **used)


def text(model):
    """What to show of a failing example."""
    weights = "".join(f"\n  {t.name}: {list(t.dims)}" for t in model.graph.initializer)
    return (
        "".join(
            f"\n  {', '.join(n.output)} = {n.op_type}({', '.join(n.input)})"
            + "".join(f" {a.name}={np.array(a.ints or a.i)}" for a in n.attribute)
            for n in model.graph.node
        )
        + weights
    )


@st.composite
def networks_with_copies(draw, most=10):
    """A network in which slices of weights are copies of others, zero, or of one sign; what follows from it, if
    anything, is for the passes to find out."""
    model = draw(networks(most=most))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor).copy()
        if array.dtype != np.float32 or array.ndim == 0:
            continue
        for axis in (0, 1)[: array.ndim]:
            n = array.shape[axis]
            rows = np.moveaxis(array, axis, 0)  # a view
            for _ in range(rng.integers(0, n + 1) if n > 1 else 0):
                i, j = rng.integers(0, n, 2)
                kind = rng.choice(["copy", "copy", "scaled", "scaled", "zero", "positive", "negative"])
                if tensor.name.endswith(("var", "scale")) and kind in ("zero", "negative"):
                    continue
                rows[j] = {
                    "copy": rows[i], "scaled": rows[i] * rng.choice([0.5, 2.0]), "zero": rows[j] * 0,
                    "positive": np.abs(rows[j]), "negative": -np.abs(rows[j]),
                }[kind]  # fmt: skip
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return model
