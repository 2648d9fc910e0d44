"""Computes the mean of a channel over the training data from the parameters of BatchNormalization.

After training, each channel of a norm's output has mean ``beta`` and standard deviation ``|gamma|`` over the training
data. If the channel is assumed normal, the mean behind the activation follows by quadrature: E f(beta + |gamma| z). The
change of that mean by a merge is a constant. The consumer's bias can correct it without any sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from passes.axes.channel_groups import ChannelGroup, Step
from passes.axes.inference import Role, Typing
from passes.axes.op_facts import Joins
from passes.channels.transfer import Joined, Kept, Mapped, Scaled, transfer
from passes.channels.weights import along_outputs
from passes.graph.model import Array
from passes.transforms.fold_batchnorm import FoldedNorm

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(33)
"""Gauss-Hermite quadrature for the standard normal density. The weights are not divided by their sum."""


@dataclass(frozen=True)
class QuadratureDistribution:
    """Distribution of each channel as a function of a standard normal variable, given at the nodes of a quadrature.

    ``values`` (C, Q): each channel at the nodes; ``source``: the normal variable, named by the producer of the channel
    or, behind a sum, by the node that added several.
    """

    values: Array
    source: str

    @property
    def mean(self) -> Array:
        """Mean of each channel, (C,)."""
        return np.asarray(self.values @ WEIGHTS / WEIGHTS.sum())

    @property
    def variance(self) -> Array:
        """Variance of each channel, (C,)."""
        return np.asarray((self.values - self.mean[:, None]) ** 2 @ WEIGHTS / WEIGHTS.sum())


def recorded_distributions(
    typing: Typing, group: ChannelGroup, norms: Mapping[str, FoldedNorm]
) -> dict[str, QuadratureDistribution]:
    """Tensor -> distribution of the group's channels, for the tensors where it is known.

    A sum of several layers (a residual) is assumed normal too, and its terms independent. Max pooling is assumed to
    pass the mean on, which is a lower bound.
    """
    at: dict[str, QuadratureDistribution] = {}
    for step in group.steps:
        made = _recorded_distribution(typing, group, step, norms) if step.produced else None
        if made is not None:
            at.update((name, made) for name in step.produced)
        written = {*step.produced}
        for data, outputs in step.through:
            known = [at[name] for name in data if name in at]
            passed = _passed(typing, group, step, known) if len(known) == len(data) else None
            for name in outputs:
                if passed is None or name in written:  # a channel that occurs twice may have two means
                    at.pop(name, None)
                else:
                    at[name] = passed
            written.update(outputs)
    return at


def _recorded_distribution(
    typing: Typing, group: ChannelGroup, step: Step, norms: Mapping[str, FoldedNorm]
) -> QuadratureDistribution | None:
    """The statistics that the norm recorded for the channels of ``step``. None where no norm was folded into it."""
    for use in step.with_role(Role.PRODUCER):
        if use.constant in norms and not step.is_offset(use):
            norm = norms[use.constant]
            mean, std = (along_outputs(typing, group, step, v) for v in (norm.mean, norm.std))
            if mean.shape[1] == 1:  # several channels of the tensor to one of the group have several means
                return QuadratureDistribution(np.asarray(mean + std * NODES), step.label)
    return None


def _passed(
    typing: Typing, group: ChannelGroup, step: Step, known: list[QuadratureDistribution]
) -> QuadratureDistribution | None:
    """The distribution behind ``step``. None where it does not follow from the distributions before it."""
    first = known[0]
    match transfer(typing, group, step, len(known)):
        case Kept(beside=[]):  # beside constants, as in a Concat, the channel has another mean
            return first
        case Joined(Joins.DIFFERENCE):
            return None
        case Joined(how) if len({one.source for one in known}) == 1:
            values = [one.values for one in known]
            joined = np.sum(values, axis=0) if how is Joins.SUM else np.prod(values, axis=0)
            return QuadratureDistribution(joined, first.source)
        case Joined(Joins.SUM):
            mean, variance = np.sum([k.mean for k in known], axis=0), np.sum([k.variance for k in known], axis=0)
            return QuadratureDistribution(mean[:, None] + np.sqrt(variance)[:, None] * NODES, step.label)
        case Scaled(a, t, norm=False):
            return QuadratureDistribution(first.values * a[:, None] + t[:, None], first.source)
        case Mapped(function):
            return QuadratureDistribution(function(first.values), first.source)
    return None
