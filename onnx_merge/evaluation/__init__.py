"""Evaluation of a result: fidelity of its outputs, the verdict, limits, and confidence bounds on its loss."""
