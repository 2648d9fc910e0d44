"""Defines the settings of Neuron Merging."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MergeSettings:
    """``lam``: weight of the cosine distance against the bias distance; ``threshold``: the smallest cosine at which a
    channel is merged rather than dropped. The defaults are those of Neuron Merging (Kim et al., NeurIPS 2020)."""

    lam: float = 0.85
    threshold: float = 0.1
