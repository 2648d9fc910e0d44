"""Axis inference: a term for each axis of each tensor, a rule for each op, and the resulting channel groups."""
