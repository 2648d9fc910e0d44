"""Tunables of the numerical routines, each with what it trades and where it was settled."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RidgeTuning:
    """Of `passes.numerics.ridge`."""

    strengths: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, 1000.0)
    """Strengths to choose from, relative to each feature's own second moment. A finer grid takes longer; on a ResNet-56
    at keep 0.4 it changed nothing."""
    outputs: int = 64
    """Outputs, evenly spaced, by which one strength is chosen for all: more of them cost time."""
    least_moment: float = 0.3
    """Least second moment of a feature that the ridge goes by, relative to the mean of all. It gives up fit on the
    samples, and keeps weights of features that hardly vary on them from growing without bound. Settled on a VGG-16,
    where without it a few test images came out with logits in the thousands."""
    equal_losses: float = 1e-12
    """Share of the targets' power within which two losses are equal but for rounding."""


@dataclass(frozen=True)
class SubsetTuning:
    """Of `passes.numerics.subset`."""

    most_greedy: int = 2048
    """Channels up to which they are chosen greedily, in C^3 operations; of more each is judged alone."""
    delayed_downdates: int = 16
    """Choices whose downdates are applied together: more of them save passes over memory, and make each choice dearer.
    It does not change what is chosen but for rounding."""
    explained: float = 1e-9
    """Share of its variance below which a channel is explained but for rounding, and has nothing to add."""


@dataclass(frozen=True)
class GaussNewtonTuning:
    """Of `passes.numerics.gauss_newton`."""

    double_features: int = 1024
    """Features up to which systems are solved in float64. Larger ones are solved in float32, in half the time: damped
    as strongly as they are here, they gain nothing by more digits."""
    least_gain: float = 0.003
    """Share of what is left of the loss that a step has to gain for another to follow: loss against time. Settled on
    a ResNet-56 and a VGG-16, judged by CIFAR-10's test images (docs/reconstruction.md)."""
    backtrack: float = 4.0
    """Factor by which a step that raised the loss is shortened."""


@dataclass(frozen=True)
class ShrinkageTuning:
    """Of `passes.numerics.shrinkage`."""

    dead_variance: float = 1e-9
    """Variance, relative to the largest, below which a channel counts as constant and is not shrunk."""
    factors: tuple[float, ...] = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03)
    """Factors on the share of the shrinkage formula, chosen from by cross-validation: the formula goes by the large
    directions of a covariance, the losses by the small ones. A finer grid takes longer."""


@dataclass(frozen=True)
class MatchTuning:
    """Of what compares channels: `passes.numerics.similarity`, `passes.numerics.norms`, `passes.numerics.reprune`."""

    equal_scores: float = 1e-6
    """Scores closer than this are equal, and the first channel is taken: float32 dot products do not resolve it, and a
    matrix product rounds equal columns differently at its tiles' edges. The same for distances of biases, relative to
    the biases."""
    equal_distances: float = 1e-6
    """Distances to a centre that agree this far, relative to the members' size, are equal. The members of a cluster of
    two, and orthogonal ones of one size, are equally far from their centre; rounding must not elect."""
    tile: int = 256
    """Rows of a matrix of similarities or distances that exist at one time: memory against time."""
    paired_rows: int = 4096
    """Rows up to which each distance of two is computed once, and all exist at one time in 12 bytes for each pair; of
    more, each is computed twice: time against memory."""


@dataclass(frozen=True)
class NoiseTuning:
    """Of `passes.numerics.noise_to_signal`."""

    scale_gap: float = 3.0
    """Ratio of spreads beyond which the next larger channels are of another scale: in one sum, what is smaller by this
    would count for about a tenth. Settled on detectors with boxes in pixels: between 2.5 and 30 no figure moves by more
    than a third (320n.onnx of the package nudenet, whose scores are smaller by 400)."""
    longest_channels: int = 512
    """Indices of an axis that can be one of channels, at most; a longer one is taken for places."""
    faint: float = 1e-3
    """Spread relative to the level (root mean square) below which the samples hardly move a value, and test nothing."""
    rounding: float = 4.0
    """Spread relative to the level, in units of the last place, that is rounding: nothing varies."""
    unlikely: float = 0.1
    """Largest value up to which scores in 0..1 decide nothing: no sample shows anything."""
    block: int = 2**20
    """Values that are compared at a time, about: memory against time."""


@dataclass(frozen=True)
class LinearAlgebraTuning:
    """Of `passes.numerics.mixing` and `passes.numerics.blas_threads`: time alone."""

    sparse_entries: int = 3
    """Entries in a row of a scaling matrix, on average, up to which it is applied as a sparse one, as that of a merge
    is; a prediction fills its rows, and a dense matrix product is then many times faster."""
    threaded_unknowns: int = 1024
    """Unknowns from which on a linear system is worth more than one thread of BLAS."""


@dataclass(frozen=True)
class NumericsTuning:
    """Of all numerical routines."""

    ridge: RidgeTuning = RidgeTuning()
    subset: SubsetTuning = SubsetTuning()
    gauss_newton: GaussNewtonTuning = GaussNewtonTuning()
    shrinkage: ShrinkageTuning = ShrinkageTuning()
    match: MatchTuning = MatchTuning()
    noise: NoiseTuning = NoiseTuning()
    linear_algebra: LinearAlgebraTuning = LinearAlgebraTuning()


NUMERICS = NumericsTuning()
"""What the routines go by where they are given nothing else."""
