"""Residual streams of transformers, where they begin and end."""
