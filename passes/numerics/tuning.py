"""Tunables of the numerical routines, each with its trade-off and where its value comes from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RidgeTuning:
    """Tunables of `passes.numerics.ridge`."""

    strengths: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, 1000.0)
    """Strengths to choose from, relative to each feature's own second moment. Settled on test images (see
    `passes.settings.tuning`): a finer grid takes longer, and changed nothing for a ResNet-56 at keep 0.4."""
    outputs: int = 64
    """Outputs, evenly spaced, by which one strength is chosen for all: more of them cost time. Not tuned: a single
    number needs few of them."""
    least_moment: float = 0.3
    """Least second moment of a feature in the ridge, relative to the mean of all. A larger value fits the samples less,
    and keeps the weights of features that hardly vary on them bounded. Settled on test images and a VGG-16: without it
    a few test images got logits in the thousands."""
    equal_losses: float = 1e-12
    """Share of the targets' power within which two losses count as equal, for rounding. Not tuned: the order of
    float64's rounding in long sums."""


@dataclass(frozen=True)
class ProjectionTuning:
    """Tunables of `passes.numerics.projection`."""

    smallest_weight: float = 1e-4
    """Smallest eigenvalue of the readers' W^T W that counts, relative to the largest: what no layer reads still has a
    place, and maps stay invertible. Not tuned: a hundredth of the largest amplitude."""


@dataclass(frozen=True)
class SubsetTuning:
    """Tunables of `passes.numerics.subset`."""

    most_greedy: int = 2048
    """Largest number of channels that are chosen greedily, in C^3 operations. Above it each channel is judged alone.
    Not tuned: 9e9 operations, some seconds."""
    delayed_downdates: int = 16
    """Number of choices whose downdates are applied together. More of them save passes over memory, and make each
    choice slower. The choices are the same except for rounding. Not tuned: an update of rank 16 is a matrix product
    already."""
    explained: float = 1e-9
    """Share of its variance below which the rest of a channel is rounding error, and the channel adds nothing. Not
    tuned: an amplitude of 3e-5, about the rounding of activations in float32."""


@dataclass(frozen=True)
class GaussNewtonTuning:
    """Tunables of `passes.numerics.gauss_newton`."""

    double_features: int = 1024
    """Largest number of features of a system that is solved in float64. Larger systems are solved in float32, in half
    the time: they are damped so strongly that more precision gains nothing. Not tuned: below, a factorisation takes
    less than a second."""
    least_gain: float = 0.003
    """Share of the remaining loss that a step must gain for another step to follow: loss against time. Settled on test
    images (docs/reconstruction.md)."""
    backtrack: float = 4.0
    """Factor by which a step that raised the loss is shortened. Not tuned: a few shortenings cover a wide range of
    lengths."""


@dataclass(frozen=True)
class LBFGSTuning:
    """Tunables of `passes.numerics.lbfgs`."""

    history: int = 5
    """Steps by which the curvature is estimated, each in the memory of two points. Settled on the deviations of made-up
    samples of classifiers of digits and of 32 x 32 images: 3, 5 and 8 leave as much."""
    least_curvature: float = 1e-8
    """Cosine between the changes of the point and of the gradient below which a step says nothing of the curvature. Not
    tuned: about the rounding of float32."""
    shortest: float = 0.1
    """Smallest factor by which a step that raised the value is shortened. Not tuned: a usual value."""
    longest: float = 0.5
    """Largest such factor. Not tuned: a usual value."""


@dataclass(frozen=True)
class AdamTuning:
    """Tunables of `passes.numerics.adam`."""

    mean_decay: float = 0.9
    """Decay of the mean of the gradients. Not tuned: the paper's."""
    square_decay: float = 0.99
    """Decay of the mean of their squares. The paper has 0.999, for runs that are many times longer. Not tuned: a mean
    over a hundred gradients, for runs of hundreds."""
    smallest: float = 1e-12
    """Root of a mean square to which each is raised: parts of an array without a gradient do not move. Not tuned: far
    below any gradient that matters."""
    rising_share: float = 0.05
    """Share of the steps over which the rate rises, while the mean squares rest on few gradients. Not tuned: ten of 200
    steps."""


@dataclass(frozen=True)
class MuonTuning:
    """Tunables of `passes.numerics.muon`."""

    decay: float = 0.95
    """Decay of the mean of the gradients. Not tuned: the sources' value. On samples left out of the calibration sets of
    a keyword spotter, a detector and a classifier, 0.9 leaves 1 to 3% more of the loss."""
    size: float = 0.3
    """Root mean square of the changes of a matrix, relative to the first steps of Adam at the same rate. Not tuned:
    about that of Adam's steps later on."""
    smallest: float = 1e-3
    """Singular value, relative to the largest, down from which directions do not count in full. Not tuned: a few times
    the root of float32's rounding."""


@dataclass(frozen=True)
class ShrinkageTuning:
    """Tunables of `passes.numerics.shrinkage`."""

    least_ridge: float = 1e-8
    """Addition to the variance of each channel that predicts others, relative to the largest variance, so that a
    covariance with equal channels can be inverted. Not tuned: far above float64's rounding, and an amplitude of 1e-4 of
    the largest."""

    dead_variance: float = 1e-9
    """Variance, relative to the largest, below which a channel counts as constant and is not shrunk. Not tuned: an
    amplitude of 3e-5 of the largest, about float32's rounding."""
    factors: tuple[float, ...] = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03)
    """Factors on the share of the shrinkage formula, chosen by cross-validation. The formula is dominated by the large
    directions of a covariance, the losses by the small ones. A finer grid takes longer. Not tuned: half decades."""


@dataclass(frozen=True)
class MatchTuning:
    """Tunables of channel comparison: `passes.numerics.similarity`, `passes.numerics.norms`,
    `passes.numerics.reprune`."""

    equal_scores: float = 1e-6
    """Scores closer than this are equal, and the first channel is taken. float32 dot products do not resolve smaller
    differences, and a matrix product rounds equal columns differently at its tiles' edges. Distances of biases,
    relative to the biases, have the same limit. Derived, not tuned."""
    equal_distances: float = 1e-6
    """Distances to a centre within this, relative to the members' size, are equal. The members of a cluster of two, and
    orthogonal members of one size, are equally far from their centre. Rounding must not decide between them. Not tuned:
    the order of float32's rounding."""
    tile: int = 256
    """Number of rows of a similarity or distance matrix in memory at one time: memory against time. Not tuned: 2 MB for
    2,048 channels."""
    pairs: int = 2**22
    """Cosines in memory at one time, if they are of at least `tile` rows: memory against time. Not tuned: 16 MB."""
    paired_rows: int = 4096
    """Largest number of rows for which each pairwise distance is computed once. All distances are then in memory at one
    time, at 12 bytes for each pair. Above it each distance is computed twice: time against memory. Not tuned: 200 MB.
    """


@dataclass(frozen=True)
class NoiseTuning:
    """Tunables of `passes.numerics.noise_to_signal`."""

    scale_gap: float = 3.0
    """Ratio of spreads beyond which the next larger channels are of another scale. In one sum, channels smaller by this
    ratio would count for about a tenth. Settled on detectors with boxes in pixels: between 2.5 and 30 no figure moves
    by more than a third (320n.onnx of the package nudenet, whose scores are smaller by 400)."""
    longest_channels: int = 512
    """Largest size of an axis that can be one of channels. A longer axis is taken for one of places. Not tuned:
    detectors and segmentations have some hundred channels, and thousands of places."""
    faint: float = 1e-3
    """Spread relative to the level (root mean square) below which the samples hardly change a value, and do not test
    it. Not tuned: a tenth of a percent."""
    rounding: float = 4.0
    """Spread relative to the level, in units of the last place, that is rounding: the value is constant. Not tuned: a
    few roundings on the way to an output."""
    unlikely: float = 0.1
    """Scores in 0..1 whose largest value is at most this decide nothing: no sample shows anything. Not tuned: detectors
    usually report from scores of 0.25 to 0.5 on."""
    block: int = 2**20
    """Approximate number of values that are compared at a time: memory against time. Not tuned: 8 MB of float64."""


@dataclass(frozen=True)
class LinearAlgebraTuning:
    """Tunables of `passes.numerics.mixing` and `passes.numerics.threads`. They affect the time only."""

    sparse_entries: int = 3
    """Average number of entries in a row of a scaling matrix up to which the matrix is applied as a sparse one. The
    matrix of a merge is sparse. A prediction fills its rows, and a dense matrix product is then many times faster. Not
    tuned: a merge has about one or two, a prediction as many as channels stay."""
    threaded_unknowns: int = 1024
    """Smallest number of unknowns of a linear system that uses more than one thread of BLAS. Not tuned: smaller systems
    take less time than threads take to start and to wait."""


@dataclass(frozen=True)
class GradientTuning:
    """In which form gradients of convolutions are computed: settled on the times that onnxruntime's CPU provider takes
    for layers of 7 x 7 to 112 x 112 places."""

    narrow_channels: int = 8
    """Input channels up to which the patches of all taps are multiplied at once: more copies, larger matrices."""


@dataclass(frozen=True)
class ParallelTuning:
    """Parts of a batch that run at the same time (`passes.numerics.threads`): time, and which samples a step draws."""

    multiply_adds: float = 2e7
    """Multiply-adds of the original in each part at least: smaller ones take as long to call. Not tuned: some
    milliseconds of a core."""


@dataclass(frozen=True)
class NumericsTuning:
    """Tunables of all numerical routines."""

    ridge: RidgeTuning = RidgeTuning()
    subset: SubsetTuning = SubsetTuning()
    projection: ProjectionTuning = ProjectionTuning()
    gauss_newton: GaussNewtonTuning = GaussNewtonTuning()
    lbfgs: LBFGSTuning = LBFGSTuning()
    adam: AdamTuning = AdamTuning()
    muon: MuonTuning = MuonTuning()
    shrinkage: ShrinkageTuning = ShrinkageTuning()
    match: MatchTuning = MatchTuning()
    noise: NoiseTuning = NoiseTuning()
    linear_algebra: LinearAlgebraTuning = LinearAlgebraTuning()
    gradients: GradientTuning = GradientTuning()
    parallel: ParallelTuning = ParallelTuning()


NUMERICS = NumericsTuning()
"""The defaults of the routines."""
