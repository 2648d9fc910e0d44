"""Defines the tunables of the passes, each with its trade-off and the data it was chosen on.

"Settled on" names the measurements that chose a value. "Not tuned" says that none did, and where the value's order of
magnitude comes from. "Test images" are those of CIFAR-10, by which the accuracy and divergence of a ResNet-56 and a
VGG-16 were judged (docs/allocation.md, docs/reconstruction.md). Figures there are no estimate for other models.
"""

from __future__ import annotations

from dataclasses import dataclass

from passes.numerics.tuning import NUMERICS, NumericsTuning
from passes.shapes.tuning import SHAPES, ShapeTuning


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
    """The same for the smallest block that kernels pad at no cost (`passes.settings.blocks.PADDED`): widths off it run
    slowly. Settled on test images, where 1.5 cost the ResNet-56 2.3 points without data."""
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
    """Approximate multiply-adds of all measurements together: exact losses against time. Not tuned: some ten seconds of
    a core at half of AVX-512's peak, 1e11 a second."""
    most_noise: float = 1e4
    """Upper bound of noise over signal, at which an output counts as lost. Not tuned: reached at a correlation of 0.01.
    """
    block: int = 2**21
    """Number of output values that are compared at once: time against memory. Not tuned: 16 MB of float64."""


@dataclass(frozen=True)
class ReconstructionTuning:
    """How layers are solved on samples (`passes.reconstruction`). A pair: two layers that are solved together."""

    diverged: float = 4.0
    """Relative error of the outputs beyond which a solution is discarded. Not tuned: far above what any useful result
    has."""
    made_up_multiply_adds: float = 4e11
    """Multiply-adds of a run over made-up samples: large models get fewer samples, to save time. Not tuned: as
    `SensitivityTuning.multiply_adds`."""
    fewest_made_up: int = 32
    """Made-up samples that even the largest models get. Not tuned; docs/reconstruction.md has what so few cost a
    ResNet-56."""
    doubling_limit: int = 64
    """Samples of the user below which twice as many serve, or their mirror images too: fewer images fit the layers too
    closely, at twice the time. Settled on a classifier of inverted residuals on 32 x 32 images: with mirror images the
    divergence on others is 0.049 instead of 0.056 of 16 images, 0.039 instead of 0.044 of 48, 0.033 instead of 0.034 of
    192."""
    fewest_distinct: int = 2
    """Samples below which nothing is solved. Not tuned: a single sample has no variance."""

    regression_places: int = 32
    """Largest number of places per feature in a layer's regression: exact moments against time. Settled on test images:
    more places changed nothing for a ResNet-56 at keep 0.4."""
    fewest_regression_places: int = 16384
    """Places that the regression uses at least, however few features there are. Not tuned: few features take little
    time."""
    joined_bytes: int = 2**25
    """Approximate bytes of a joined batch of inputs, targets and patches: memory against time. Not tuned: 32 MB, little
    beside the activations, and far more work than the call of a run."""
    most_primal_features: int = 6144
    """Number of features beyond which places are subsampled until there are fewer places than features. The system in
    the places (dual form) is then solved, in less time and memory. Not tuned: a matrix of 300 MB in float64, factorised
    in 8e10 operations."""
    primal_bytes: int = 22
    """Bytes of memory per pair of features. With less memory, the dual form is used at fewer features. Not tuned:
    nearly three matrices of float64."""

    most_steps: int = 40
    """Largest number of steps of a pair: loss against time. Settled on test images, with
    `GaussNewtonTuning.least_gain`."""
    typical_steps: int = 12
    """Typical number of steps of a pair, for the estimate of its time. Not tuned: about a third of `most_steps`."""
    step_passes: int = 4
    """Cost of a step in passes through the pair, for the estimate of its time. Not tuned: about one forward, two
    backward, and the step length."""
    damping: float = 0.1
    """Damping of a pair's metrics, relative to their diagonals: short, safe steps against long ones. Settled on test
    images: 0.03 and 0.3 make no difference on the ResNet-56, 0.3 and 1.0 are worse on the VGG-16."""
    curvature_share: int = 4
    """The step length is computed on one sample in so many: exact length against time. Not tuned: a single number needs
    few samples."""
    fewest_places: int = 32
    """Places per feature that a pair uses at least, at any cost, if there are as many. Not tuned: as
    `regression_places`."""
    most_places: int = 512
    """Largest number of places per feature of a pair: exact solutions against time. Not tuned: 16 times
    `fewest_places`."""
    pair_samples: int = 128
    """Largest number of samples of a pair, below `most_places`. Settled on test images: 64 lose little."""
    fewest_pair_samples: int = 8
    """Samples that a pair uses at least, at any cost. Not tuned: as `SensitivityTuning.fewest_samples`."""
    pair_multiply_adds: float = 4.5e12
    """Multiply-adds of all pairs of a model, beyond which they use fewer samples: exact solutions against time. Not
    tuned: a minute and a half of a core, at the rate of `SensitivityTuning.multiply_adds`."""
    pair_operations: float = 3e11
    """Operations of a pair's linear algebra, beyond which it keeps its layerwise solution: loss against time. Not
    tuned: some ten seconds of a core."""


@dataclass(frozen=True)
class AugmentationTuning:
    """Shifted copies of images (`passes.samples.augmentation`)."""

    smallest_side: int = 12
    """Smallest side of an image that is shifted. Not tuned: a shift moves it by a place at least."""
    shift: float = 0.1
    """Largest shift, as a share of the side: new images against unnatural borders. Settled on digits classifiers: an
    eighth of 16 places gains as a sixteenth does, an eighth of 8 loses."""


@dataclass(frozen=True)
class DistillationTuning:
    """How the layers of a compressed model are refined together to mimic the original (`passes.reconstruction`)."""

    steps: tuple[int, int] = (400, 2000)
    """Steps of the run at medium and at high effort: loss against time. Not tuned: five times the time from one level
    to the next."""
    multiply_adds: tuple[float, float] = (4e12, 4e13)
    """Multiply-adds of all steps at medium and at high effort. Large models take fewer samples a step, then fewer
    steps. Not tuned: a minute and a half, and a quarter of an hour, of a core at half of AVX-512's peak."""
    passes: int = 5
    """Cost of a step in passes of its samples through the original: three through the smaller model and one there, in a
    run and a quarter. Not tuned: counted."""
    batch: int = 16
    """Samples of a step, if time allows. Not tuned: a usual size of batches."""
    smallest_batch: int = 8
    """Samples of a step below which there are fewer steps instead: the rate takes gradients of little noise. Settled on
    a digits classifier of inverted residuals: with the same time, steps of 16 and 8 samples gain, of 4 and 2 lose."""
    dense_places: int = 64
    """Places of an output from which on it says much of each sample: `dense_batch` and `dense_feature_weight` take the
    place of `smallest_batch` and `feature_weight`. Not tuned: a map of 8 x 8."""
    dense_batch: int = 2
    """Smallest number of samples of a step where outputs have many places. Not tuned: two samples are not alike."""
    fewest_steps: int = 40
    """Steps below which nothing is refined. Not tuned: in so few the rate could neither rise nor fall gradually."""
    fewest_samples: int = 16
    """Samples below which nothing is refined. Not tuned: of fewer, `judged_share` would leave a single one to judge."""
    fewest_batches: int = 4
    """Batches that the samples make at least, one of them to judge. Not tuned: three are left to learn from."""
    weighing_samples: int = 64
    """Samples by which the channels are weighed. Not tuned: the variance of a channel needs few samples."""
    judged_share: int = 8
    """One sample in so many is left out, and judges whether the refined weights are better. Not tuned: the share that
    is held out for the comparison, too."""
    rates: tuple[float, ...] = (2.0, 0.5, 0.12)
    """Largest change of the outputs by a step, relative to their spread and to the root of the loss: the nearer the
    student, the shorter its way. Each layer makes an equal part of it. The next is tried where those before gain
    nothing. Settled on the digits models at keep 0.5 and 0.3, where 0.6 to 3 do equally well after 200 steps."""
    hopeless: float = 1.5
    """Loss, as a multiple of the first, at which a run is given up. Not tuned: a loss that grows by half shows that the
    rate is too large."""
    smallest_row: float = 0.1
    """Smallest size of an output's weights that steps are relative to, as a share of the size of the layer's. Not
    tuned: a tenth."""
    feature_weight: float = 1.0
    """Weight of all that layers read together, where the outputs of the model have the weight 1. Few outputs say too
    little, and features tie the weights. Settled on two classifiers of inverted residuals, of digits and of 32 x 32
    images: with 0.3, 1 and 3 the divergence of the latter is 0.0291, 0.0276 and 0.0266 (0.0322 before). Where weights
    are random, 2 gains nothing."""
    dense_feature_weight: float = 0.2
    """The same where outputs have many places, which say enough. Settled on networks of random weights."""
    copies: int = 2
    """Shifted copies of each image to learn from. Settled on the same classifiers: with none, two and four the
    divergence of the latter is 0.0289, 0.0276 and 0.0271."""
    augmentation: AugmentationTuning = AugmentationTuning()
    judgements: int = 3
    """How often the samples that are left out judge the weights during a run. Not tuned: each is a run over the samples
    that are left out."""
    mixtures: tuple[float, ...] = (0.33, 0.67)
    """Shares of the way from the first weights to the last at which the weights are judged too (Wortsman et al., Robust
    fine-tuning of zero-shot models, CVPR 2022). Not tuned: thirds of the way."""
    last_share: float = 0.25
    """Steps on all samples after the run, as a share of its steps. Settled on a classifier of 32 x 32 images: of the
    divergence, none leave 0.0282, half of the steps 0.0276, and 400 steps more 0.0264."""
    last_rate: float = 0.5
    """Their rate, as a share of the rate before. Settled on the digits models."""
    variance_floor: float = 0.1
    """Variance that is added to that of each channel of a tensor before it divides the channel's error, relative to
    their mean: channels that hardly vary would be mimicked as closely as the others. Not tuned: a tenth of the mean."""
    activation_copies: int = 2
    """Memory of a step, as a multiple of all activations of its samples. Not tuned: the activations and their
    gradients."""


@dataclass(frozen=True)
class SampleMatchingTuning:
    """How made-up samples are moved until recorded statistics hold (`passes.samples.matched_samples`)."""

    steps: int = 40
    """Largest number of steps of a batch: samples like the training data against time. Settled on the deviations that
    are left in the digits model and in networks of CIFAR-10's size, without looking at their accuracy."""
    fewest_steps: int = 5
    """Steps below which samples are left as they are, and the norms are recalibrated instead. Not tuned: the first
    steps gain most."""
    multiply_adds: float = 1e12
    """Multiply-adds of all steps: larger models take fewer. Not tuned: half a minute of a core at the rate of
    `SensitivityTuning.multiply_adds`, and more where layers are depthwise."""
    passes: int = 3
    """Cost of a step in passes of its samples. Not tuned: one forward, and backward about two."""
    batch: int = 32
    """Samples whose statistics are taken together. Not tuned: a usual size of batches in training."""
    activation_copies: int = 2
    """Memory of a step, as a multiple of all activations of its samples. Not tuned: the activations and their
    gradients."""
    rate: float = 0.05
    """Change of a value by the first step, relative to the deviation of the inputs. Settled on the same networks as
    `steps`: 0.1 leaves more."""
    least_gain: float = 0.5
    """Deviation that is left, relative to the first, above which the samples stay as they are. Not tuned: half."""
    matched: float = 0.1
    """Deviation up to which the moved samples serve as they are. Beyond it the norms are recalibrated to them, too. Not
    tuned: means that are off by a third of a deviation."""
    decay: float = 0.9
    """Share of the gradients before in the mean that a step follows (Kingma & Ba, Adam, ICLR 2015). Not tuned: the
    usual value."""
    dead: float = 1e-3
    """Recorded variance, relative to the largest one of the norm, below which a channel does not count. Not tuned: no
    sample moves what never varied."""
    floor: float = 1e-3
    """Share of the recorded variance that is added to both variances, so that a constant channel has a gradient. Not
    tuned: a thousandth."""


@dataclass(frozen=True)
class StatisticsTuning:
    """Statistics of channels on samples (`passes.statistics.observer`, `passes.channels.statistics`)."""

    ample_samples: int = 16
    """Independent samples per channel from which on statistics include the samples that losses are measured on. A
    covariance predicts its own samples little better than others: by 2 K / n for K channels and n samples, at most an
    eighth here. Derived, not tuned."""
    channel_places: int = 256
    """Places of all samples per channel from which its moments are taken: exact moments against time. Not tuned: eight
    times `ReconstructionTuning.regression_places`."""
    fewest_channel_places: int = 131072
    """Places that moments of channels are taken from at least. Not tuned: eight times
    `ReconstructionTuning.fewest_regression_places`."""
    prediction_ridge: float = 1e-2
    """Ridge of the prediction of removed channels, relative to the diagonal of the kept channels' covariance: fit on
    the samples against size of the weights. Not tuned: once layers are solved it hardly matters
    (docs/reconstruction.md)."""
    fewest_batch_samples: int = 2
    """Fewest samples from which batch statistics are computed: those of a single one are its own. Derived, not tuned.
    """
    gram_strips: int = 3
    """Number of strips of a symmetric product P P^T: three save a third of the work. Not tuned: S strips take (S + 1) /
    2S of the work, so that more save little more."""
    strip_features: int = 512
    """Number of features from which on strips are used. Below, the additional products cost more than they save. Not
    tuned: the order of magnitude at which a product outweighs the call of a run."""


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
    """The same of a constant of several axes. Not tuned: 16 kB of float32."""
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
    constant_width: float = 1e-6
    """Width of an interval, relative to its size, at which float32 holds one value."""


@dataclass(frozen=True)
class MemoryTuning:
    """Memory estimates by which samples are fitted into ``--memory-limit`` (`passes.statistics.sample_budget`). Low
    values exceed the limit, high values leave samples out. Not tuned: multiples count the arrays that are alive
    together, shares leave room for what is not counted."""

    batch: int = 32
    """Batch size of models with a dynamic batch: time against memory."""
    fewest_samples: int = 4
    """Samples below which nothing is solved."""
    sample_copies: int = 2
    """Copies of a sample besides the loaded one: in its batch, and in a joined batch."""
    compressed_activations: int = 2
    """Memory of a compressed model's activations, as a multiple of the original's, where no layers are known."""
    compared_outputs: int = 2
    """Copies of the outputs while a loss is measured: of the original, and of the model with a group cut."""
    working: int = 10
    """Intermediate memory of a batch, as a multiple of the inputs and outputs of the widest node."""
    normed: int = 10
    """Copies of live activations while samples run through BatchNormalization as separate arithmetic nodes."""
    weight_copies: int = 7
    """Copies of the weights: original, normalised, folded, restandardised and compressed model, as protobuf and as
    arrays."""
    gram_bytes: int = 56
    """Bytes per pair of features whose products are taken."""
    covariance_bytes: int = 64
    """Bytes per pair of channels while channels are predicted from others."""
    stored_covariance_bytes: int = 28
    """The same where the weights of a large model are in files, as its matrices are then. Counted: 25 at 3,000
    channels."""
    statistics_bytes: int = 12
    """Bytes per pair of channels for the stored statistics."""
    moment_bytes: int = 2**27
    """Bytes for the computation of a layer's moments, if available: small batches are joined
    (`ReconstructionTuning.joined_bytes`)."""
    recorded_share: float = 0.25
    """Share of the memory for targets that are recorded in the first run of the original: memory against a second
    run."""
    matrix_share: float = 0.9
    """Largest share of the memory for the matrices of a layer."""
    working_share: float = 0.25
    """Share of the memory for the intermediate results of a batch."""
    moment_share: float = 0.35
    """Share of the memory for the computation of a layer's moments."""


@dataclass(frozen=True)
class Tuning:
    """Tunables of all passes."""

    allocation: AllocationTuning = AllocationTuning()
    sensitivity: SensitivityTuning = SensitivityTuning()
    reconstruction: ReconstructionTuning = ReconstructionTuning()
    distillation: DistillationTuning = DistillationTuning()
    matching: SampleMatchingTuning = SampleMatchingTuning()
    statistics: StatisticsTuning = StatisticsTuning()
    redundancy: RedundancyTuning = RedundancyTuning()
    memory: MemoryTuning = MemoryTuning()
    transforms: TransformTuning = TransformTuning()
    shapes: ShapeTuning = SHAPES
    numerics: NumericsTuning = NUMERICS


TUNING = Tuning()
"""The default tunables. A `Compressor` with other tunables still reads these from here:
`RedundancyTuning.constant_width`, `ShrinkageTuning.dead_variance`, `LinearAlgebraTuning`, `GradientTuning`,
`MatchTuning` in `passes.planning.criteria`, `ShapeTuning`, `TransformTuning`, `AllocationTuning.target_deviation`,
`StatisticsTuning.fewest_batch_samples`, and `NoiseTuning`, by which results are judged."""
