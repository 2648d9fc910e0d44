"""Tunables of the layerwise solution, and of layers that are solved in pairs: see `passes.settings.tuning`."""

from __future__ import annotations

from dataclasses import dataclass

from passes.settings.object_tuning import ObjectTuning


@dataclass(frozen=True)
class PlaceTuning:
    """How places of layers are weighed by what outputs depend on (`passes.reconstruction.place_weights`)."""

    share: float = 0.5
    """Share s of a place's weight that follows the gradient. Not tuned: half. The rest keeps what no output of these
    samples depends on."""
    largest: float = 30.0
    """Largest squared gradient m that counts, relative to the mean. Not tuned: few places are never all that counts."""
    seen_samples: int = 64
    """Samples by which the deviations of the outputs are found. Not tuned: as `DistillationTuning.weighing_samples`."""
    variance_floor: float = 0.1
    """Variance that is added to that of each channel, as a share of their mean, as in
    `DistillationTuning.variance_floor`. Not tuned: a tenth of the mean."""
    objects: ObjectTuning = ObjectTuning()
    multiply_adds: float = 1e12
    """Multiply-adds of all runs beyond which places count alike: exact solutions against time. Not tuned: as
    `DistillationTuning.multiply_adds` at medium effort."""
    passes: int = 4
    """Cost of a run in passes of its samples. Not tuned: one for the scores, one forward, and backward about two."""
    batch: int = 16
    """Samples that run together. Not tuned: a usual size of batches."""
    activation_copies: int = 3
    """Memory of a run, as a multiple of all activations of its samples. Not tuned: activations, their gradients, and
    the squares of these."""


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
    """Least damping of a pair's metrics, relative to their diagonals, which are sums over the places that the metric
    takes, where the loss sums all: short, safe steps against long ones. Settled on test images: 0.03 and 0.3 make no
    difference on the ResNet-56, 0.3 and 1.0 are worse on the VGG-16."""
    most_damping: float = 1.0
    """Largest damping, that of layers whose regression found a ridge at least as strong: few samples are fitted too
    closely. Settled on test images of an ImageNet classifier at keep 0.6, low effort: with 0.1, 1 and 3 it gets 53.0,
    57.4 and 56.0% right. Networks of random weights come a little farther off with 1."""
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
