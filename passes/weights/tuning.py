"""Tunables of weights that stay in files. They trade memory against time, and change no result."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StoredWeightsTuning:
    """When weights stay in files, and how much of them is in memory (`passes.weights.stored_tensors`)."""

    model_bytes: int = 2**27
    """Bytes of weights from which a model's large tensors stay in their file. Below, a model is copied as a whole where
    it is convenient, and sessions pack its weights: faster, at several times the weights in memory. Not tuned: the
    program alone takes twice as much."""
    tensor_bytes: int = 2**18
    """Bytes from which a tensor of such a model is stored, and mapped. Not tuned: 64 pages; the smaller ones together
    are a small share of a large model."""
    resident_bytes: int = 2**27
    """Bytes that are handed out before the pages of all mapped files are dropped. Pages that are dropped and used again
    are mapped anew, which takes some microseconds for each 64 kB. Not tuned: a share of what the program takes."""


STORED_WEIGHTS = StoredWeightsTuning()
