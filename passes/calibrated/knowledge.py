"""What samples say of the channels of a group: their means and covariances where they are read."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from passes.calibrated.flow import Flow
from passes.calibrated.moments import channel_moments
from passes.graph import terms
from passes.graph.engine import Engine
from passes.graph.errors import RunError
from passes.graph.groups import ChannelGroup
from passes.graph.infer import Typing
from passes.graph.model import Array
from passes.graph.terms import Atom, Product, Term
from passes.signature import unfolded

RIDGE = 1e-2
"""Of the covariance of kept channels, relative to its diagonal, where others are predicted from them."""


@dataclass(frozen=True)
class Seen:
    """Mean (C,) and covariance (C, C) of channels in one tensor."""

    mean: Array
    covariance: Array

    def prediction(self, keep: Array) -> Array:
        """Z (C, K) of x ~ Z x_K about the means; kept channels predict themselves."""
        inner = self.covariance[np.ix_(keep, keep)]
        floor = 1e-8 * max(float(np.diag(self.covariance).max(initial=0.0)), 1e-30)
        inner = inner + np.diag(RIDGE * np.diag(inner) + floor)
        z = np.linalg.solve(inner, self.covariance[keep]).T
        z[keep] = np.eye(len(keep))
        return np.asarray(z)


Knowledge = dict[str, Seen]
"""Tensor -> what its channels are like."""


def observe_channels(
    typing: Typing, groups: Sequence[ChannelGroup], flow: Flow, engine: Engine, kept: Collection[str] = ()
) -> dict[str, Knowledge]:
    """Group name -> knowledge of each tensor that a layer reads its channels from, by one run over the samples: that of
    ``flow``, in which tensors that are ``kept`` stay."""
    wanted: dict[str, list[ChannelGroup]] = {}
    for group in groups:
        for step in group.steps:
            for tensor in step.consumed:
                if tensor not in typing.graph.constants and group not in wanted.setdefault(tensor, []):
                    wanted[tensor].append(group)
    graph = typing.graph
    order = {n: node.index for node in graph.nodes for n in node.outputs}
    found: dict[str, Knowledge] = {}
    for tensor in sorted(wanted, key=lambda n: order.get(n, -1)):
        flow.reach(tensor, kept)
        batches = [live[tensor] for live in flow.live]
        for group in wanted[tensor]:
            seen = _seen(typing, group, tensor, batches, engine)
            if seen is not None:
                found.setdefault(group.name, {})[tensor] = seen
    return found


def _seen(typing: Typing, group: ChannelGroup, tensor: str, batches: Sequence[Array], engine: Engine) -> Seen | None:
    """Nothing where the channels stand on several axes, or in a way that slices do not reach."""
    axes = [d for d, term in enumerate(typing.axes[tensor]) if group.atom in terms.atoms(term)]
    if len(axes) != 1 or batches[0].dtype.kind != "f":
        return None
    places = occurrences(typing.axes[tensor][axes[0]], group.atom)
    if not places:
        return None
    count, first, second = channel_moments(axes[0], places, group.size, batches, engine)
    if not np.isfinite(first).all() or not np.isfinite(second).all():
        raise RunError(f"{tensor} is not finite on the samples")
    mean = first / count
    return Seen(mean, second / count - np.outer(mean, mean))


def occurrences(term: Term, atom: Atom) -> list[tuple[int, int, int]]:
    """(start, outer, inner) of each place of ``atom`` on an axis; none where one of them is no such block."""
    term = terms.resolve(term)
    if isinstance(term, Atom):
        return [(0, 1, 1)] if term is atom else []
    if isinstance(term, Product):
        at = [i for i, factor in enumerate(term.factors) if factor is atom]
        if len(at) != 1 or sum(a is atom for a in terms.atoms(term)) != 1:
            return []
        outer, inner = (terms.size(terms.product(f)) for f in (term.factors[: at[0]], term.factors[at[0] + 1 :]))
        return [(0, outer, inner)]
    found, start = [], 0
    for part in term.parts:
        inside = occurrences(part, atom)
        if not inside and atom in terms.atoms(part):
            return []
        found += [(start + s, outer, inner) for s, outer, inner in inside]
        start += terms.size(part)
    return found


def joint_covariance(knowledge: Knowledge) -> Array:
    """Covariance (C, C) of the channels, summed over the tensors in which they are read."""
    total = [seen.covariance for seen in knowledge.values()]
    return np.asarray(sum(total[1:], total[0]))


def readers_gram(typing: Typing, group: ChannelGroup, tensors: Collection[str]) -> Array:
    """W^T W (C, C) of the weights that the channels meet in ``tensors``, in all that read them if none is named; the
    identity where no weights are known."""
    gram = np.zeros((group.size, group.size))
    for step, use in group.consumer_uses():
        if (not tensors or step.read in tensors) and typing.graph.knows(use.constant):
            rows = unfolded(typing, group, use).astype(np.float64)
            gram += rows @ rows.T
    return gram if gram.any() else np.eye(group.size)
