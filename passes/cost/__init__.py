"""What a model costs: parameters, multiply-adds and bytes, also as a function of its widths."""
