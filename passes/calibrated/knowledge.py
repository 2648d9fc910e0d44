"""What samples say of the channels of a group: their means and covariances where they are read."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from passes.calibrated.flow import Flow
from passes.calibrated.moments import ChannelSums, channel_sums
from passes.graph import terms
from passes.graph.engine import Engine
from passes.graph.errors import RunError
from passes.graph.groups import ChannelGroup
from passes.graph.infer import Typing
from passes.graph.model import Array
from passes.graph.terms import Atom, Product, Term
from passes.numerics.shrinkage import independent_samples, shrunk
from passes.signature import unfolded

RIDGE = 1e-2
"""Of the covariance of kept channels, relative to its diagonal, where others are predicted from them."""


PLENTY = 16
"""Independent samples for each channel from which on the samples that showed a covariance are predicted by it little
better than others are: by 2 K / n for K of n, an eighth at most."""


@dataclass(frozen=True)
class Seen:
    """Mean (C,) and covariance (C, C) of channels in one tensor, as fresh samples would have them; ``independent``: how
    many independent samples they rest on; ``without``: what samples show that no losses are measured on, the same if
    there is none."""

    mean: Array
    covariance: Array
    independent: float = math.inf
    without: Seen | None = None

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


@dataclass(frozen=True)
class Batches:
    """How the samples of a flow are batched: ``samples`` in each batch; losses are measured on the first ``apart``
    batches."""

    samples: Sequence[int]
    apart: int


def observe_channels(
    typing: Typing,
    groups: Sequence[ChannelGroup],
    flow: Flow,
    batches: Batches,
    engine: Engine,
    kept: Collection[str] = (),
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
        arrays = [live[tensor] for live in flow.live]
        for group in wanted[tensor]:
            seen = _seen(typing, group, tensor, arrays, batches, engine)
            if seen is not None:
                found.setdefault(group.name, {})[tensor] = seen
    return found


def _seen(
    typing: Typing, group: ChannelGroup, tensor: str, arrays: Sequence[Array], batches: Batches, engine: Engine
) -> Seen | None:
    """Nothing where the channels stand on several axes, or in a way that slices do not reach."""
    axes = [d for d, term in enumerate(typing.axes[tensor]) if group.atom in terms.atoms(term)]
    if len(axes) != 1 or arrays[0].dtype.kind != "f":
        return None
    places = occurrences(typing.axes[tensor][axes[0]], group.atom)
    if not places:
        return None
    first: ChannelSums | None = None
    rest: ChannelSums | None = None
    for at, sums in enumerate(channel_sums(axes[0], places, group.size, arrays, batches.samples, engine)):
        if at < batches.apart:
            first = sums if first is None else first + sums
        else:
            rest = sums if rest is None else rest + sums
    assert first is not None
    whole = _known(first if rest is None else first + rest, tensor)
    if rest is None or whole.independent >= PLENTY * group.size:
        return whole
    without = _known(rest, tensor)
    return replace(whole, without=replace(without, covariance=without.covariance.astype(np.float32)))


def _known(sums: ChannelSums, tensor: str) -> Seen:
    if not np.isfinite(sums.first).all() or not np.isfinite(sums.second).all():
        raise RunError(f"{tensor} is not finite on the samples")
    mean = sums.first / sums.count
    covariance = sums.second / sums.count - np.outer(mean, mean)
    independent = independent_samples(float(np.trace(covariance)), sums.count, sums.means)
    return Seen(mean, shrunk(covariance, independent), independent)


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
    return np.asarray(sum(total[1:], total[0]), np.float64)


def differs(known: Knowledge) -> bool:
    """Whether the samples that losses are measured on make a difference to what is known of a group."""
    return any(seen.without is not None for seen in known.values())


def apart(known: Knowledge) -> Knowledge:
    """What is known of a group without the samples that losses are measured on."""
    return {tensor: seen.without or seen for tensor, seen in known.items()}


def readers_gram(typing: Typing, group: ChannelGroup, tensors: Collection[str]) -> Array:
    """W^T W (C, C) of the weights that the channels meet in ``tensors``, in all that read them if none is named; the
    identity where no weights are known."""
    gram = np.zeros((group.size, group.size))
    for step, use in group.consumer_uses():
        if (not tensors or step.read in tensors) and typing.graph.knows(use.constant):
            rows = unfolded(typing, group, use).astype(np.float64)
            gram += rows @ rows.T
    return gram if gram.any() else np.eye(group.size)
