"""Axis inference: a term for each axis of each tensor, rules for each op, and the channel groups that follow."""
