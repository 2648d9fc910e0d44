"""Tunables of the passes, each with what it trades and where it was settled.

"Judged by test images" means: accuracy and divergence of a ResNet-56 and a VGG-16 on CIFAR-10's test images, as
docs/allocation.md and docs/reconstruction.md report them. Where nothing is said, a value was set by what it bounds.
"""

from __future__ import annotations

from dataclasses import dataclass

from passes.numerics.tuning import NUMERICS, NumericsTuning


@dataclass(frozen=True)
class AllocationTuning:
    """How a budget is spread over groups (`passes.allocation`)."""

    rough_deviation: float = 0.05
    """Relative deviation from the cost that ``keep`` stands for within which no smaller blocks are tried: wide blocks,
    which run faster, against the exact size."""
    block_tolerance: float = 1.25
    """Loss, as a multiple of the least, up to which the largest blocks win: speed against loss. Judged by test images.
    """
    padded_tolerance: float = 1.3
    """The same for the smallest block that kernels pad at no cost (`passes.settings.blocks.PADDED`): widths off it run
    slowly. Judged by test images, where 1.5 cost the ResNet-56 2.3 points without data."""
    comparable_noise: float = 2.0
    """Noise over signal in the outputs, with all groups cut, up to which it ranks ways to spread a budget; beyond it
    the sum of the groups' own losses does. Judged by test images: at small budgets only noise is left before layers
    are solved."""
    parameter_recounts: int = 3
    """Times that the parameters of a result are counted, at most, to find widths that fit: exact size against time."""
    width_choices: int = 64
    """Widths that are tried for each group of many channels: exact size against time."""
    adjusted_widths: int = 4
    """Widths on each side of a group's own that are tried to come nearer to a goal: exact size against time."""
    paired_groups: int = 24
    """Groups up to which two of them are changed at once for that: exact size against time."""
    least_loss: float = 1e-9
    """Share of the readers' variance below which nothing counts as lost; its inverse bounds what the outputs lose."""
    steepest_power: float = 3.0
    """Power of the share lost with which the outputs' loss grows, at most, beyond the widths that were measured."""


@dataclass(frozen=True)
class SensitivityTuning:
    """How the loss of the outputs is measured with groups cut (`passes.allocation.sensitivity`)."""

    shares: tuple[float, ...] = (0.75, 0.5, 0.25, 0.1)
    """Of a group's channels that are left when it is measured; the second alone where runs are dear. Judged by test
    images: without the last, the ResNet-56 lost 1.1 points at keep 0.35."""
    fewest_samples: int = 8
    """Samples below which fewer widths are measured instead."""
    most_samples: int = 64
    """Samples that losses are measured on, at most: exact losses against time."""
    sample_share: int = 4
    """One of so many samples is one that losses are measured on: the others show what plans rest on."""
    multiply_adds: float = 4e11
    """Of all measurements together, about: exact losses against time."""
    most_noise: float = 1e4
    """Noise over signal beyond which everything is lost."""
    block: int = 2**21
    """Values of an output that are compared together, at least: time against memory."""


@dataclass(frozen=True)
class ReconstructionTuning:
    """How layers are solved anew on samples (`passes.reconstruction`). A unit is two layers solved together."""

    diverged: float = 4.0
    """Relative error of the outputs beyond which a solution is discarded: far above what any useful result has."""
    made_up_multiply_adds: float = 4e11
    """Of a run over samples that nobody gave: large models get fewer of them, in less time."""
    fewest_made_up: int = 32
    """Made-up samples that even the largest models get."""
    fewest_distinct: int = 2
    """Samples below which nothing is solved."""

    regression_places: int = 32
    """Places for each feature beyond which a layer's regression looks at no more: exact moments against time. More of
    them changed nothing for a ResNet-56 at keep 0.4."""
    fewest_regression_places: int = 16384
    """Places that it looks at however few features there are."""
    joined_bytes: int = 2**25
    """Of what a layer reads and gives whose moments are computed together: memory against time."""
    most_primal_features: int = 6144
    """Features beyond which places are thinned out until there are fewer of them than features: a system of the places'
    size is then solved, in less time and memory."""
    primal_bytes: int = 22
    """Of memory for each pair of features below which that is done sooner."""

    most_steps: int = 40
    """Steps of a unit: loss against time. Judged by test images, with `GaussNewtonTuning.least_gain`."""
    typical_steps: int = 12
    """Steps after which a unit mostly stops, by which its time is estimated."""
    step_passes: int = 4
    """What a step costs, in passes through the unit, by which its time is estimated."""
    damping: float = 0.1
    """Of a unit's metrics, relative to their diagonals: short, safe steps against long ones. Judged by test images:
    0.03 and 0.3 make no difference on the ResNet-56, 0.3 and 1.0 are worse on the VGG-16."""
    curvature_share: int = 4
    """A step's length is found on one batch in so many: it is but one number, and each batch costs time."""
    fewest_places: int = 32
    """Places for each feature of a unit that it sees whatever that costs, if there are as many."""
    most_places: int = 512
    """Places for each feature that are enough for a unit: exact solutions against time."""
    unit_samples: int = 128
    """Samples that a unit sees while its places are fewer than that. Judged by test images: 64 lose little."""
    fewest_unit_samples: int = 8
    """Samples that a unit sees whatever they cost."""
    unit_multiply_adds: float = 4.5e12
    """Of all units of a model together, beyond which they see fewer samples: exact solutions against time."""
    unit_operations: float = 3e11
    """Of linear algebra for a unit, beyond which it stays as solved layer by layer: loss against time."""
    difference_step: float = 1e-3
    """Of a finite difference, relative to 1 + |x|: rounding and curvature then both cost about 1e-4 of a slope."""


@dataclass(frozen=True)
class StatisticsTuning:
    """What samples say of channels (`passes.statistics.observer`, `passes.channels.statistics`)."""

    ample_samples: int = 16
    """Independent samples for each channel from which on those that losses are measured on serve too: the samples that
    showed a covariance are predicted by it little better than others are, by 2 K / n for K of n, an eighth at most."""
    prediction_ridge: float = 1e-2
    """Of the covariance of kept channels, relative to its diagonal, where others are predicted from them: fit on the
    samples against size of the weights. Once layers are solved it hardly matters (docs/reconstruction.md)."""
    gram_strips: int = 3
    """Strips in which a product P P^T, which is symmetric, is computed: three save a third of the work."""
    strip_features: int = 512
    """Features from which on that is done: below, more products cost more than they save."""


@dataclass(frozen=True)
class RedundancyTuning:
    """Which channels cost nothing (`passes.channels.redundant`, `passes.channels.value_bounds`): channels found against
    deviations of the outputs. All are rounding errors of float32 but the third."""

    parallel_tolerance: float = 1e-6
    """Largest relative deviation at which two float32 channels count as multiples of each other."""
    negligible_share: float = 1e-8
    """Share of the largest channel below which a channel's contribution to a sum is lost in float32's rounding."""
    recorded_deviations: float = 1e4
    """Standard deviations that a value may lie from the mean that BatchNormalization recorded. None of n values lies
    farther than the square root of n: this allows for training on a hundred million values of a channel."""
    constant_width: float = 1e-6
    """Width of an interval, relative to its size, at which float32 holds one value."""


@dataclass(frozen=True)
class MemoryTuning:
    """What is counted as taken where samples are fitted into ``--memory-limit`` (`passes.statistics.sample_budget`):
    too little overruns the limit, too much leaves samples out."""

    batch: int = 32
    """Samples that go through the model together, where it leaves their number open: time against memory."""
    fewest_samples: int = 4
    """Samples below which nothing is solved."""
    sample_copies: int = 2
    """Of a sample itself, besides the one that was loaded: as cut into batches, as joined with others."""
    compressed_activations: int = 2
    """What a compressed model's activations take, in times of the original's, where no layers are known."""
    compared_outputs: int = 2
    """Outputs held while a loss is measured: of the original, and of the model with a group cut."""
    working: int = 10
    """What a batch takes while it is computed with, in times of what the widest node reads and makes."""
    normed: int = 10
    """Live activations that are held while all samples go through BatchNormalization as arithmetic."""
    weight_copies: int = 7
    """Of the weights: original, normalised, folded, restandardised and compressed model, as protobuf and as arrays."""
    gram_bytes: int = 56
    """For each pair of features whose products are taken."""
    covariance_bytes: int = 64
    """For each pair of channels while some are predicted from others."""
    statistics_bytes: int = 12
    """For each pair of channels as long as what samples say of them is kept."""
    moment_bytes: int = 2**27
    """Of a layer's moments while they are computed, where there is as much: small batches are joined
    (`ReconstructionTuning.joined_bytes`)."""
    recorded_share: float = 0.25
    """Of the memory, for what the original gives its layers, kept from its run to the solving: memory against a second
    run."""
    matrix_share: float = 0.9
    """Of the memory, for the matrices of a layer, at most."""
    working_share: float = 0.25
    """Of the memory, for what a batch takes while it is computed with."""
    moment_share: float = 0.35
    """Of the memory, for what the moments of a layer take while they are computed."""


@dataclass(frozen=True)
class Tuning:
    """Of all passes."""

    allocation: AllocationTuning = AllocationTuning()
    sensitivity: SensitivityTuning = SensitivityTuning()
    reconstruction: ReconstructionTuning = ReconstructionTuning()
    statistics: StatisticsTuning = StatisticsTuning()
    redundancy: RedundancyTuning = RedundancyTuning()
    memory: MemoryTuning = MemoryTuning()
    numerics: NumericsTuning = NUMERICS


TUNING = Tuning()
"""What the passes go by where they are given nothing else. These are read from here alone, whatever a `Compressor` is
given: `RedundancyTuning.constant_width`, `ReconstructionTuning.difference_step`, `ShrinkageTuning.dead_variance`,
`LinearAlgebraTuning`, `MatchTuning` in `passes.planning.criteria`, and `NoiseTuning`, by which results are judged."""
