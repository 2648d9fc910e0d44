"""One channel planted as a multiple of another, in the constants that hold the channels, and what is to hold then."""

import itertools

import numpy as np
from netkit import feeds, session
from onnx.reference import ReferenceEvaluator
from onnxruntime.capi import onnxruntime_pybind11_state as errors

from passes.axes.channel_groups import channel_groups
from passes.axes.index_maps import kept_indices
from passes.axes.inference import Role, infer
from passes.graph.model import Graph, copy_with_arrays
from passes.pipeline import compress
from passes.settings.compress import CompressSettings

EXACT = 1e-5
"""Relative to an output's norm."""
DRAWS = ((1, 1.0), (2, 30.0), (3, 0.03))
"""(seed, scale) of the inputs that a lossless result is compared on."""
MULTIPLE, COPY = "a multiple", "a copy"


def plantings(model, observed):
    """(group, what, planted model): the last channel of a group becomes a multiple of the first in each of its
    constants alone, in all of them, in all by factors of their own, in all but one that holds an exact copy, and an
    exact copy in all."""
    typing = infer(Graph(model, observer=lambda *_: observed))
    for group, places in _live(typing):
        names = sorted({name for name, _ in places})
        ways = {MULTIPLE: dict.fromkeys(names, 1.75), COPY: dict.fromkeys(names, 1.0)}
        if len(names) > 1:
            ways["factors of their own"] = dict(zip(names, (1.75, 0.5, 1.0) * len(names), strict=False))
            ways |= {name: {name: 2.0} for name in names}
            ways |= {f"a copy of {name}": {**ways[MULTIPLE], name: 1.0} for name in names}
        for what, factors in ways.items():
            arrays = {name: typing.graph.array(name).copy() for name in factors}
            for name, axis in places:
                if name in factors:
                    _plant(arrays[name], axis, typing.axes[name][axis], group.atom, factors[name])
            yield group, what, copy_with_arrays(model, arrays)


def planted_everywhere(model, observer, factors):
    """The model with the last channel of every group a multiple of its first in each constant of floating-point
    numbers, at factors taken in turn, anew for each group; a factor of 0 leaves a constant as it is."""
    typing = infer(Graph(model, observer=observer))
    arrays = {}
    for (group, places), own in zip(_live(typing), itertools.cycle(factors), strict=False):
        for (name, axis), factor in zip(places, itertools.cycle(own), strict=False):
            array = arrays.setdefault(name, typing.graph.array(name).copy())
            if array.dtype.kind == "f" and factor:
                _plant(array, axis, typing.axes[name][axis], group.atom, factor)
    return copy_with_arrays(model, arrays)


def _live(typing):
    """(group, (constant, axis) pairs that hold its channels) for those groups that can shrink."""
    for group in channel_groups(typing):
        uses = [use for step in group.steps for use in step.uses if use.role is not Role.CONSUMER]
        places = {(use.constant, use.axis) for use in uses if use.constant in typing.graph.initializers}
        if not group.frozen:
            yield group, sorted(places)


def _plant(array, axis, term, atom, factor):
    """In place; integers take a whole factor, and flags what is left of it."""
    source, copy = (kept_indices(term, {atom: np.array([c])}) for c in (0, atom.size - 1))
    rows = np.moveaxis(array, axis, 0)
    rows[copy] = (rows[source] * (factor if array.dtype.kind == "f" else round(factor))).astype(array.dtype)


def _runner(model):
    """onnxruntime, or onnx's reference implementation where that has no kernel."""
    try:
        return session(model)
    except (errors.NotImplemented, errors.Fail, errors.InvalidGraph):
        return ReferenceEvaluator(model)


def moved(model, other):
    """Largest distance of the outputs of two models, relative to their norm, over draws of the inputs."""
    one, two, worst = _runner(model), _runner(other), 0.0
    for seed, scale in DRAWS:
        inputs = feeds(model, seed=seed)
        inputs = {k: (v * scale).astype(v.dtype) if v.dtype.kind == "f" else v for k, v in inputs.items()}
        for a, b in zip(one.run(None, inputs), two.run(None, inputs), strict=True):
            finite = np.isfinite(a)
            np.testing.assert_array_equal(finite, np.isfinite(b))
            a, b = a[finite].astype(np.float64), b[finite].astype(np.float64)
            worst = max(worst, float(np.linalg.norm(a - b) / max(np.linalg.norm(a), 1e-30)))
    return worst


def shrinks_losslessly(model, observed):
    """Whether a channel goes losslessly; if one does, the outputs stay."""
    result = compress(model, CompressSettings(lossless=True), lambda *_: observed)
    if result.shrinks:
        assert moved(model, result.model) <= EXACT
    return result.shrinks


def merges_exactly(model, size, observed):
    """One channel less of a group of ``size`` is exact surgery, and moves no output where the plan says so. More go
    where only smaller groups can lose any."""
    made = (
        compress(model, CompressSettings(keep=keep, method="merge"), lambda *_: observed)
        for keep in (1 - 1 / size, 0.6)
    )
    merged = next(result for result in made if result.shrinks)
    assert merged.shrinks and moved(merged.twin(), merged.model) <= EXACT
    if all(plan.method == "lossless" for plan in merged.plans if plan.shrinks):
        assert moved(model, merged.model) <= EXACT
