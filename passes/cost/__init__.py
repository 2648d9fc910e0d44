"""The cost of a model: parameters, multiply-adds and bytes, also as a function of its widths."""
