"""Compress one model to several sizes, and compare the results."""
