"""Allocates widths: spreads a budget of parameters or multiply-adds over channel groups."""
