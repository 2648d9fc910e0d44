"""Shapes of tensors: which sizes are dynamic, and the integers computed from them."""
