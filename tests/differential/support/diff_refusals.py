"""Whether the reason of a refusal is true: numbers that are not finite, in the original or by shrunk channels."""

import math
import re

import numpy as np
import onnxruntime
from diff_ort import FAILURES, copied, dynamic_dims, feeds, required, silent, start
from diff_run import options_of

from onnx_merge.config.options import Options
from onnx_merge.evaluation.comparison import comparison_with
from onnx_merge.inputs.feeds import feeds_at, index_bounds
from onnx_merge.runtime.providers import CPU
from onnx_merge.runtime.session import Session
from passes.numerics.arrays import rows_between, sample_count

USUAL = (16, 64, 224)
"""Sizes of a dimension that is left open, where samples are made up."""
DRAWS = 4
"""Random inputs of each size."""
LARGEST = 2**24
"""Elements of an input, at most: three open edges of 224 would take gigabytes."""


def usual(model):
    """Inputs of usual sizes, at which samples are made: a few rows, where that is a dimension of its own."""
    found = []
    for size in USUAL:
        sizes = _sizes(model, size)
        if max((math.prod(shape) for shape in _shapes(model, sizes)), default=0) <= LARGEST:
            found += [feeds(model, sizes, seed) for seed in range(DRAWS)]
    return found


def _sizes(model, size):
    """Name of each open dimension -> its size."""
    dims = dynamic_dims(model)
    edges = {name for (_, axis), name in dims.items() if axis}
    return {name: size if name in edges else min(size, DRAWS) for name in dims.values()}


def _shapes(model, sizes):
    names = dynamic_dims(model)
    for v in required(model):
        dims = enumerate(v.type.tensor_type.shape.dim)
        yield [d.dim_value if d.HasField("dim_value") else sizes[names[v.name, k]] for k, d in dims]


def cannot_load(model, said):
    """Whether it is true that onnxruntime loads a model neither with its usual optimisations nor with basic ones."""
    if "onnxruntime cannot load the model" not in said:
        return False
    levels = onnxruntime.GraphOptimizationLevel
    return not any(_loads(model, level) for level in (levels.ORT_ENABLE_ALL, levels.ORT_ENABLE_BASIC))


def _loads(model, level):
    options = silent()
    options.graph_optimization_level = level
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except FAILURES:
        return False
    return True


def gives_nothing(model):
    """Whether the model gives nothing finite at some usual size: sums of many places overflow."""
    session = start(model)
    return any(
        not any(np.isfinite(value).any() for value in found if value.dtype.kind == "f")
        for found in (_values(session, inputs) for inputs in usual(model))
        if found
    )


def overflows(case, outcome):
    """Whether a tensor that a refusal names is not finite at some usual size, or on the samples of the run itself."""
    model, said = case.model, outcome.said
    named = [n for node in model.graph.node for n in node.output if n and f" {n} of the original is not finite" in said]
    if not named:
        return False
    other = copied(model)
    del other.graph.output[:]
    other.graph.output.add(name=named[0])
    session = start(other)
    drawn = usual(model) + _samples(case, outcome)
    return any(not np.isfinite(found[0]).all() for found in (_values(session, i) for i in drawn) if found)


def _samples(case, outcome):
    """The samples on which a run compares, all together and one by one."""
    options = Options.make(options_of(outcome.way, case.seed))
    compared = comparison_with(case.model, options, CPU).samples.compared()
    return [compared, *(rows_between(compared, k, k + 1) for k in range(sample_count(compared)))]


def leaves_the_domain(case, outcome):
    """Whether a result was refused since it is not finite where the original is, and the twin is not either: shrunk
    channels give an op numbers that it is not defined for, or the original alone is at the brink of it."""
    said, model = outcome.said, case.model
    if "is not finite" not in said or "where the original's is" not in said or outcome.compressed is None:
        return False
    one, two, three = start(model), start(outcome.compressed.twin()), _optimised(outcome.compressed.twin())
    places = re.findall(r"(\S+):(\d+(?:,\d+)*)", said.partition(" at ")[2])
    drawn = [feeds(model, sizes, seed) for sizes in case.sizes for seed in range(DRAWS)]
    if {name for name, _ in places} == {v.name for v in required(model)}:
        shapes = {name: tuple(map(int, text.split(","))) for name, text in places}
        drawn.insert(0, feeds_at(Session(model, optimisation="none").inputs, shapes, 0, index_bounds(model)))
    if not places:  # on the samples
        drawn = _samples(case, outcome)
    for inputs in [*drawn, *usual(model)]:
        exact = _values(one, inputs)
        for shrunk in (_values(session, inputs) for session in (two, three) if session is not None):
            for a, b in zip(exact, shrunk, strict=False):
                if a.dtype.kind == "f" and a.shape == b.shape and not np.isfinite(b).all():
                    return True
    return False


def _optimised(model):
    """A session with the optimisations of those that check results: they round otherwise, and a Tanh that ends above 1
    is outside the domain of an Acos. None where they break the model."""
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), silent(), providers=["CPUExecutionProvider"])
    except FAILURES:
        return None


def _values(session, inputs):
    """Outputs; none where the model does not run, as at sizes that it is not made for."""
    try:
        return session.run(None, inputs)
    except FAILURES:
        return []
