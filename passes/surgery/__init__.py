"""Applies a plan to a model: cuts tensors, mixes consumers' weights, updates integers that name sizes."""
