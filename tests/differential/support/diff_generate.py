"""Generates a graph from one integer, and the sizes at which it runs."""

import random
from dataclasses import dataclass

import diff_bodies
import diff_constants  # noqa: F401  (each module adds its growers to the table)
import diff_sizes  # noqa: F401
import numpy as np
import onnx
from diff_deal import hand
from diff_growth import WIDE, SeededGrowth, can, chain
from diff_ort import FAILURES, copied, dynamic_dims, ends_the_process, feeds, required, start
from diff_places import BATCH_KNOWN, HOLDING, SELDOM
from diff_twists import twisted
from netgrow import INPUTS, TOKENS, WORDS, loose_ends
from netgrow_blocks import BLOCKS
from netgrow_core import Tensor
from netgrow_kinds import convolution, flattened, linear
from netgrow_table import DTYPES, GROWERS, OFTEN
from netkit import net, random_weight

OPSETS = range(7, 25)
OPS = sorted(GROWERS)
ATTEMPTS = 40
DOUBLE = 0.08
"""Share of graphs that are tried in float64, for which onnxruntime has no convolution."""
LARGEST = 200_000
"""Numbers in one tensor, at most; graphs whose sizes explode are drawn anew."""
SUITE = 40
"""Graphs of the normal suite."""
LAYERS = {"Conv", "ConvTranspose", "Gemm", "MatMul", "Flatten", "Constant"}
"""Ops that chains do without, which have layers anyhow."""


def _copies(op):
    """The fewer opsets have an op, the more cards there are of it."""
    there = sum(can(op, n, "float") for n in OPSETS)
    return min(3, round(len(OPSETS) / there))


HOLDERS = (*SELDOM, *(op for op in HOLDING for _ in range(_copies(op))))
"""Cards of which each graph has the first, and up to three others where its opset has them."""
COMMON = tuple(op for op in OPS if op not in LAYERS and op not in HOLDING for _ in range(_copies(op)))
"""Cards of the ops in a chain, which do not take channels to pieces."""


@dataclass(frozen=True)
class Case:
    """``sizes``: up to three assignments of the dynamic dimensions at which the original runs, none if it has none;
    ``grown``: steps drawn; ``twists``: what was made of it then."""

    seed: int
    model: onnx.ModelProto
    sizes: tuple[dict[str, int], ...]
    grown: tuple[str, ...]
    twists: tuple[str, ...]

    @property
    def overridable(self):
        """Names of inputs with a default; none where every initializer is an input, which is a habit of exporters."""
        if "all inputs" in self.twists:
            return []
        inputs = {v.name for v in self.model.graph.input}
        return [t.name for t in self.model.graph.initializer if t.name in inputs]


def generate(seed: int) -> Case:
    """The graph of a seed."""
    for attempt in range(ATTEMPTS):
        rng = random.Random(f"{seed}:{attempt}")
        found = _grown(rng, seed)
        if found is not None:
            return found
    raise AssertionError(f"seed {seed} gives no model that runs")


def _grown(rng, seed):
    first, *others = hand(seed, HOLDERS, 5)
    precision = "double" if rng.random() < DOUBLE else "float"
    forms = [n for n in OPSETS if can(first, n, precision)]
    if not forms:
        return None
    opset = rng.choice(forms)
    g = SeededGrowth(
        rng, opset, precision, 2 if first in BATCH_KNOWN else rng.choice(["N", "N", "N", 2]), rng.random() < 0.5
    )
    integers = []
    try:
        inputs = [_begin(g, f"x{k}", integers) for k in range(2 if g.chance(5) else 1)]
    except Exception:  # of whatever kind: the op that begins has no such form in this opset
        return None
    steps = _others(rng, opset, precision)
    steps += ["batch_norm_by_position"] * (opset <= 8)
    rng.shuffle(steps)
    grown = [step for step in steps if g.step(step)]
    row = [op for op in hand(seed, COMMON, 8) if can(op, opset, precision)]
    row[rng.randrange(len(row) + 1) // 2 * 2 : 0] = [first]
    row += [op for op in others if can(op, opset, precision) and (op not in BATCH_KNOWN or g.batch != "N")][:3]
    try:
        grown = (*grown, *chain(g, row))
    except Exception:  # of whatever kind: as below
        return None
    if first not in grown or not g.lines:
        return None
    try:
        outputs = _end(g)
        model = _written(g, inputs, outputs, integers, rng.randrange(100))
    except Exception:  # of whatever kind: as above
        return None
    sizes = _nominal(model)
    if not _runs(model, sizes):
        return None
    model = _loosened(model, rng)

    def runs(other):
        try:
            return _runs(other, _nominal(other))
        except FAILURES:
            return False

    model, twists = twisted(model, rng, runs)
    sizes = _assignments(model, rng)
    return Case(seed, model, tuple(sizes), grown, twists) if sizes else None


def _others(rng, opset, precision):
    """Steps besides a chain: some wide ones, some common ops."""
    wide = [name for name in WIDE if can(name, opset, precision)]
    common = [op for op in OPS if can(op, opset, precision) and OFTEN[op] >= 1] + list(BLOCKS)
    return rng.choices(wide, k=rng.choice([0, 1, 1, 2])) + rng.choices(common, k=rng.choice([0, 1, 2]))


def _begin(g, name, integers):
    """An input, and the first layer."""
    if g.chance(8):
        integers.append(name)
        return diff_bodies.whole_numbers(g, name)
    last, o = g.chance(3), g.pick([4, 6, 8, 12])
    x = Tensor(name, g.pick(TOKENS if last else [(6,), *INPUTS]), last)
    if last and g.chance(4):
        integers.append(name)
        x = Tensor(name, x.places)
        g.keep(g.add("Gather", g.weight(WORDS, o), x), [*x.shape, o], last=True)
        return x
    y = linear(g, x, o) if x.last or not x.places else convolution(g, x, o, kernel=g.pick([1, 3]))
    g.like(g.add("Relu", y) if g.chance(2) else y, x, o)
    return x


def _end(g):
    """As `netgrow.end`, where also the layer before the last may be wide."""
    loose, outputs = loose_ends(g)
    rows = [_row(g, x) for x in loose]
    if len(rows) > 1 and g.chance(2):
        y = g.add("Sum", *(linear(g, x, 5) for x in rows))
    else:
        x = rows[0]
        if len(rows) > 1:
            x = Tensor(g.add("Concat", *rows, axis=1), [sum(r.features for r in rows)])
        y = (
            linear(g, x, 5)
            if g.chance(2)
            else g.add("Gemm", x, g.weight(5, x.features), g.weight(5, kind="b"), transB=1)
        )
    return [Tensor(y, (5,)), *outputs]


def _row(g, x):
    """(N, C): where sizes are loose not by writing down how many places there are."""
    if not (g.loose and x.places):
        return flattened(g, x)
    return g.keep(g.add("ReduceMean", x, axes=x.others, keepdims=0), [x.features], degree=x.degree)


def _written(g, inputs, outputs, integers, seed):
    """The model, without what leads to no output."""
    read, kept = {t.name for t in outputs}, []
    for line in reversed(g.lines):
        if read & {*line.outputs}:
            read |= {*line.inputs, *getattr(line, "captured", ())}
            kept.append(f"\n  {line}")

    def values(tensors):
        kinds = ["int64" if t.name in integers else g.precision for t in tensors]
        listed = zip(kinds, tensors, strict=True)
        return ", ".join(f"{kind}[{', '.join(map(str, (g.batch, *t.shape)))}] {t}" for kind, t in listed)

    inputs = [x for x in inputs if x.name in read]
    text = f"net ({values(inputs)}) => ({values(outputs)}) {{{''.join(reversed(kept))}\n}}"
    dtype = DTYPES[g.precision]
    arrays = {
        name: value if isinstance(value, np.ndarray) else np.asarray(random_weight(name, value, seed), dtype)
        for name, value in g.weights.items()
        if name in read
    }
    model = net(text, g.opset, 10, **arrays)
    del model.opset_import[1:]  # custom
    return model


def _nominal(model):
    """The sizes that the network was grown at."""
    return {
        name: int(name[1:]) if name[:1] == "S" and name[1:].isdigit() else 2 for name in dynamic_dims(model).values()
    }


def _runs(model, sizes):
    """Whether the model is valid and computes finite numbers of a sensible size."""
    try:
        onnx.checker.check_model(model, full_check=not model.graph.sparse_initializer)  # which inference cannot read
        session, inputs = start(model), feeds(model, sizes)
        if ends_the_process(model, inputs):
            return False
        values = session.run(None, inputs)
    except (*FAILURES, onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        return False
    return all(_sane(v) for v in values)


def _sane(value):
    return value.size and value.size < LARGEST and (value.dtype.kind != "f" or bool(np.isfinite(value).all()))


def _loosened(model, rng):
    """Sizes of places become dynamic, all of them or one, where the model runs at other sizes then."""
    spots = [
        (v.name, axis)
        for v in required(model)
        for axis, d in enumerate(v.type.tensor_type.shape.dim)
        if axis >= 1 and d.HasField("dim_value") and not _is_features(v, axis)
    ]
    tries = [spots, *([spot] for spot in rng.sample(spots, len(spots)))]
    for chosen in tries if rng.random() < 0.8 else []:
        if not chosen:
            continue
        loose = copied(model)
        for v in loose.graph.input:
            for axis, d in enumerate(v.type.tensor_type.shape.dim):
                if (v.name, axis) in chosen:
                    d.dim_param = f"S{d.dim_value}"
        for v in loose.graph.output:
            for d in list(v.type.tensor_type.shape.dim)[2:]:
                d.Clear()
        if len(_assignments(loose, rng, apart=True)) == 3:
            return loose
    return model


def _is_features(value, axis):
    rank = len(value.type.tensor_type.shape.dim)
    whole = value.type.tensor_type.elem_type == onnx.TensorProto.INT64
    if rank == 2:
        return not whole
    sizes = [d.dim_value for d in value.type.tensor_type.shape.dim]
    last = tuple(sizes[1:]) in TOKENS and not whole
    return axis == (rank - 1 if last else 1)


def _assignments(model, rng, apart=False):
    """Up to three assignments at which the model runs: odd, unequal and small ones. ``apart``: with places that
    differ from those that it was grown at."""
    names = list(dict.fromkeys(dynamic_dims(model).values()))
    try:
        session = start(model)
    except FAILURES:
        return []
    nominal, found = _nominal(model), []
    if not names:
        return [{}] if _runs(model, {}) else []
    for k in range(24):
        sizes = {n: _size(n, nominal, rng, k) for n in names}
        if sizes in found or (apart and all(sizes[n] == nominal[n] for n in names if n[:1] == "S")):
            continue
        inputs = feeds(model, sizes)
        if ends_the_process(model, inputs):
            continue
        try:
            values = session.run(None, inputs)
        except FAILURES:
            continue
        if all(_sane(v) for v in values):
            found.append(sizes)
        if len(found) == 3:
            break
    return found


def _size(name, nominal, rng, k):
    if name[:1] == "S" and name[1:].isdigit():
        return rng.choice([1, 2, 3, 5, 7, 9] if k % 2 else [4, 5, 6, 7, 8, 11])
    return rng.choice([1, 2, 3, 4, 6, 8] if k % 3 else [2, 4, 6])
