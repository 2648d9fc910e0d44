"""Tunables of what is found out about a result's outputs, of layers' activity and of guarantees.

The limits of the verdict are in `onnx_merge.evaluation.thresholds`. Values without a measurement follow from what they
bound.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ClassTuning:
    """Outputs that are scores of classes, and how many of them change (`onnx_merge.evaluation.class_changes`)."""

    confidence: float = 0.95
    """Confidence of the interval of the share of changed classes. Not tuned: the usual one."""
    one_sided_confidence: float = 0.8
    """Confidence of each one-sided bound that a verdict uses. Not tuned: at 95%, 32 samples without a change could not
    show that a result is good."""
    least_information: float = 1 / 3
    """Smallest information that scores of classes carry about the class, as a share of log(number of classes).

    Outputs (N, C), or maps (N, C, H, W), with less information are not scores of classes. Trained classifiers of 10 to
    1,000 classes reach 0.84 to 0.95 on their data; rectified features with a spread of one or two reach 0.05 to 0.28.
    Settled on these networks, between the two ranges.
    """
    sum_tolerance: float = 1e-2
    """Tolerance for the sum of a sample's probabilities, to allow for rounding in half precision. Not tuned: ten times
    float16's relative rounding."""
    deciding_samples: int = 16
    """Number of samples used to determine whether outputs are classes: certainty against time. Not tuned: every sample
    has to fit."""
    most_map_classes: int = 512
    """Largest number of classes of maps. For more, evaluating the scores takes too long. Not tuned: segmentations have
    up to some hundred classes."""
    block: int = 2**20
    """Approximate number of values that are compared at a time: memory against time. Not tuned: 8 MB of float64."""
    most_pairs: int = 20
    """Number of pairs of classes, before and after, that are reported: detail against the size of a report. Not tuned.
    """


@dataclass(frozen=True)
class LayerActivityTuning:
    """Whether samples make a network's layers work as its own data did (`onnx_merge.evaluation.layer_activity`).

    A stricter limit finds more samples that do not fit the model, and doubts more that do.
    """

    layers: int = 100
    """Largest number of layers that are examined: certainty against time. Not tuned: most networks have fewer."""
    memory_share: int = 4
    """The activations of one sample may take at most one part in this many of the memory, and so may the model's
    weights. Not tuned: a quarter."""
    samples: int = 32
    """Largest number of samples that are examined. Not tuned: with the places of maps these are thousands of values of
    a unit."""
    fewest_samples: int = 4
    """Smallest number of samples, however large they are. Not tuned."""
    elements: int = 2**22
    """Number of elements up to which more samples are used. Large images have many places, so that few of them are
    enough. Not tuned: 28 images of 224 x 224 pixels."""
    fewest_places: int = 32
    """Smallest number of places, over all samples, from which a unit is judged. Not tuned: a unit that is open half of
    the time is seen on both sides in almost all draws of so many."""
    saturation: float = 0.0025
    """Distance from an end at which a gate is saturated: that of a Sigmoid at an input of 6. Derived, not tuned."""
    stuck_units: float = 0.5
    """Share of stuck units above which a layer is off. In the middle layer of ten trained networks it is 0 to 0.1.
    Settled on these networks, far above."""
    inactive_layers: float = 0.5
    """Share of a network's layers that are off, above which the network is off. Not tuned: half of the layers."""
    few_layers: int = 3
    """Number of layers up to which all of them must be off. Not tuned: two of three may be so in a trained network, as
    in a regression of values that are all large."""
    statistics_factor: float = 2.0
    """Largest accepted difference from the statistics recorded by BatchNormalization: a factor for standard deviations,
    and for means a number of recorded standard deviations. In the middle layer of eight trained networks it is 1.03 to
    1.12 on their own data. Settled on these networks, far above."""


@dataclass(frozen=True)
class GuaranteeTuning:
    """Guarantees with a confidence (`onnx_merge.evaluation.drop_bounds`, `onnx_merge.evaluation.drop_tests`). They hold
    for any values: these trade the size found and the tightness of the bound for time. Not tuned: levels fine beside
    the difference between two sizes, and numerical accuracies far below the confidence."""

    sizes: tuple[float, ...] = tuple(round(0.95 - 0.05 * k, 2) for k in range(19))
    """Shares of the multiply-adds that are tried in this order, until the test fails."""
    exact_samples: int = 20_000
    """Number of samples above which the normal approximation determines how many are needed."""
    bound_steps: int = 20
    """Number of steps between 0 and the limit at which a bound is evaluated."""
    bets: int = 16
    """Number of bets that the initial wealth is divided among."""
    probability_accuracy: float = 2e-3
    """Relative accuracy of the maximal probability; the upper end of the interval is returned."""
    deviations: float = 7.0
    """Counts of losses within this many standard deviations are examined; all others are assumed to be the worst case.
    """
    mean_rounding: float = 1e-6
    """Largest difference between a metric and its mean over samples that is rounding, relative to the metric's range.
    """


CLASS_CHANGES = ClassTuning()
LAYER_ACTIVITY = LayerActivityTuning()
GUARANTEES = GuaranteeTuning()
