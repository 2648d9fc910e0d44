"""Growers of ops that join, cut, pick and repeat."""

from math import prod

import numpy as np
from netgrow_kinds import flat
from netgrow_pointwise import degree
from netgrow_table import grows


@grows("Concat", often=5)
def concat(g, op):
    """Features beside features, or places beside places; a constant among them where the batch is known."""
    x = g.tensor()
    if x.places and g.chance(4):
        axis = g.pick(x.others)
        joins = g.tensor(lambda t: t.last == x.last and t.shape == x.shape)
        places = [2 * n if a == axis else n for a, n in zip(x.others, x.places, strict=True)]
        return g.like(g.add(op, x, joins, axis=axis), x, places=places, degree=degree(x, joins))
    parts = [x]
    for _ in range(g.some(1, 2)):
        part = g.tensor(lambda t: t.last == x.last and t.places == x.places)
        if sum(p.features for p in parts) + part.features <= 24:
            parts.append(part)
    features, names = sum(p.features for p in parts), [p.name for p in parts]
    if g.batch != "N" and g.chance(3):
        shape = [3, *x.places] if not x.last else [*x.places, 3]
        names.insert(g.some(0, len(names)), g.weight(g.batch, *shape))
        features += 3
    axis = x.axis - (len(x.shape) + 1) * g.some(0, 1)
    return g.like(g.add(op, *names, axis=axis), x, features, degree=max(p.degree for p in parts))


@grows("Split", often=4)
def split(g, op):
    """Of features into two or three parts, equal or not; or of places."""
    x = g.tensor(lambda t: t.features > 1) or flat(g)
    c = x.features
    if x.places and g.chance(5):
        axis = g.pick(x.others)
        sizes = [x.shape[axis - 1]] if x.shape[axis - 1] == 1 else [1, x.shape[axis - 1] - 1]
    else:
        cut = g.some(1, c - 1)
        axis, sizes = x.axis, g.pick([[cut, c - cut], [1, *[c - 2] * (c > 2), 1]] + [[c // 2] * 2] * 2 * (c % 2 == 0))
    equal = len({*sizes}) == 1 and g.chance(2)
    how = (dict(num_outputs=len(sizes)) if g.opset >= 18 else {}) if equal else dict(split=sizes)
    names = g.add(op, x, outputs=len(sizes), axis=axis - (len(x.shape) + 1) * g.some(0, 1), **how)
    for name, n in zip([names] if len(sizes) == 1 else names, sizes, strict=True):
        places = [n if a == axis else m for a, m in zip(x.others, x.places, strict=True)]
        g.like(name, x, n if axis == x.axis else c, places)


@grows("Slice", often=3)
def slice_(g, op):
    """Of features or places; bounds count from either end; a step now and then."""
    x = g.tensor()
    axis = g.pick([x.axis, x.axis, *x.others])
    n = x.shape[axis - 1]
    step = g.pick([1, 1, 1, 1, 2, -1]) if g.opset >= 10 else 1
    low = g.some(0, n - 1)
    high = g.some(low + 1, n)
    start, end = (low if g.chance(2) else low - n), (high if high == n or g.chance(2) else high - n)
    end = g.pick([n, 2**31]) if high == n else end
    if step == -1:
        start, end, size = -1, -(2**31), n
    else:
        size = -(-(high - low) // step)
    signed = axis - (len(x.shape) + 1) * g.some(0, 1)
    y = g.add(op, x, starts=[start], ends=[end], axes=[signed], **(dict(steps=[step]) if step != 1 else {}))
    g.keep(y, [size if a == axis else m for a, m in enumerate(x.shape, 1)], x.last, x.degree)


@grows("Gather", often=2)
def gather(g, op):
    """Places, one or several; or features by a list."""
    x = g.tensor()
    axis = g.pick([*x.others * 3, x.axis])
    n = x.shape[axis - 1]
    if axis != x.axis and g.chance(2):
        y = g.add(op, x, g.array(g.some(-n if g.opset >= 11 else 0, n - 1)), axis=axis)
        return g.like(y, x, places=[m for a, m in zip(x.others, x.places, strict=True) if a != axis])
    chosen = [g.some(0, n - 1) for _ in range(g.some(1, 4))]
    shape = [len(chosen) if a == axis else m for a, m in enumerate(x.shape, 1)]
    return g.keep(g.add(op, x, g.ints(*chosen), axis=axis), shape, x.last, x.degree)


@grows("GatherElements", often=0.5)
def gather_elements(g, op):
    """For each place its own; the batch takes part, so that it must be known or be spread."""
    x = g.tensor()
    axis = g.pick([*x.others * 3, x.axis])
    shape = [g.some(1, 3) if a == axis else n for a, n in enumerate(x.shape, 1)]
    chosen = g.array(np.random.default_rng(len(g.lines)).integers(0, x.shape[axis - 1], (1, *shape)))
    y = g.add(op, x, g.add("Expand", chosen, g.target(x, *shape, exact=True)), axis=axis)
    return g.keep(y, shape, x.last, x.degree)


@grows("Tile", often=1)
def tile(g, op):
    x = g.tensor()
    axis = g.pick([x.axis, *x.others])
    n = 2 if prod(x.shape) <= 64 else 1
    repeats = [n if a == axis else 1 for a in range(len(x.shape) + 1)]
    return g.keep(
        g.add(op, x, g.ints(*repeats)), [m * r for m, r in zip(x.shape, repeats[1:], strict=True)], x.last, x.degree
    )
