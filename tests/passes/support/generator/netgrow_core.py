"""The state of a growing random network: readable tensors, lines of ONNX text, weights."""

from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st
from netgrow_table import DTYPES, schema
from netkit import ints


@dataclass(frozen=True)
class Tensor:
    """``shape``: without the batch; ``last``: whether the features stand on the last axis rather than on the one behind
    the batch; ``degree``: how many activations are multiplied in it at most."""

    name: str
    shape: tuple[int, ...]
    last: bool = False
    degree: int = 1

    def __str__(self):
        return self.name

    @property
    def features(self):
        return self.shape[-1 if self.last else 0]

    @property
    def places(self):
        """Sizes of the axes that are neither batch nor features."""
        return self.shape[:-1] if self.last else self.shape[1:]

    @property
    def axis(self):
        """Where the features stand, the batch counted."""
        return len(self.shape) if self.last else 1

    @property
    def others(self):
        """Axes that are neither batch nor features."""
        return [a for a in range(1, len(self.shape) + 1) if a != self.axis]


@dataclass(frozen=True)
class Line:
    """One node as text."""

    outputs: tuple[str, ...]
    op: str
    attributes: str
    inputs: tuple[str, ...]

    def __str__(self):
        return f"{', '.join(self.outputs)} = {self.op}{self.attributes}({', '.join(self.inputs)})"


class Growth:
    """A network so far. ``loose``: whether sizes of places are computed, not written down, where that can be;
    ``filters``: (weight, groups) of convolutions."""

    def __init__(self, draw, opset, precision, batch, loose=False):
        self.draw, self.opset, self.precision, self.batch, self.loose = draw, opset, precision, batch, loose
        self.lines, self.weights, self.tensors, self.filters = [], {}, [], []

    def pick(self, options):
        return self.draw(st.sampled_from(list(options)))

    def some(self, low, high):
        return self.draw(st.integers(low, high))

    def chance(self, n):
        """True once in ``n`` times."""
        return self.some(1, n) == n

    def tensor(self, fits=lambda t: True):
        """A tensor to go on from, preferably a late one; nothing if none fits."""
        found = [t for t in self.tensors if fits(t)]
        return self.pick(found if self.chance(4) else found[-3:]) if found else None

    def ends(self):
        """Tensors that nothing reads."""
        read = {name for line in self.lines for name in line.inputs}
        return [t for t in self.tensors if t.name not in read]

    def add(self, op, *inputs, outputs=1, **parameters):
        """A node; ``parameters`` are attributes, or constant inputs where this opset has them so. Name(s) of its
        outputs."""
        definition = schema(op, self.opset)
        places = {formal.name: k for k, formal in enumerate(definition.inputs)}
        operands, attributes = ["" if x is None else str(x) for x in inputs], []
        for name, value in parameters.items():
            if name in definition.attributes:
                attributes.append(f"{name}={_literal(value)}")
            elif value is not None:
                operands += [""] * (places[name] + 1 - len(operands))
                operands[places[name]] = self.ints(*value) if isinstance(value, list) else self.scalar(value)
        names = [f"t{len(self.lines)}{'abcdef'[k] if outputs > 1 else ''}" for k in range(outputs)]
        listed = f"<{', '.join(attributes)}>" if attributes else ""
        self.lines.append(Line(tuple(names), op, listed, tuple(operands)))
        return names if outputs > 1 else names[0]

    def keep(self, name, shape, last=False, degree=1):
        """Let the tensor ``name`` be read by others."""
        tensor = Tensor(name, tuple(shape), last and len(shape) > 1, degree)
        self.tensors.append(tensor)
        return tensor

    def like(self, name, x, features=None, places=None, degree=None):
        """`keep` with the layout of ``x``."""
        features, places = x.features if features is None else features, x.places if places is None else tuple(places)
        shape = (*places, features) if x.last else (features, *places)
        return self.keep(name, shape, x.last, x.degree if degree is None else degree)

    def tame(self, x):
        """``x``, or where many activations are multiplied already, something bounded in its place."""
        return x if x.degree <= 2 else replace(x, name=self.add("Tanh", x), degree=1)

    def weight(self, *shape, kind="w"):
        """Kinds: ``s`` for a scale about one, ``v`` for a positive one, any other for numbers of either sign; now and
        then one that another node has already."""
        kind += {"s": "_scale", "v": "_var"}.get(kind, "")
        like = [n for n in self.weights if n.endswith(kind)]
        found = [n for n in like if isinstance(self.weights[n], tuple) and self.weights[n] == shape]
        return self.pick(found) if found and self.chance(8) else self._constant(kind, shape)

    def array(self, value):
        return self._constant("k", np.asarray(value))

    def scalar(self, value):
        return self.array(np.asarray(value, DTYPES[self.precision]))

    def ints(self, *values):
        """A list of integers, now and then as a Constant node, or one that another node has already."""
        if self.chance(8):
            return self.add("Constant", value=ints(*values))
        found = [n for n, k in self.weights.items() if getattr(k, "dtype", 0) == np.int64 and k.tolist() == [*values]]
        return self.pick(found) if found and self.chance(2) else self.array(ints(*values))

    def _constant(self, kind, value):
        name = f"c{len(self.weights)}{kind}"
        self.weights[name] = value
        return name

    def along(self, x, kind="w"):
        """One weight for each feature of ``x``, shaped to broadcast to it."""
        return self.weight(x.features, *([1] * (0 if x.last else len(x.places))), kind=kind)

    def size(self, x, axis):
        """A list of one integer, computed: how long axis ``axis`` of ``x`` is, 0 being the batch."""
        if self.opset >= 15 and self.chance(2):
            return self.add("Shape", x, start=axis, end=axis + 1)
        shape = self.add("Shape", x)
        if self.chance(2):
            return self.add("Slice", shape, starts=[axis], ends=[axis + 1], axes=[0])
        return self.add("Unsqueeze", self.add("Gather", shape, self.array(axis), axis=0), axes=[0])

    def target(self, x, *entries, exact=False, zero=True):
        """A shape as a list of integers, the batch first. Entries: integers, or ``"a1"`` for the size of axis 1 of
        ``x``. Written down, or computed from sizes; without 0 and -1 if ``exact``, without 0 unless ``zero``."""
        sizes = [x.shape[int(e[1:]) - 1] if isinstance(e, str) else e for e in entries]
        if not (self.loose or exact and self.batch == "N" or self.chance(3)):
            values = [self.batch if exact or self.batch != "N" else self.pick([-1, 0] if zero else [-1]), *sizes]
            if -1 not in values and not exact and sizes and self.chance(3):
                values[self.some(1, len(sizes))] = -1
            return self.ints(*values)
        parts = [self.size(x, 0)]
        for entry, n in zip(entries, sizes, strict=True):
            computed = isinstance(entry, str) and (self.loose or self.chance(2))
            parts.append(self.size(x, int(entry[1:])) if computed else self.ints(n))
        return self.add("Concat", *parts, axis=0)

    def reshape(self, x, *entries):
        return self.add("Reshape", x, self.target(x, *entries))


def _literal(value):
    """An attribute as text."""
    if isinstance(value, np.ndarray):
        kind = {np.dtype(np.int64): "int64", np.dtype(np.float32): "float", np.dtype(np.float64): "double"}[value.dtype]
        return f"{kind}[{', '.join(map(str, value.shape))}] {{{', '.join(map(str, value.ravel()))}}}"
    return f'"{value}"' if isinstance(value, str) else str(value).replace("'", '"')
