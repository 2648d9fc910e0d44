"""Provenance in a model's metadata, and the check that a model keeps what it says."""
