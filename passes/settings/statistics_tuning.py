"""Tunables of statistics on samples, and of the memory that these take: see `passes.settings.tuning`."""

from __future__ import annotations

from dataclasses import dataclass


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
    row_share: float = 0.25
    """Places, as a share of the channels, up to which a covariance of more than `SubsetTuning.most_greedy` channels is
    kept as these places instead of as a matrix: memory and time. Not tuned: up to a third, products with the factors of
    a prediction take fewer operations than with its matrix."""
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
    """Bytes per pair of channels while channels are predicted from others, where the weights of a large model are in
    files, as its matrices are then. Counted: 25 at 3,000 channels."""
    statistics_bytes: int = 12
    """Bytes per pair of channels for the stored statistics."""
    row_bytes: int = 32
    """Bytes per value that is kept in place of products of channels: two factors, and those of a prediction."""
    moment_bytes: int = 2**27
    """Bytes for the computation of a layer's moments, for each of the batches that run at the same time, if available:
    small batches are joined (`ReconstructionTuning.joined_bytes`)."""
    recorded_share: float = 0.25
    """Share of the memory for targets that are recorded in the first run of the original: memory against a second
    run."""
    matrix_share: float = 0.9
    """Largest share of the memory for the matrices of a layer."""
    working_share: float = 0.25
    """Share of the memory for the intermediate results of the batches that run at the same time."""
    moment_share: float = 0.35
    """Share of the memory for the computation of a layer's moments."""
