"""Growers of recurrent layers, attention as one op, and ops that depend on the order along an axis."""

import numpy as np
from netgrow_kinds import apart, image, joined, linear, tokens
from netgrow_table import DTYPES, TO, grows

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


@grows("RNN", "GRU", "LSTM", often=3)
def recurrent(g, op):
    """All states, or the last one; in one direction or, where the reference can follow, in two."""
    x = tokens(g, 1)
    h, gates = g.pick([3, 4, 6]), GATES[op]
    both = g.precision == "float" and g.chance(3)
    d = 2 if both else 1
    inputs = [g.weight(d, gates * h, x.features), g.weight(d, gates * h, h)]
    inputs += [g.weight(d, 2 * gates * h, kind="b")] if (biased := g.chance(2)) else []
    if g.chance(4):  # a first state
        sizes = g.add("Concat", g.ints(d), g.size(x, 0), g.ints(h), axis=0)
        inputs += [None] * (1 if biased else 2) + [g.add("Expand", g.weight(d, 1, h), sizes)]
    how = dict(hidden_size=h, direction="bidirectional" if both else g.pick(["forward", "reverse"]))
    how |= dict(linear_before_reset=g.some(0, 1)) if op == "GRU" else {}
    states, last = g.add(op, g.add("Transpose", x, perm=[1, 0, 2]), *inputs, outputs=2, **how)
    if both:
        y = g.add("Reshape", g.add("Transpose", states, perm=[2, 0, 1, 3]), g.target(x, "a1", 2 * h))
        return g.keep(y, [*x.places, 2 * h], last=True)
    if g.chance(3):
        return g.keep(g.add("Squeeze", last, axes=[0]), [h])
    y = g.add("Transpose", g.add("Squeeze", states, axes=[1]), perm=[1, 0, 2])
    return g.keep(y, [*x.places, h], last=True)


@grows("Attention", often=1.5)
def attention(g, op):
    """Heads in one axis or in an axis of their own; as many of keys and values as of queries, or fewer."""
    x = tokens(g, 1)
    queries, heads = g.pick([(2, 2), (4, 2), (2, 1), (3, 3)])
    width, value = g.pick([2, 4]), g.pick([2, 3])
    q, k, v = (linear(g, x, n) for n in (queries * width, heads * width, heads * value))
    if g.chance(2):
        y = g.add(op, q, k, v, q_num_heads=queries, kv_num_heads=heads)
    else:
        layout = ((q, queries, width), (k, heads, width), (v, heads, value))
        return joined(g, x, g.add(op, *(apart(g, x, *each) for each in layout)), queries, value)
    return g.keep(y, [*x.places, queries * value], last=True)


@grows("RotaryEmbedding", often=1)
def rotary(g, op):
    x = tokens(g, 1)
    heads, half = g.pick([2, 3]), g.pick([1, 2])
    y, t = linear(g, x, 2 * heads * half), x.places[0]
    positions = g.add("Expand", g.array(np.arange(t).reshape(1, t)), g.target(x, "a1", exact=True))
    angles = np.arange(t)[:, None] / (1 + np.arange(half))
    tables = [g.array(f(angles).astype(DTYPES[g.precision])) for f in (np.cos, np.sin)]
    y = g.add(op, y, *tables, positions, num_heads=heads, interleaved=g.some(0, 1))
    return g.keep(y, [t, 2 * heads * half], last=True)


@grows("CumSum", "Trilu", "TopK", often=1.5)
def ordered(g, op):
    x = g.tensor(lambda t: t.places) or image(g)
    axis = g.pick([*x.others, *x.others, x.axis])
    if op == "Trilu":
        return g.like(g.add(op, x, upper=g.some(0, 1)), x)
    if op == "CumSum":
        return g.like(g.add(op, x, g.array(axis - (len(x.shape) + 1) * g.some(0, 1))), x)
    n = g.some(1, x.shape[axis - 1])
    values, places = g.add(op, x, g.ints(n), outputs=2, axis=axis - (len(x.shape) + 1) * g.some(0, 1))
    shape = [n if a == axis else m for a, m in enumerate(x.shape, 1)]
    y = g.add("Add", values, g.add("Cast", places, to=TO[g.precision])) if g.precision == "double" else values
    return g.keep(y, shape, x.last, x.degree)


@grows("DFT", often=0.5)
def fourier(g, op):
    """Over the places of a signal, of which the real part stays, as in FNet (Lee-Thorp et al., NAACL 2022)."""
    x = g.tensor(lambda t: t.places) or tokens(g)
    axis, last = g.pick(x.others), len(x.shape) + 1
    y = g.add(op, g.add("Unsqueeze", x, axes=[last]), **({"axis": axis} if g.opset < 20 else {}))
    g.like(g.add("Gather", y, g.array(np.array(0)), axis=last), x)


@grows("ReverseSequence", often=0.5)
def turned(g, op):
    x = g.tensor(lambda t: t.places) or tokens(g)
    lengths = g.add("Expand", g.ints(g.some(1, x.shape[0])), g.size(x, 0))
    g.like(g.add(op, x, lengths, batch_axis=0, time_axis=1), x)
