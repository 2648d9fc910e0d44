"""Transforms that preserve what a model computes, such as normalisation and constant folding."""
