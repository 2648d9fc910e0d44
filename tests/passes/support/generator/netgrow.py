"""A hypothesis strategy for small random networks, grown op by op from those that have a rule."""

from dataclasses import dataclass

import netgrow_layout  # noqa: F401  (each module adds its growers to the table)
import netgrow_linear  # noqa: F401
import netgrow_norm  # noqa: F401
import netgrow_parts  # noqa: F401
import netgrow_pool  # noqa: F401
import netgrow_sampling  # noqa: F401
import netgrow_sequence  # noqa: F401
import numpy as np
import onnx
from hypothesis import strategies as st
from netgrow_blocks import BLOCKS
from netgrow_core import Growth, Tensor
from netgrow_kinds import convolution, flattened, linear
from netgrow_reference import inputs_of, run
from netgrow_table import DTYPES, GROWERS, OFTEN, fits
from netkit import check, net, random_weight
from onnx import numpy_helper

from passes.axes.registry import rules

OPSETS = (9, 13, 18, 24)
OPS = sorted(op for op in GROWERS if ("", op) in rules())
BLOCKS_OFTEN = 2.0
INPUTS = [(3, 4, 4), (3, 4, 4), (4, 2, 2), (3, 8), (2, 2, 2, 2)]
WORDS = 7
TOKENS = [(5, 6), (4, 4), (2, 2, 3)]


@dataclass(frozen=True)
class Network:
    """``text``: the model as ONNX text; ``precision``: float or double; ``grown``: ops and blocks that were drawn."""

    model: onnx.ModelProto
    text: str
    precision: str
    grown: tuple[str, ...]

    def __repr__(self):
        inputs = [(v.name, v.type.tensor_type.shape.dim) for v in self.model.graph.input]
        sizes = [f"{name}={[d.dim_param or d.dim_value for d in dims]}" for name, dims in inputs]
        sizes += [f"{t.name}={list(t.dims)}" for t in self.model.graph.initializer]
        return f"opset {self.model.opset_import[0].version}: {self.text}\n  {', '.join(sizes)}\n"

    def _repr_pretty_(self, printer, cycle):
        printer.text(repr(self))

    @property
    def loose(self):
        """Whether sizes besides the batch are not known beforehand."""
        return any(d.dim_param[:1] == "S" for v in self.model.graph.input for d in v.type.tensor_type.shape.dim)

    @property
    def ops(self):
        return {node.op_type for node in self.model.graph.node}


@st.composite
def networks(draw, ops=OPS, most=8):
    """A network that has one of ``ops`` and up to ``most`` steps besides, from ``x`` to ``y`` (N, 5)."""
    op = draw(st.sampled_from(ops))
    forms = [(n, kind) for kind in ("double", "double", "float") for n in OPSETS if fits(op, n, kind)]
    opset, precision = draw(st.sampled_from(forms))
    g = Growth(draw, opset, precision, draw(st.sampled_from(["N", "N", 2])), loose=draw(st.integers(0, 3)) == 3)
    inputs = [begin(g, f"x{k}") for k in range(1 if g.some(0, 3) else 2)]
    steps = draw(st.lists(st.sampled_from(choices(opset, precision)), max_size=most))
    at = draw(st.integers(0, len(steps)))
    for step in (*steps[:at], op, *steps[at:]):
        if step in BLOCKS:
            BLOCKS[step](g)
        else:
            GROWERS[step](g, step)
    outputs = end(g)
    text, weights = written(g, inputs, outputs)
    seed = draw(st.integers(0, 99))
    arrays = {n: _array(n, value, seed, DTYPES[precision]) for n, value in weights.items()}
    model = net(text, opset, 10, **arrays)
    return Network((loosened(model, precision) if g.loose else None) or model, text, precision, (op, *steps))


def loosened(model, precision):
    """``model``, of whose places one size is not known beforehand, where it can be run like that."""
    loose = onnx.ModelProto.FromString(model.SerializeToString())
    for value in loose.graph.input:
        for dim in list(value.type.tensor_type.shape.dim)[2:3]:
            dim.dim_param = f"S{dim.dim_value}"
    for value in loose.graph.output:
        for dim in list(value.type.tensor_type.shape.dim)[2:]:
            dim.Clear()
    try:
        check(loose)
        for more in (2, 60):
            run(loose, precision, inputs_of(loose, 2, more))
    except Exception:  # of whatever kind: some op does not take other sizes
        return None
    return loose


def _array(name, value, seed, dtype):
    return value if isinstance(value, np.ndarray) else np.asarray(random_weight(name, value, seed), dtype)


def choices(opset, precision):
    """What a step may be, repeated by how often it is to come up."""
    often = {op: OFTEN[op] for op in OPS if fits(op, opset, precision)}
    often |= dict.fromkeys(BLOCKS, BLOCKS_OFTEN)
    return [name for name, n in often.items() for _ in range(round(10 * n) or 1)]


def begin(g, name):
    """An input, and the first layer, of which the rest of the network grows."""
    last, o = g.chance(4), g.pick([4, 6, 8, 12])
    x = Tensor(name, g.pick(TOKENS if last else [(6,), *INPUTS]), last)
    if last and g.chance(3):  # numbers of words
        x = Tensor(name, x.places)
        g.keep(g.add("Gather", g.weight(WORDS, o), x), [*x.shape, o], last=True)
        return x
    if x.last or not x.places:
        g.like(linear(g, x, o), x, o)
    else:
        g.like(convolution(g, x, o, kernel=g.pick([1, 3])), x, o)
    return x


def loose_ends(g):
    """What nothing reads yet, or the last tensors; and what a layer gives that reads the first of them, or nothing."""
    loose = (g.ends() or g.tensors)[-6:]
    outputs = []
    if loose[0].places and g.chance(4):
        x = loose[0]
        y = linear(g, x, 5) if x.last else convolution(g, x, 5)
        outputs.append(g.like(y, x, 5))
    return loose, outputs


def end(g):
    """What nothing reads yet, and the last tensor of all, is read by a last layer; some of it by one of its own."""
    loose, outputs = loose_ends(g)
    rows = [flattened(g, x) for x in loose]
    if len(rows) > 1 and not g.chance(3):
        y = g.add("Sum", *(linear(g, x, 5) for x in rows))
        return [Tensor(y, (5,)), *outputs]
    x = Tensor(g.add("Concat", *rows, axis=1), [sum(r.features for r in rows)]) if len(rows) > 1 else rows[0]
    y = linear(g, x, 5) if g.chance(2) else g.add("Gemm", x, g.weight(5, x.features), g.weight(5), transB=1)
    return [Tensor(y, (5,)), *outputs]


def written(g, inputs, outputs):
    """The text of the network and the weights it reads, without what leads to no output."""
    read, kept = {t.name for t in outputs}, []
    for line in reversed(g.lines):
        if read & {*line.outputs}:
            read |= {*line.inputs}
            kept.append(f"\n  {line}")

    def values(tensors):
        words = {line.inputs[1] for line in g.lines if line.op == "Gather"}
        kinds = ["int64" if t.name in words else g.precision for t in tensors]
        listed = zip(kinds, tensors, strict=True)
        return ", ".join(f"{kind}[{', '.join(map(str, (g.batch, *t.shape)))}] {t}" for kind, t in listed)

    weights = {name: value for name, value in g.weights.items() if name in read}
    return f"net ({values(inputs)}) => ({values(outputs)}) {{{''.join(reversed(kept))}\n}}", weights


@st.composite
def networks_with_copies(draw, most=8):
    """A network in which slices of weights are copies of others, zero, or of one sign; what follows from it, if
    anything, is for the passes to find out."""
    network = draw(networks(most=most))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    for tensor in network.model.graph.initializer:
        array = numpy_helper.to_array(tensor).copy()
        if array.dtype != DTYPES[network.precision] or array.ndim == 0 or tensor.name.endswith("k"):
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
    return network
