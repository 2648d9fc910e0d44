"""Implements MostSim: every removed channel is merged into the most similar kept channel.

Neuron Merging (Kim et al., NeurIPS 2020), Algorithm 1: the partner is the kept neuron with the highest cosine, the
scale the ratio of norms. Rows of fully connected layers include the bias as one more weight. For convolutions, lambda
weights cosine distance against bias distance. BatchNormalization is folded before, so that weights and bias have one
ratio.
"""

from __future__ import annotations

import numpy as np

from passes.channels.weights import Signature
from passes.graph.model import Array
from passes.numerics.similarity import best_match
from passes.numerics.tuning import NUMERICS, MatchTuning
from passes.settings.merge import MergeSettings


def most_similar(
    sign: Signature, keep: Array, removed: Array, settings: MergeSettings, tuning: MatchTuning = NUMERICS.match
) -> tuple[Array, Array]:
    """Partner (R,), -1 where no kept channel is similar enough, and scale (R,) of every removed channel."""
    rows = sign.full if sign.dense else sign.rows
    biases = sign.biases[:, :0] if sign.dense else sign.biases
    partner, cosine, scale = best_match(rows, biases, keep, removed, settings.lam, tuning)
    return np.where((cosine < settings.threshold) | (scale == 0.0), -1, partner), scale
