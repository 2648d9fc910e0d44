"""Collects the mean and covariance of each group's channels, at every tensor that consumers read, in one run."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from passes.axes import algebra
from passes.axes.algebra import Atom, Product, Term
from passes.axes.channel_groups import ChannelGroup
from passes.axes.inference import Typing
from passes.channels.covariance import Covariance, DenseCovariance, LowRankCovariance, best_factor
from passes.channels.norm_constants import inverse_scale, norm_constants
from passes.channels.statistics import ChannelStatistics, TensorStatistics
from passes.cost.cost import samples_held
from passes.graph.model import Array
from passes.interface.engine import Engine
from passes.interface.errors import RunError
from passes.interface.steps import steps
from passes.numerics.shrinkage import independent_samples, shrunk_toward
from passes.settings.tuning import TUNING, Tuning
from passes.statistics.lazy import Lazy
from passes.statistics.moments import ChannelSums, channel_sums
from passes.statistics.pooled import map_before
from passes.statistics.segmented_execution import SegmentedRun
from passes.weights.stored_tensors import stored_array


@dataclass(frozen=True)
class Batches:
    """How the samples of a run are batched: number of ``samples`` in each batch; ``apart``: the number of first batches
    on which losses are measured; ``distinct``: share of the samples that do not repeat others."""

    samples: Sequence[int]
    apart: int
    distinct: float = 1.0


@dataclass(frozen=True)
class _DividedSums:
    """``apart``: sums over the samples that losses are measured on; ``rest``: over the others, None without any."""

    apart: ChannelSums
    rest: ChannelSums | None

    @property
    def whole(self) -> ChannelSums:
        return self.apart if self.rest is None else self.apart + self.rest


def observe_channels(
    typing: Typing,
    groups: Sequence[ChannelGroup],
    flow: SegmentedRun,
    batches: Batches,
    engine: Engine,
    kept: Collection[str] = (),
    tuning: Tuning = TUNING,
) -> dict[str, ChannelStatistics]:
    """Group name -> statistics of each tensor that a layer reads its channels from, from one run over the samples.
    Those of a norm's output are statistics of what is normalised, before its scale and its bias.

    ``flow``: the run; it keeps the tensors in ``kept``.

    Raises
    ------
    RunError: a tensor is not finite on the samples, or a segment of the model does not run.
    """
    wanted: dict[str, list[ChannelGroup]] = {}
    for group in groups:
        for step in group.steps:
            for tensor in step.consumed:
                if tensor not in typing.graph.constants and group not in wanted.setdefault(tensor, []):
                    wanted[tensor].append(group)
    observer = _Observer(typing, flow, batches, engine, tuning)
    order = {n: node.index for node in typing.graph.nodes for n in node.outputs}
    found: dict[str, ChannelStatistics] = {}
    for tensor in steps(sorted(wanted, key=lambda n: order.get(n, -1)), lambda tensor: wanted[tensor][0].name):
        before = {group.name: observer.before(group, tensor) for group in wanted[tensor]}
        flow.reach(tensor, kept)
        for group in wanted[tensor]:
            arrays = Lazy([partial(live.__getitem__, tensor) for live in flow.live])
            pooled = before[group.name]
            sums = observer.sums(group, tensor, arrays, pooled is None) if arrays[0].dtype.kind == "f" else None
            if sums is not None:
                found.setdefault(group.name, {})[tensor] = observer.seen(sums, pooled, tensor)
    return found


class _Observer:
    """Computes statistics of the tensors of a segmented run ``flow``."""

    def __init__(self, typing: Typing, flow: SegmentedRun, batches: Batches, engine: Engine, tuning: Tuning) -> None:
        self._typing, self._flow, self._batches, self._engine = typing, flow, batches, engine
        self._tuning = tuning
        self._ample = tuning.statistics.ample_samples

    def sums(
        self, group: ChannelGroup, tensor: str, arrays: Iterable[Array], rows: bool, parallel: bool = True
    ) -> _DividedSums | None:
        """Sums over the tensor's channels. None where they are on several axes, or where slices cannot select them.

        ``arrays``: the tensor in each batch; ``rows``: whether few places are kept as they are; ``parallel``: whether
        several batches may be summed at the same time.
        """
        axis, places = self._places(group, tensor)
        if not places:
            return None
        parts: list[ChannelSums | None] = [None, None]
        # In float32 and in float64, the products of channels are in memory for each batch.
        fit = max(1, self._tuning.memory.moment_bytes // (12 * group.size**2)) if parallel else 1
        few = few_places(group.size, self._tuning) if rows else 0.0
        given = (arrays, self._batches.samples, self._engine, self._tuning.statistics, min(fit, self._flow.workers))
        each = channel_sums(axis, places, group.size, *given, few)
        if tensor in group.norms:
            scale, shift = norm_constants(self._typing.graph, group, tensor)
            factor = group.norms[tensor].factor
            each = (sums.rescaled(inverse_scale(scale, shift) / factor, factor * shift) for sums in each)
        for at, sums in enumerate(each):
            half = int(at >= self._batches.apart)
            part = parts[half]
            if part is None:
                parts = [None if made is None else _stored(made) for made in parts]
                parts[half] = sums
            else:
                part.add(sums)
        first, rest = (None if part is None else _stored(part) for part in parts)
        return None if first is None else _DividedSums(first, rest)

    def before(self, group: ChannelGroup, tensor: str) -> _DividedSums | None:
        """Sums over the feature map before a pooling, where the pooled ``tensor`` has too few places. Else None."""
        axis, places = self._places(group, tensor)
        source = map_before(self._typing.graph, tensor) if places else None
        shape = self._typing.graph.shape(tensor)
        if source is None or not shape:
            return None
        each = math.prod(shape) / shape[axis] / samples_held(self._typing.graph)
        if each * sum(self._batches.samples) >= self._ample * group.size:
            return None
        arrays = self._flow.glance(source)
        return None if arrays is None else self.sums(group, source, arrays, rows=False, parallel=False)

    def seen(self, sums: _DividedSums, before: _DividedSums | None, tensor: str) -> TensorStatistics:
        """Statistics from sums. ``before``: sums over the feature map before the pooling, None without one."""
        distinct = self._batches.distinct
        whole = _Estimate.of(sums.whole, tensor).of_share(distinct)
        spread = None if before is None else _Estimate.of(before.whole, tensor).of_share(distinct)
        if sums.rest is None or whole.independent >= self._ample * len(whole.mean):
            return TensorStatistics(whole.mean, whole.believed(spread).stored(), whole.independent)
        rest = _Estimate.of(sums.rest, tensor)
        spread_rest = None if before is None or before.rest is None else _Estimate.of(before.rest, tensor)
        unseen, ridge = _Estimate.of(sums.apart, tensor, rest.mean).covariance, self._tuning.statistics.prediction_ridge
        factor = best_factor(partial(rest.believed, spread_rest), unseen, ridge, self._tuning.numerics.shrinkage)
        unbiased = rest.believed(spread_rest, factor).stored(np.dtype(np.float32))
        without = TensorStatistics(rest.mean, unbiased, rest.independent)
        return TensorStatistics(whole.mean, whole.believed(spread, factor).stored(), whole.independent, without)

    def _places(self, group: ChannelGroup, tensor: str) -> tuple[int, list[tuple[int, int, int]]]:
        """The axis of a tensor that has the group's channels, and their occurrences; none if it is not one axis."""
        types = self._typing.axes[tensor]
        axes = [d for d, term in enumerate(types) if group.atom in algebra.atoms(term)]
        return (axes[0], occurrences(types[axes[0]], group.atom)) if len(axes) == 1 else (-1, [])


def few_places(channels: int, tuning: Tuning = TUNING) -> float:
    """Number of places up to which a covariance of so many channels is kept as these places."""
    # Up to `most_greedy` channels are chosen by the whole matrix.
    return tuning.statistics.row_share * channels if channels > tuning.numerics.subset.most_greedy else 0.0


def _stored(sums: ChannelSums) -> ChannelSums:
    return sums if sums.second is None else replace(sums, second=stored_array(sums.second))


@dataclass(frozen=True)
class _Estimate:
    """Mean (C,) and covariance of samples, and the effective number of ``independent`` samples."""

    mean: Array
    covariance: Covariance
    independent: float

    @classmethod
    def of(cls, sums: ChannelSums, tensor: str, about: Array | None = None) -> _Estimate:
        """``about``: the mean that deviations are from; that of the samples by default."""
        if not all(np.isfinite(a).all() for a in (sums.first, sums.second, sums.rows) if a is not None):
            what = f"the square of {tensor}" if np.isfinite(sums.means).all() else tensor
            raise RunError(f"{what} of the original is not finite on the samples")
        mean = sums.first / sums.count if sums.rows is None else sums.rows.mean(axis=0)
        about = mean if about is None else about
        covariance: Covariance
        if sums.rows is not None:
            covariance = LowRankCovariance.of_rows(sums.rows, about, sums.count).stored()
        else:
            assert sums.second is not None
            matrix = sums.second / sums.count
            matrix -= np.outer(mean, mean)
            if about is not mean:
                matrix += np.outer(mean - about, mean - about)
            covariance = DenseCovariance(matrix).stored()
        independent = independent_samples(float(covariance.variances.sum()), sums.count, sums.means)
        return cls(mean, covariance, independent)

    def of_share(self, distinct: float) -> _Estimate:
        """The estimate where only the share ``distinct`` of the samples does not repeat others."""
        return replace(self, independent=max(1.0, distinct * self.independent)) if distinct < 1 else self

    def believed(self, before: _Estimate | None, factor: float = 1.0) -> Covariance:
        """Shrinkage estimate of the covariance on new samples.

        ``before``: estimate for the feature map before the pooling, which is then the shrinkage target; ``factor``:
        multiplies the shrinkage intensity of the formula.
        """
        if before is None:
            return self.covariance.shrunk(self.independent, factor)
        target = before.believed(None).dense()
        return DenseCovariance(shrunk_toward(self.covariance.dense(), self.independent, target, factor))


def occurrences(term: Term, atom: Atom) -> list[tuple[int, int, int]]:
    """(start, outer, inner) of each occurrence of ``atom`` on an axis. Empty if one of them has not this form."""
    term = algebra.resolve(term)
    if isinstance(term, Atom):
        return [(0, 1, 1)] if term is atom else []
    if isinstance(term, Product):
        at = [i for i, factor in enumerate(term.factors) if factor is atom]
        if len(at) != 1 or sum(a is atom for a in algebra.atoms(term)) != 1:
            return []
        outer, inner = (algebra.size(algebra.product(f)) for f in (term.factors[: at[0]], term.factors[at[0] + 1 :]))
        return [(0, outer, inner)]
    found, start = [], 0
    for part in term.parts:
        inside = occurrences(part, atom)
        if not inside and atom in algebra.atoms(part):
            return []
        found += [(start + s, outer, inner) for s, outer, inner in inside]
        start += algebra.size(part)
    return found
