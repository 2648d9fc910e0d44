"""Inspection of a model: its channel groups, and what prevents their removal. The model is not changed."""
