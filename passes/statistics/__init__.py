"""Samples run through a model segment by segment: moments of what layers read, within a memory budget."""
