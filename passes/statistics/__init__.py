"""Runs calibration samples through a model in segments and collects moments of layer inputs within a memory budget."""
