"""The inputs of a model: dynamic dimensions, sizes at which it runs, valid values, and fixed values and shapes."""
