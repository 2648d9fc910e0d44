"""Inspection of a model: its channel groups, and what prevents the removal of channels."""
