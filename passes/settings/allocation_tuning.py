"""Tunables of allocation, and of measuring losses for it: see `passes.settings.tuning`."""

from __future__ import annotations

from dataclasses import dataclass

from passes.settings.object_tuning import ObjectTuning


@dataclass(frozen=True)
class AllocationTuning:
    """How a budget is spread over groups (`passes.allocation`)."""

    rough_deviation: float = 0.05
    """Relative deviation from the cost that ``keep`` implies within which no smaller blocks are tried. Trades wide
    blocks, which run faster, against the exact size. Not tuned: 5% of the multiply-adds are 2.5% of the channels."""
    block_tolerance: float = 1.25
    """Loss, as a multiple of the least, up to which the largest blocks win: speed against loss. Settled on test images.
    """
    padded_tolerance: float = 1.3
    """Loss, as a multiple of the least, up to which the smallest block wins that kernels pad at no cost
    (`passes.settings.blocks.PADDED`): widths off it run slowly. Settled on test images, where 1.5 cost the ResNet-56
    2.3 points without data."""
    comparable_noise: float = 2.0
    """Noise over signal in the outputs, with all groups cut, up to which it ranks allocations. Beyond it the sum of the
    groups' own losses ranks them. Settled on test images: at small budgets only noise is left before layers are solved.
    """
    target_deviation: float = 0.01
    """Relative deviation within which a target of the user's is met: exact size against sizes that no widths come near.
    Not tuned: it is what ``--target-macs`` promises."""
    parameter_recounts: int = 3
    """Largest number of recounts of a result's parameters to find widths that fit: exact size against time. Not tuned:
    a recount corrects for biases, a small share of the parameters."""
    width_choices: int = 64
    """Widths that are tried for each group of many channels: exact size against time. Not tuned: steps of 1/64 of a
    group."""
    adjusted_widths: int = 4
    """Widths on each side of a group's own that are tried to come nearer to a goal: exact size against time. Not tuned:
    with 24 groups these are 276 pairs of groups, and 81 pairs of widths for each."""
    paired_groups: int = 24
    """Number of groups up to which pairs of groups are adjusted together: exact size against time. Not tuned: see
    `adjusted_widths`."""
    least_loss: float = 1e-9
    """Share of the readers' variance below which a loss counts as zero. Its inverse bounds the loss of the outputs. Not
    tuned: an amplitude of 3e-5, about the rounding of a deep float32 network."""
    steepest_power: float = 3.0
    """Largest exponent of the lost share with which the outputs' loss is extrapolated beyond the measured widths. Not
    tuned: it bounds an extrapolation."""


@dataclass(frozen=True)
class SensitivityTuning:
    """How the loss of the outputs is measured with groups cut (`passes.allocation.sensitivity`)."""

    shares: tuple[float, ...] = (0.5, 0.75, 0.25, 0.1)
    """Shares of a group's channels at which its loss is measured. Only the first is used where runs are expensive, and
    decides on the others: see `robust` and `fragile`. Settled on test images: without the last, the ResNet-56 lost 1.1
    points at keep 0.35."""
    robust: float = 0.003
    """Loss at the first share up to which no larger share is measured: such a group loses more channels. Not tuned: a
    correlation of the outputs of 0.9985."""
    fragile: float = 3.0
    """Loss at the first share from which on no smaller share is measured: such a group loses fewer. Not tuned: a
    correlation of the outputs of 0.5, at which little is left of them."""
    fewest_samples: int = 8
    """Samples below which fewer widths are measured instead. Not tuned: a correlation needs several samples."""
    most_samples: int = 64
    """Largest number of samples that losses are measured on: exact losses against time. Not tuned: a quarter of the 256
    samples that are the default."""
    sample_share: int = 4
    """Losses are measured on one sample in so many. The others provide the statistics for plans. Not tuned: most
    samples are left to the statistics."""
    multiply_adds: float = 4e11
    """Approximate multiply-adds of all measurements together: exact losses against time. Not tuned: some eight seconds
    of a core at 5e10 a second, a quarter of AVX-512's peak."""
    most_noise: float = 1e4
    """Upper bound of noise over signal, at which an output counts as lost. Not tuned: reached at a correlation of 0.01.
    """
    objects: ObjectTuning = ObjectTuning()
    block: int = 2**21
    """Number of output values that are compared at once: time against memory. Not tuned: 16 MB of float64."""
