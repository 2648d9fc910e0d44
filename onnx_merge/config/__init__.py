"""Definitions of all options, and conversion of text to their values."""
