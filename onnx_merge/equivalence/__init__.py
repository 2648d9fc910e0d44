"""Checks that the result is a valid model and computes what the original computes."""
