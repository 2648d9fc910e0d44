"""Covariances of samples, and of a known spectrum."""

import numpy as np


def covariance(x):
    """Of samples (n, C)."""
    return np.cov(x.T, bias=True)


def spectrum(size, seed=0, decay=0.5):
    """A square root of a covariance whose eigenvalues fall as a power."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.standard_normal((size, size)))[0]
    return basis * np.arange(1, size + 1) ** (-decay / 2)
