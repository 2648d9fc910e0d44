"""The graph of a model: a typed read-only view, patches that edit it, and local functions."""
