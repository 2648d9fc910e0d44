"""Provenance in a model's metadata, and verification of the measurements recorded there."""
