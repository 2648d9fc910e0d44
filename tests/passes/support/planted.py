"""Plants redundant channels into a network without changing its function."""

import numpy as np
from netkit import random_weight


def copies(n, factor, seed=0):
    """Where the channels of a layer widened ``factor`` times come from: (C,) source channels and (C,) scales.

    The originals come first with scale 1; the copies are of random channels, at scales between 0.25 and 4.
    """
    rng = np.random.default_rng(seed)
    extra = int(round(n * (factor - 1)))
    source = np.concatenate([np.arange(n), rng.integers(0, n, extra)])
    scale = np.concatenate([np.ones(n), np.exp(rng.uniform(np.log(0.25), np.log(4), extra))])
    return source, scale


def shares(source, scale, seed=1):
    """(C,) what a consumer multiplies the original column with at each channel: the shares of a channel add up to 1."""
    rng = np.random.default_rng(seed)
    raw = rng.uniform(0.2, 1.0, len(source))
    return raw / np.bincount(source, raw)[source] / scale


def grown(array, axis, source, factor=None):
    """``array`` with the channels ``source`` along ``axis``, each multiplied with its ``factor``."""
    wide = np.take(array, source, axis).astype(np.float64)
    if factor is not None:
        wide *= np.reshape(factor, [-1 if a == axis else 1 for a in range(array.ndim)])
    return wide.astype(array.dtype)


def drawn(seed=0, **shapes):
    """Random weights by name."""
    return {name: random_weight(name, shape, seed) for name, shape in shapes.items()}
