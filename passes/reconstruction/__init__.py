"""Solves new weights, on samples, for the layers that read removed channels."""
