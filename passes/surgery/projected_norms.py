"""Lets norms go on as before over mixtures of their channels.

A norm of C values is one of K values that have the same length |x|, for eps the epsilon of the norm:

    x / sqrt(|x|^2 / C + eps)  =  sqrt(C / K) x / sqrt(|x|^2 / K + eps C / K)

Its scale and its bias are in the weights and the biases of the layers that read it. A norm that has a bias gets one of
ones. What it normalises has a mean of zero, so that the mean of its output is 1, on which a layer without a bias can
put a constant c: c 1^T / K (x + 1) = c.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from passes.axes import algebra
from passes.axes.algebra import Term
from passes.axes.channel_groups import Norm
from passes.channels.norm_constants import NEUTRAL_BIAS
from passes.graph.model import Graph
from passes.graph.patch import Patch
from passes.planning.plan import GroupPlan


def neutralise_norms(graph: Graph, plans: Sequence[GroupPlan], patch: Patch, twin: bool) -> set[str]:
    """Set scales and biases of the norms over projected channels, and epsilon where they become fewer. Returns the
    names of the constants."""
    written: set[str] = set()
    for plan in plans:
        share = 1.0 if twin else plan.group.size / len(plan.keep)
        for norm in plan.group.norms.values() if plan.projection is not None else ():
            for name, value in ((norm.scale, math.sqrt(share)), (norm.bias, NEUTRAL_BIAS)):
                if name:
                    patch.set_array(name, np.full(plan.group.size, value))
                    written.add(name)
            if not twin:
                _multiply_epsilon(graph, norm, share, patch)
    return written


def _multiply_epsilon(graph: Graph, norm: Norm, factor: float, patch: Patch) -> None:
    node, k = norm.epsilon, norm.epsilon_input
    if k is None:
        patch.set_attribute(node, "epsilon", factor * float(node.attrs.get("epsilon", 1e-5)))
    elif k not in patch.inputs[node.index]:  # several tensors contain the output of one norm
        value = graph.array(node.inputs[k])
        patch.set_input_array(node, k, (factor * value).astype(value.dtype))


def centre_solved(plans: Sequence[GroupPlan], axes: Mapping[str, Sequence[Term]], patch: Patch) -> None:
    """Subtract the mean over the channels that stay from what makes them in solved weights and biases, whose ``axes``
    are given. The norm of fewer channels does so itself; that of the twin has zeros beside them."""
    for plan in plans:
        if not any(norm.centred for norm in plan.group.norms.values()):
            continue
        read = {(use.constant, use.axis) for _, use in plan.group.consumer_uses()}
        for name, terms in axes.items():
            for axis, term in enumerate(terms):
                if algebra.resolve(term) is plan.group.atom and (name, axis) not in read:
                    lines = np.moveaxis(patch.array(name).copy(), axis, -1)
                    kept = lines[..., plan.keep]
                    lines[..., plan.keep] = kept - kept.mean(-1, keepdims=True, dtype=np.float64).astype(kept.dtype)
                    patch.set_array(name, np.moveaxis(lines, -1, axis))
