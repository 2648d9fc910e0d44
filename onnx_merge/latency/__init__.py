"""Measure the latency of models, and the channel counts at which kernels are fast."""
