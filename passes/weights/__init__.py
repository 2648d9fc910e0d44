"""Weights of large models: they stay in files, which are mapped into memory."""
