"""The mean of a channel over the training data, as BatchNormalization remembers it.

A norm leaves each channel with mean ``beta`` and standard deviation ``|gamma|`` over the data it was trained on. Taking
the channel for normal, the mean behind the activation follows by quadrature: E f(beta + |gamma| z). What a merge loses
of that mean is a constant, and the consumer's bias can make it good without a single sample.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from passes.fold_batchnorm import FoldedNorm
from passes.graph.groups import ChannelGroup, Step
from passes.graph.infer import Role, Typing
from passes.graph.model import Array
from passes.pointwise import KEEP_VALUES, pointwise
from passes.signature import along_channels, unfolded

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(33)
"""Gauss-Hermite quadrature for the standard normal density, up to the sum of the weights."""


def expected_values(typing: Typing, group: ChannelGroup, norms: Mapping[str, FoldedNorm]) -> dict[str, Array]:
    """Tensor -> (C,) mean of the group's channels, for the tensors that are known; none where the group has several
    producers or its producer had no norm. Max pooling counts as passing the mean on, which is a lower bound."""
    at: dict[str, Array] = {}  # (C, Q) values at the quadrature's nodes
    for step in group.steps:
        if step.produced:
            sample = _at_nodes(typing, group, step, norms)
            if sample is None or at:
                return {}
            at.update((name, sample) for name in step.produced)
        for data, outputs in step.through:
            known = [at[name] for name in data if name in at]
            passed = _passed(typing, group, step, known) if len(known) == len(data) else None
            if passed is not None:
                at.update((name, passed) for name in outputs)
    return {name: values @ WEIGHTS / WEIGHTS.sum() for name, values in at.items()}


def _at_nodes(typing: Typing, group: ChannelGroup, step: Step, norms: Mapping[str, FoldedNorm]) -> Array | None:
    for use in step.with_role(Role.PRODUCER):
        if use.constant in norms and not step.is_offset(use):
            norm = norms[use.constant]
            mean, std = (along_channels(typing, group, use, v) for v in (norm.mean, norm.std))
            if mean.shape[1] == 1:  # several channels of the tensor to one of the group have several means
                return np.asarray(mean + std * NODES)
    return None


def _passed(typing: Typing, group: ChannelGroup, step: Step, known: list[Array]) -> Array | None:
    node, graph = step.flow.record.node, typing.graph
    if node.op in KEEP_VALUES or node.op == "AveragePool":
        return known[0]
    if node.op in ("Add", "Mul", "Sum") and not step.uses and len(known) == len(node.inputs):
        return np.asarray(np.prod(known, axis=0) if node.op == "Mul" else np.sum(known, axis=0))
    if node.op in ("Add", "Mul") and len(step.uses) == 1 and step.uses[0].constant in graph.initializers:
        values = unfolded(typing, group, step.uses[0]).astype(np.float64)
        if values.shape[1] == 1:
            return np.asarray(known[0] * values if node.op == "Mul" else known[0] + values)
    function = pointwise(graph, node) if not step.uses else None
    return None if function is None else function(known[0])
