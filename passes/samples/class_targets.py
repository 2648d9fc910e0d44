"""Classes that made-up samples of a classifier are moved to: each sample is to be one of a class, and all classes are
to occur (Yin et al., DeepInversion, CVPR 2020, equation 2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax

from passes.graph.model import Array, Graph
from passes.settings.sample_tuning import SampleMatchingTuning

NO_LOGITS = {"Softmax", "Sigmoid", "HardSigmoid"}
"""Ops after which values are no logits: probabilities, or scores of labels that do not exclude each other."""


@dataclass(frozen=True)
class ClassScores:
    """The ``tensor`` of a classifier's logits: (N, K) or (N, K, 1, ...), K the ``classes``."""

    tensor: str
    classes: int
    rank: int

    def line(self, values: Array) -> Array:
        """(N, K) or (N, 1) in the rank of the tensor."""
        return values.reshape(*values.shape, *[1] * (self.rank - 2)).astype(np.float32)


def class_scores(graph: Graph, samples: int) -> ClassScores | None:
    """The logits of the only output of ``graph`` that looks like scores of classes; None if there is not one.

    ``graph``: with the shapes of a batch of so many ``samples``.
    """
    makers = {name: node for node in graph.nodes for name in node.outputs}
    found = [name for name in graph.outputs if name in makers and _is_scores(graph, name, samples)]
    if len(found) != 1:
        return None
    name, node = found[0], makers[found[0]]
    rank = len(graph.shape(name) or ())
    if node.op == "Softmax" and node.attrs.get("axis", -1) % rank == 1:
        name = node.inputs[0]
    elif node.op in NO_LOGITS:
        return None
    return ClassScores(name, int((graph.shape(name) or ())[1]), rank)


def _is_scores(graph: Graph, name: str, samples: int) -> bool:
    rows, *shape = graph.shape(name) or (0,)
    real = name not in graph.integers and rows == samples
    return real and bool(shape) and shape[0] > 1 and all(size == 1 for size in shape[1:])


def class_targets(logits: Array, tuning: SampleMatchingTuning) -> Array | None:
    """Target probabilities (N, K) for the ``logits`` (N, K) of samples. None where these do not look like classes.

    Each class is given to equally many samples, or to at most one where they are fewer, so that the samples are as near
    to their classes as can be.
    """
    from scipy.optimize import linear_sum_assignment  # here: its import takes a fifth of a second

    count, classes = logits.shape
    likely = log_softmax(logits.astype(np.float64), axis=1)
    entropy = -float((np.exp(likely) * likely).sum(1).mean())
    if not entropy <= tuning.most_entropy * np.log(classes):
        return None
    places = np.arange(-(-count // classes) * classes) % classes
    samples, taken = linear_sum_assignment(-likely[:, places])
    targets = np.full((count, classes), (1 - tuning.confidence) / classes)
    targets[samples, places[taken]] += tuning.confidence
    return targets.astype(np.float32)
