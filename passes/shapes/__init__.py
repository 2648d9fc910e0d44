"""Shapes of tensors: inference, dynamic sizes, and integers computed from shapes."""
