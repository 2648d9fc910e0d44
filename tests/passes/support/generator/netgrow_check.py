"""What must hold of every random network once it is compressed, and a tally of what the networks were like."""

from collections import Counter

import numpy as np
from hypothesis import event
from netgrow_reference import Evaluator, inputs_of, run
from netkit import check, engine

from passes.pipeline import compress
from passes.settings.compress import CompressSettings

TOLERANCE = {"double": 1e-9, "float": 1e-5}
"""Of outputs, relative to the largest: sums in another order."""
LOSSLESS = 1e-6
"""The same where channels are free: what makes them so is looked at in float32."""
NOISE = {"double": 2e-16, "float": 1.2e-7}
"""A rounding of one number."""
AMPLIFIED = 100
"""Networks may jump or be steep: an output may be off by this many times what roundings of all numbers do to it."""


class Tally(Counter):
    """Networks, those that shrink, those that cannot be compared, and in how many each op was."""

    def note(self, network, shrinks):
        self.update(["networks", *["shrink"] * shrinks, *["loose"] * network.loose])
        self.update(f"op {op}" for op in network.ops)
        event("shrinks" if shrinks else "stays whole")

    @property
    def share(self):
        """Of networks that shrink."""
        return self["shrink"] / max(self["networks"], 1)

    @property
    def ops(self):
        return {name[3:]: n for name, n in self.items() if name.startswith("op ")}

    @property
    def beside(self):
        """Share of networks of which the outputs say nothing."""
        return (self["steep"] + self["overflow"]) / max(self["networks"], 1)

    def summary(self):
        rare = ", ".join(f"{op} {n}" for op, n in sorted(self.ops.items(), key=lambda item: item[1])[:5])
        counts = ", ".join(f"{self[name]} {name}" for name in ("networks", "shrink", "loose", "steep", "overflow"))
        return f"{counts}; {len(self.ops)} ops, the rarest: {rare}"

    def _repr_pretty_(self, printer, cycle):
        printer.text(self.summary())


def observer(model, sizes, names):
    """Shapes by running the model once."""
    inputs = {name: np.resize(array, sizes[name]) for name, array in inputs_of(model).items()}
    return {n: value.shape for n, value in zip(names, Evaluator(model).run(names, inputs), strict=True)}


def compressed(network, **settings):
    """The result of `compress`, which is valid, has the inputs and outputs of the model, and leaves the model alone."""
    model = network.model
    before = model.SerializeToString(deterministic=True)
    result = compress(model, CompressSettings(**settings), observer, engine=engine)
    assert model.SerializeToString(deterministic=True) == before, "the model given was modified"
    check(result.model)
    for one, other in ((model.graph.input, result.model.graph.input), (model.graph.output, result.model.graph.output)):
        assert [*map(str, one)] == [*map(str, other)], "the inputs or outputs are not those of the model given"
    return result


def assert_same(network, expected, model, tally, tolerance):
    """``model`` answers as ``expected`` does, whatever the batch and the sizes that are not known beforehand."""
    precision = network.precision
    for batch, more in ((2, 0), (3, 2)):
        inputs = inputs_of(expected, batch, more)
        pairs = list(zip(run(expected, precision, inputs), run(model, precision, inputs), strict=True))
        for a, b in pairs:
            assert a.shape == b.shape and a.dtype == b.dtype
        if not all(np.isfinite(a).all() for a, _ in pairs):
            tally["overflow"] += 1
            event("overflows")
            continue
        off = [distance(a, b) for a, b in pairs]
        if max(off) > tolerance:
            allowed = [AMPLIFIED * n for n in steepness(expected, precision, inputs)]
            assert all(a <= max(b, tolerance) for a, b in zip(off, allowed, strict=True)), off
            tally["steep"] += 1
            event("steep")


def distance(a, b):
    """Largest deviation relative to the largest value."""
    off = np.abs(a.astype(np.float64) - b).max(initial=0) / max(np.abs(a).max(initial=0), 1e-300)
    return float(np.inf if np.isnan(off) else off)


def steepness(model, precision, inputs, times=8):
    """How far each output moves when every number on the way is rounded anew."""
    evaluator = Evaluator(model)
    exact = evaluator.run(None, inputs)
    noisy = [evaluator.run(None, inputs, NOISE[precision], seed) for seed in range(times)]
    return [max(distance(a, b[k]) for b in noisy) for k, a in enumerate(exact)]


def twin_check(network, tally, leave=(), **settings):
    """Compress and compare with the unshrunk twin. ``leave``: which groups to exclude, counted around their number."""
    result = compressed(network, **settings)
    producers = [plan.group.producers[0] for plan in result.plans if plan.shrinks]
    chosen = {producers[k % len(producers)] for k in leave if len(producers) > 2}
    if chosen:
        result = compressed(network, exclude=tuple(f"^{name}$" for name in chosen), **settings)
        assert not any(plan.shrinks for plan in result.plans if chosen & {*plan.group.producers})
    tally.note(network, result.shrinks)
    if result.shrinks:
        twin = result.twin()
        check(twin)
        assert_same(network, twin, result.model, tally, TOLERANCE[network.precision])
    return result


def lossless_check(network, tally):
    """Compress losslessly and compare with the model given."""
    result = compressed(network, lossless=True)
    tally.note(network, result.shrinks)
    assert_same(network, network.model, result.model, tally, max(LOSSLESS, TOLERANCE[network.precision]))
    return result
