"""Tunables of how samples are moved and copied: see `passes.settings.tuning`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SampleMatchingTuning:
    """How made-up samples are moved until recorded statistics hold (`passes.samples.matched_samples`)."""

    steps: int = 100
    """Largest number of steps of a batch: samples like the training data against time. Settled on a keyword spotter at
    keep 0.6: 12, 24, 40 and 100 steps lead to 75, 76, 80 and 82% of its test samples, where classes are balanced over
    each batch."""
    fewest_steps: int = 4
    """Steps below which samples are left as they are, and the norms are recalibrated instead. Not tuned: the first
    steps gain most."""
    multiply_adds: tuple[float, float, float] = (1e12, 4e12, 1.6e13)
    """Multiply-adds of all steps at low, medium and high effort: larger models take fewer. Not tuned: 20 seconds of a
    core at the rate of `SensitivityTuning.multiply_adds`, and four times that from one level to the next; more where
    layers are depthwise."""
    weight_multiply_adds: tuple[float, float, float] = (1.25e7, 5e7, 2e8)
    """Multiply-adds of all steps for each weight, at low, medium and high effort: few weights at the many places of a
    large image are fitted to few samples. Not tuned: four times the most that any network takes on which accuracy was
    measured."""
    fewest_samples: int = 128
    """Samples that are moved, or all if they are fewer: samples against time. Layers that need more get all. Settled
    on test samples of a keyword spotter, a face detector and two other detectors: 256 gain nothing, and results of 64
    vary more."""
    fewest_compared: int = 16
    """Samples on which results are compared that are moved, or all if they are fewer. Not tuned: few, as they only
    judge."""
    more_share: float = 0.5
    """Share of `multiply_adds` in which all steps of more samples than `fewest_samples` must be. Not tuned: half."""
    passes: int = 3
    """Cost of a step in passes of its samples. Not tuned: one forward, and backward about two."""
    batch: int = 32
    """Samples whose statistics are taken together. Not tuned: a usual size of batches in training."""
    activation_copies: int = 2
    """Memory of a step, as a multiple of all activations of its samples. Not tuned: the activations and their
    gradients."""
    first_step: float = 0.1
    """Change of a value by the first step, relative to the deviation of the inputs. Later steps have a length of their
    own. Settled on the deviations that are left in the digits model and in networks of CIFAR-10's size: with 0.05 and
    0.1 they are equal."""
    score_weight: float = 0.03
    """Weight of the divergence of scores from the classes or objects that samples are moved to, beside the mean
    deviation of the norms. Settled on a keyword spotter at keep 0.6: with 0, 0.01 and 0.03, 100 steps lead to 67, 82
    and 82% of its test samples. With 0.1 norms are far off after 60. A face detector's layers, solved one by one, find
    185 faces of photographs with it, and 140 with 0.3 and fewer steps."""
    score_steps: int = 12
    """Steps below which samples are moved to no classes or objects: with few, the norms come first. Settled on a
    keyword spotter at keep 0.6: with classes and without, 5 steps lead to 47 and 62% of its test samples, 12 to 75 and
    71%."""
    score_close: float = 0.01
    """Deviation and weighted divergence together at which samples are no longer moved, where scores count (else
    `close`). Not tuned: about what is left of the divergence when each sample is one of its class."""
    confidence: float = 0.9
    """Probability of the class that a sample is moved to. Not tuned: that of a classifier that is sure."""
    objects: int = 3
    """Places of a sample that are moved to an object where the model scores places. Not tuned: photographs show a few
    objects."""
    most_entropy: float = 0.8
    """Entropy of the first scores, relative to the largest there can be, above which they are not taken for classes.
    Settled on a keyword spotter, whose scores of dead leaves have 0.63."""
    close: float = 0.05
    """Deviation at which samples are no longer moved: means that are off by a fifth of a deviation. Settled on test
    images: with 0.02 a ResNet-56 at keep 0.4 gains nothing."""
    least_gain: float = 0.8
    """Deviation that is left, relative to the first, above which the samples stay as they are. Settled on a keyword
    spotter's test samples: with 0.5 they stay as they are, and the result is worse."""
    unfit: float = 1.0
    """Deviation that is left above which the samples stay as they are: the statistics are of other weights or data. Not
    tuned: means that are off by a deviation. Those of trained networks are off by less before a step is taken."""
    matched: float = 0.1
    """Deviation up to which the moved samples serve as they are. Beyond it the norms are recalibrated to them, too. Not
    tuned: means that are off by a third of a deviation."""
    dead: float = 1e-3
    """Recorded variance, relative to the largest one of the norm, below which a channel does not count. Not tuned: no
    sample moves what never varied."""
    floor: float = 1e-3
    """Share of the recorded variance that is added to both variances, so that a constant channel has a gradient. Not
    tuned: a thousandth."""


@dataclass(frozen=True)
class AugmentationTuning:
    """Shifted copies of images (`passes.samples.augmentation`)."""

    smallest_side: int = 12
    """Smallest side of an image that is shifted. Not tuned: a shift moves it by a place at least."""
    shift: float = 0.1
    """Largest shift, as a share of the side: new images against unnatural borders. Settled on digits classifiers: an
    eighth of 16 places gains as a sixteenth does, an eighth of 8 loses."""
