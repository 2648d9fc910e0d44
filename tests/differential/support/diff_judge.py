"""The independent judge: what a result must be, by its own code and onnxruntime without optimisations."""

import re
from dataclasses import dataclass

import numpy as np
import onnx
from diff_generate import Case
from diff_ort import FAILURES, copied, feeds, start
from diff_refusals import cannot_load, gives_nothing, leaves_the_domain, overflows
from diff_run import DOCUMENTED, EXACT, Outcome
from onnx import helper, numpy_helper

TOLERANCE = {"float64": 1e-5, "float32": 1e-5, "float16": 1e-2}
"""Of the norm of an output."""
TWIN_TOLERANCE = {"float64": 1e-6, "float32": 3e-5, "float16": 1e-2}
"""The same against the twin, which is not promised to anybody but sums in another order only."""
NOISE = {"float64": 2e-16, "float32": 1.2e-7, "float16": 1e-3}
"""A rounding of one number."""
AMPLIFIED = 50
"""Graphs may jump or be steep: an output may be off by this many times what roundings of all weights do to it."""


@dataclass(frozen=True)
class Fault:
    """``kind``: one of few words, the same for faults alike; ``detail``: the numbers."""

    way: str
    kind: str
    detail: str

    def __str__(self):
        return f"{self.way}: {self.kind}: {self.detail}"


def judge(case: Case, outcome: Outcome) -> list[Fault]:
    """What is wrong with an outcome; nothing if all is well."""
    return list(dict.fromkeys(Fault(outcome.way, kind, detail) for kind, detail in _faults(case, outcome)))


def _faults(case, outcome):
    code, said = outcome.code, outcome.said
    if code == 1 and "of the original is not finite on the samples" in said and overflows(case, outcome):
        return
    if "internal error" in said or "Traceback" in said or code not in DOCUMENTED:
        yield "internal error", said[:300]
    elif code == 5 and not (_stumbles(outcome) or leaves_the_domain(case, outcome) or rounds_as_far(case, outcome)):
        yield "unsound result refused", said[:300]
    elif code == 2 and not (cannot_load(case.model, said) or ("nothing but NaN" in said and gives_nothing(case.model))):
        yield "good model refused", said[:300]
    elif code == 3 or (code == 4 and outcome.way == "keep-one"):
        yield f"exit {code}", said[:300]
    if code or outcome.model is None:
        return
    model, result = case.model, outcome.model
    habit = "all inputs" in case.twists
    before, after = signature(model, habit), signature(result, habit)
    if before != after:
        yield "interface", _missing(before, after)
        return
    try:
        one, two = start(model), start(result)
    except FAILURES as error:
        yield "result does not load", _line(error)
        return
    if outcome.way in EXACT:
        yield from _compared(case, model, one, two, "moved from the original", TOLERANCE)
    else:
        yield from _compared(case, model, one, two, None, TOLERANCE)
    if outcome.way != "keep-one" and outcome.compressed is not None and outcome.compressed.shrinks:
        yield from _twin(case, outcome, two)
    yield from _overridden(case, outcome, one, two)


def rounds_as_far(case, outcome, draws=2):
    """Whether a lossless result was refused since an output moved, and roundings move the original's as far: what is
    promised cannot be kept there, and is not."""
    moved = re.search(r"\(output '([^']*)': ([0-9.e+-]+)\)", outcome.said)
    if outcome.way not in EXACT or moved is None or moved[1] not in {v.name for v in case.model.graph.output}:
        return False
    session = start(case.model)
    for seed, sizes in [(seed, sizes) for sizes in case.sizes for seed in range(draws)]:
        inputs = feeds(case.model, sizes, seed)
        (exact,) = session.run([moved[1]], inputs)
        if float(moved[2]) <= AMPLIFIED * steepness(case.model, inputs, moved[1], exact):
            return True
    return False


def _stumbles(outcome):
    """Whether the result was refused since onnxruntime cannot optimise it, though it loads it as it is."""
    try:
        return "does not load" in outcome.said and bool(start(outcome.compressed.model))
    except FAILURES:
        return False


def _twin(case, outcome, two):
    try:
        twin = outcome.compressed.twin()
        session = start(twin)
    except FAILURES as error:
        yield "twin does not load", _line(error)
        return
    yield from _compared(case, twin, session, two, "moved from the twin", TWIN_TOLERANCE)


def signature(model, habit=False):
    """Inputs and outputs, name, type and declared shape, in order; and those inputs that have a default, which are
    none if that is an exporter's ``habit``."""
    defaults = {t.name for t in model.graph.initializer} | {t.values.name for t in model.graph.sparse_initializer}
    inputs = [v for v in model.graph.input if not habit or v.name not in defaults]
    listed = [[_declared(v) for v in values] for values in (inputs, model.graph.output)]
    return [*listed, sorted(v.name for v in inputs if v.name in defaults)]


def _declared(value):
    kind = value.type.tensor_type
    dims = [d.dim_value if d.HasField("dim_value") else d.dim_param for d in kind.shape.dim]
    return value.name, kind.elem_type, dims if kind.HasField("shape") else None


def _missing(one, two):
    gone = [str(v) for a, b in zip(one, two, strict=True) for v in a if v not in b]
    new = [str(v) for a, b in zip(one, two, strict=True) for v in b if v not in a]
    return f"gone {', '.join(gone) or 'nothing'}; new {', '.join(new) or 'nothing'}"


def _compared(case, model, one, two, kind, tolerance, extra=None):
    """Run both at every assignment. ``kind``: what it is called if values differ, None where they may."""
    for k, sizes in enumerate(case.sizes):
        inputs = feeds(case.model, sizes, case.seed + k) | (extra or {})
        try:
            want = one.run(None, inputs)
        except FAILURES as error:
            yield "twin does not run", f"{sizes}: {_line(error)}"
            return
        try:
            got = two.run(None, inputs)
        except FAILURES as error:
            yield "result does not run", f"{sizes}: {_line(error)}"
            return
        for o, a, b in zip(one.get_outputs(), want, got, strict=True):
            if a.shape != b.shape or a.dtype != b.dtype:
                yield "shape", f"{o.name} at {sizes}: {b.dtype}{list(b.shape)} for {a.dtype}{list(a.shape)}"
                return
            off = distance(a, b) if kind else 0.0
            if off > tolerance.get(str(a.dtype), 0.0) and off > AMPLIFIED * steepness(model, inputs, o.name, a):
                yield kind, f"{o.name} at {sizes} by {off:.2g}"
                return


def distance(a, b):
    """Of ``b`` from ``a``, relative to the norm of ``a``; of whole numbers the share that differ."""
    if a.dtype.kind not in "f":
        return float((a != b).mean()) if a.size else 0.0
    if (np.isfinite(a) != np.isfinite(b)).any():
        return np.inf
    x, y = (np.where(np.isfinite(a), v, 0).astype(np.float64) for v in (a, b))
    return float(np.linalg.norm(x - y) / max(np.linalg.norm(x), 1e-20)) if a.size else 0.0


def steepness(model, inputs, name, exact, times=4):
    """How far an output moves when weights and inputs are rounded anew; infinite where it holds, or is
    computed from, what is no finite number.
    What is written down by itself (names that end in k) stays: a one-hot by Equal is no accident."""
    if not np.isfinite(exact.astype(np.float64)).all() or _undefined(model, inputs):
        return np.inf
    worst = 0.0
    for seed in range(times):
        rng = np.random.default_rng(seed)
        other = with_ties_broken(model, inputs, rng)
        for tensor in other.graph.initializer:
            array = numpy_helper.to_array(tensor)
            if array.dtype.kind == "f" and not tensor.name.endswith("k"):
                tensor.CopyFrom(numpy_helper.from_array(_rounded(array, rng), tensor.name))
        given = {k: _rounded(v, rng) if v.dtype.kind == "f" else v for k, v in inputs.items()}
        try:
            (value,) = start(other).run([name], given)
        except FAILURES:
            continue
        worst = max(worst, distance(exact, value))
    return worst


RANKING = {"Hardmax", "ArgMax", "ArgMin", "TopK"}
"""Ops that take one of equal values: which one, the order of a sum decides that makes them."""


def with_ties_broken(model, inputs, rng):
    """A copy in which what these ops rank is rounded number by number: rounding weights moves equal values alike."""
    other, made = copied(model), {name for node in model.graph.node for name in node.output}
    ranked = list(dict.fromkeys(n.input[0] for n in model.graph.node if n.op_type in RANKING and n.input[0] in made))
    if not ranked:
        return other
    exposed = copied(model)
    del exposed.graph.output[:]
    exposed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in ranked)
    values = dict(zip(ranked, start(exposed).run(None, inputs), strict=True))
    nodes = []
    for node in model.graph.node:
        node = onnx.NodeProto.FromString(node.SerializeToString())
        if node.op_type in RANKING and node.input[0] in values and str(values[node.input[0]].dtype) in NOISE:
            value, name = values[node.input[0]], node.input[0]
            factor = _rounded(np.ones(value.shape, value.dtype), rng)
            other.graph.initializer.append(numpy_helper.from_array(factor, f"{node.output[0]}/tie/k"))
            nodes.append(helper.make_node("Mul", [name, f"{node.output[0]}/tie/k"], [f"{node.output[0]}/ranked"]))
            node.input[0] = f"{node.output[0]}/ranked"
        nodes.append(node)
    del other.graph.node[:]
    other.graph.node.extend(nodes)
    return other


def _undefined(model, inputs):
    """Whether some tensor on the way holds NaN: a cast to whole numbers, or a maximum, makes anything of it."""
    other = copied(model)
    there = {v.name for v in other.graph.output}
    made = [name for node in other.graph.node for name in node.output if name and name not in there]
    other.graph.output.extend(onnx.ValueInfoProto(name=name) for name in made)
    values = start(other).run(None, inputs)
    return any(isinstance(v, np.ndarray) and v.dtype.kind == "f" and np.isnan(v).any() for v in values)


def _rounded(array, rng):
    noise = NOISE.get(str(array.dtype), 0.0)
    return (array * (1 + noise * rng.choice([-1.0, 0.0, 1.0], array.shape))).astype(array.dtype)


def _overridden(case, outcome, one, two):
    """Inputs with a default can still be given, and giving them has the same effect."""
    names = case.overridable
    if not names:
        return
    rng = np.random.default_rng(case.seed)
    given = {}
    for t in case.model.graph.initializer:
        if t.name in names:
            dtype = helper.tensor_dtype_to_np_dtype(t.data_type)
            moved = numpy_helper.to_array(t) * 1.5 + rng.uniform(0.1, 0.3, tuple(t.dims))
            given[t.name] = np.asarray(moved).astype(dtype)
    if outcome.way in EXACT:
        faults = _compared(case, case.model, one, two, "an override has another effect", TOLERANCE, given)
    elif outcome.compressed is not None and outcome.compressed.shrinks:
        twin = outcome.compressed.twin()
        faults = _compared(case, twin, start(twin), two, "an override has another effect", TWIN_TOLERANCE, given)
    else:
        return
    for kind, detail in faults:
        yield kind if "override" in kind else f"overridden: {kind}", detail


def _line(error):
    return " ".join(str(error).split())[-160:]


def shrunk_ops(outcome: Outcome) -> set[str]:
    """Op types that stand on an axis of which channels went."""
    from passes.axes import algebra

    found = outcome.compressed
    if found is None or not found.shrinks:
        return set()
    gone = {plan.group.atom for plan in found.plans if plan.shrinks}
    axes = found.typing.axes
    touched = {name for name, listed in axes.items() if any(a in gone for term in listed for a in algebra.atoms(term))}
    return {n.op for n in found.typing.graph.nodes if touched & {*n.inputs, *n.outputs}}
