"""The inputs of a model: dynamic dimensions, sizes at which it runs, valid values, and values or shapes fixed by the
user."""
