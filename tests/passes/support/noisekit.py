"""Noise over signal in one call."""

from passes.numerics.noise_to_signal import NoiseMeter


def noise_over_signal(exact, now):
    """Of an output (samples, ...)."""
    meter = NoiseMeter()
    meter.add(exact, now)
    return meter.result()
