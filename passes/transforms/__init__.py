"""Passes that keep what a model computes: one form for what exporters write in several, constants folded."""
