"""Gradients of single nodes and of models, beside directional differences of what they compute."""

import numpy as np
import onnx
from netkit import session

from passes.gradients.differentiate import gradient_model


def start(model):
    """Runs a model: inputs by name -> outputs by name."""
    loaded = session(model)
    names = [i.name for i in loaded.get_inputs()]
    outputs = [o.name for o in loaded.get_outputs()]
    return lambda feeds: dict(zip(outputs, loaded.run(None, {n: feeds[n] for n in names}), strict=True))


def gradients_of(graph, wrt, seeds, feeds, **more):
    """Gradients with respect to ``wrt``, of sum <seed, output>, at ``feeds``."""
    made = gradient_model(graph, wrt, seeded=list(seeds), **more)
    onnx.checker.check_model(made.model)
    found = start(made.model)({**feeds, **{made.seeds[n]: v for n, v in seeds.items()}})
    return {name: found[made.gradients[name]] for name in wrt}


def directional(value, feeds, wrt, rng, step):
    """(directions, central difference of ``value``, a function of the feeds) at ``feeds`` along random directions."""
    ways = {n: rng.standard_normal(feeds[n].shape) for n in wrt}
    ends = [value({**feeds, **{n: (feeds[n] + s * step * ways[n]).astype(feeds[n].dtype) for n in wrt}}) for s in (1, -1)]
    return ways, (ends[0] - ends[1]) / (2 * step)
