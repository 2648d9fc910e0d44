"""Tunables of transforms and of redundant channels, which need no samples: see `passes.settings.tuning`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TransformTuning:
    """Passes that keep what a model computes (`passes.transforms`), and cuts of tensors (`passes.surgery`)."""

    dense_growth: int = 4
    """Largest size of a dense tensor, relative to the bytes of the sparse one including positions: layers found against
    the size of the file. Not tuned: float32 tensors with 64-bit positions become dense from one value in twelve on."""
    small_matrix: int = 16
    """Largest number of elements of a matrix that may be stored twice, so that both its readers can be cut: layers
    found against the size of the file. Not tuned: 64 bytes, less than the node that reads them."""
    copied_vector: int = 2**16
    """Largest number of elements of a vector that is copied for each reader, for the same reason. Not tuned: 256 kB of
    float32; axes of channels are shorter."""
    copied_elements: int = 4096
    """Largest number of elements of a constant of several axes that is copied for each reader. Not tuned: 16 kB of
    float32."""
    body_sizes: tuple[int, ...] = (2, 3, 5, 7)
    """Sizes, by assignment, of dims that vary only inside a body: small and prime to each other, so that sizes that
    happen to be equal at one assignment differ at another. Not tuned: the smallest primes."""
    trial_share: float = 2 / 3
    """Share of its channels that an axis is tested with before it may shrink. Not tuned: any share below one serves."""


@dataclass(frozen=True)
class RedundancyTuning:
    """Which channels are redundant (`passes.channels.redundant`, `passes.channels.value_bounds`): channels found
    against deviation of the outputs. Not tuned: all values but the third are rounding errors of float32, and the third
    follows from an inequality."""

    parallel_tolerance: float = 1e-6
    """Largest relative deviation at which two float32 channels count as multiples of each other."""
    negligible_share: float = 1e-8
    """Share of the largest channel below which a channel's contribution to a sum is lost in float32's rounding."""
    recorded_deviations: float = 1e4
    """Largest distance of a value from the mean that BatchNormalization recorded, in standard deviations. None of n
    values is farther away than the square root of n. The value allows for a hundred million values of a channel."""
    most_places: int = 2**18
    """Largest number of places of a tensor whose values are bounded each by itself, rather than by channel: memory. Not
    tuned: 4 MB; the axes of fused weights of attention are shorter."""
    constant_width: float = 1e-6
    """Width of an interval, relative to its size, at which float32 holds one value."""
