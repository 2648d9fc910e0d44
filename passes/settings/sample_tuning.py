"""Tunables of how samples are moved and copied: see `passes.settings.tuning`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SampleMatchingTuning:
    """How made-up samples are moved until recorded statistics hold (`passes.samples.matched_samples`)."""

    steps: int = 12
    """Largest number of steps of a batch: samples like the training data against time. Settled on the deviations that
    are left in the digits model and in networks of CIFAR-10's size, without looking at their accuracy."""
    fewest_steps: int = 3
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
    rate: float = 0.1
    """Change of a value by the first step, relative to the deviation of the inputs. Settled on the same networks as
    `steps`: with 0.05 and 0.1 equal deviations are left."""
    rise: float = 1.2
    """Factor of the rate after a step that gained. Settled on the same networks: 1.3 gains as much."""
    fall: float = 0.5
    """Factor of the rate after a step that lost, and was taken back. Not tuned: half."""
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
    decay: float = 0.9
    """Share of the gradients before in the mean that a step follows. Not tuned: the usual value of momentum."""
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
