"""Growers of If, Loop and Scan, of recurrent layers with computed states, and of integer inputs."""

import numpy as np
from diff_growth import wide
from netgrow_core import Tensor, _literal
from netgrow_kinds import flat, tokens
from netgrow_table import DTYPES
from netkit import random_weight

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def constant(g, name, *shape):
    """A line of a body that makes a weight of its own."""
    array = np.asarray(random_weight(name, shape, len(g.lines)), DTYPES[g.precision])
    return f"{name} = Constant<value = {_literal(array)}>()"


@wide(11)
def branches(g):
    """Layers of its own in each branch, or weights of the outer graph; the flag is read off a size."""
    x = flat(g)
    o, n = g.pick([4, 6]), len(g.lines)
    kind, dims = g.precision, f"I{n}a, I{n}b"
    two = g.array(np.array(2))
    condition = (
        g.add("Equal", g.add("Mod", g.add("Gather", g.add("Shape", x), g.array(np.array(0))), two), two)
        if (g.chance(2))
        else g.add("Less", g.add("Gather", g.add("Shape", x), g.array(np.array(0))), g.array(np.array(3)))
    )
    inner = g.pick([4, 6])
    captured = [x.name]

    def branch(side):
        p = f"{side}{n}"
        if g.chance(2):
            w, v = g.weight(x.features, inner), g.weight(inner, o)
            captured.extend([w, v])
            lines = ""
        else:
            w, v = f"{p}w", f"{p}v"
            lines = f"{constant(g, w, x.features, inner)} {constant(g, v, inner, o)} "
        lines += f"{p}a = MatMul({x}, {w}) {p}b = {g.pick(['Relu', 'Tanh'])}({p}a) {p}y = MatMul({p}b, {v})"
        return f"{p} () => ({kind}[{dims}] {p}y) {{ {lines} }}"

    text = f"<then_branch = {branch('yes')}, else_branch = {branch('no')}>"
    (y,) = g.body("If", text, [condition], 1, captured)
    return g.keep(y, [o])


@wide(11)
def looped(g):
    """A layer three times over, with what stays the same added from outside."""
    x = flat(g)
    n, c = len(g.lines), x.features
    kind, dims = g.precision, f"L{n}a, L{n}b"
    captured = []
    if g.chance(2):
        w = g.weight(c, c)
        captured.append(w)
        lines = ""
    else:
        w = f"l{n}w"
        lines = constant(g, w, c, c) + " "
    lines += f"l{n}more = Identity(l{n}go) l{n}m = MatMul(l{n}h, {w}) "
    if g.chance(2):
        captured.append(x.name)
        lines += f"l{n}s = Add(l{n}m, {x}) l{n}next = Tanh(l{n}s)"
    else:
        lines += f"l{n}next = Tanh(l{n}m)"
    text = (
        f"<body = step{n} (int64 l{n}i, bool l{n}go, {kind}[{dims}] l{n}h) => (bool l{n}more, {kind}[{dims}] l{n}next) "
        f"{{ {lines} }}>"
    )
    three, always = g.array(np.array(3)), g.array(np.array(True))
    (y,) = g.body("Loop", text, [three, always, x], 1, captured)
    return g.keep(y, [c])


@wide(11)
def scanned(g):
    """A recurrent layer written as Scan over the places of tokens."""
    x = tokens(g, 1)
    n, c = len(g.lines), x.features
    kind, dims = g.precision, f"S{n}a, S{n}b"
    rows = g.add("Transpose", x, perm=[1, 0, 2])
    state = g.add("ReduceMean", rows, axes=[0], keepdims=0)
    w = g.weight(c, c)
    text = (
        f"<num_scan_inputs = 1, body = step{n} ({kind}[{dims}] s{n}h, {kind}[{dims}] s{n}r) => "
        f"({kind}[{dims}] s{n}next, {kind}[{dims}] s{n}out) {{ s{n}m = MatMul(s{n}h, {w}) s{n}s = Add(s{n}m, s{n}r) "
        f"s{n}next = Tanh(s{n}s) s{n}out = Identity(s{n}next) }}>"
    )
    last, every = g.body("Scan", text, [state, rows], 2, [w])
    if g.chance(2):
        return g.keep(last, [c])
    return g.keep(g.add("Transpose", every, perm=[1, 0, 2]), x.shape, last=True)


@wide(9)
def zero_states(g):
    """A recurrent layer whose first states are filled to the size of the batch."""
    x = tokens(g, 1)
    op = g.pick(["LSTM", "LSTM", "GRU", "RNN"])
    h, gates = g.pick([4, 6]), GATES[op]
    d = 2 if g.precision == "float" and g.chance(2) else 1
    rows = g.add("Transpose", x, perm=[1, 0, 2])
    inputs = [g.weight(d, gates * h, x.features), g.weight(d, gates * h, h), g.weight(d, 2 * gates * h, kind="b"), None]
    dtype = DTYPES[g.precision]

    def state():
        batch = g.add("Gather", g.add("Shape", x), g.array(np.array(0)), axis=0)
        shape = g.add("Concat", g.ints(d), g.add("Unsqueeze", batch, axes=[0]), g.ints(h), axis=0)
        if g.chance(3):
            return g.add("Expand", g.weight(d, 1, h), shape)
        return g.add("ConstantOfShape", shape, value=np.array([0.0], dtype))

    first = state()
    inputs += [first, first if g.chance(2) else state()] if op == "LSTM" else [first]
    how = dict(hidden_size=h, direction="bidirectional" if d == 2 else "forward")
    states, last = g.add(op, rows, *inputs, outputs=2, **how)
    if g.chance(3):
        y = g.add("Reshape", g.add("Transpose", last, perm=[1, 0, 2]), g.ints(-1, d * h))
        return g.keep(y, [d * h])
    t = g.add("Transpose", states, perm=[2, 0, 1, 3])
    y = g.add("Reshape", t, g.ints(0, 0, -1) if g.chance(2) else g.target(x, "a1", d * h))
    return g.keep(y, [*x.places, d * h], last=True)


def whole_numbers(g, name):
    """An input of whole numbers, made into features: by Equal, as a picture, or by a table."""
    c, way = g.pick([4, 6, 8]), g.pick(["equal", "picture", "table"])
    if way == "picture":
        x = Tensor(name, (3, 4, 4))
        f = Tensor(g.add("Mul", g.add("Cast", name, to=1 if g.precision == "float" else 11), g.scalar(0.5)), (3, 4, 4))
        g.keep(g.add("Conv", f, g.weight(c, 3, 3, 3), g.weight(c, kind="b"), pads=[1, 1, 1, 1]), [c, 4, 4])
        return x
    x = Tensor(name, (5,))
    if way == "table" or g.opset < 11:
        g.keep(g.add("Gather", g.weight(7, c), name), [5, c], last=True)
        return x
    k = g.array(np.arange(7).reshape(1, 1, 7))
    hot = g.add("Cast", g.add("Equal", g.add("Unsqueeze", name, axes=[2]), k), to=1 if g.precision == "float" else 11)
    g.keep(g.add("MatMul", hot, g.weight(7, c)), [5, c], last=True)
    return x
