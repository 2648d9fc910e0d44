"""Tunables of the refinement of all layers together: see `passes.settings.tuning`."""

from __future__ import annotations

from dataclasses import dataclass

from passes.settings.sample_tuning import AugmentationTuning


@dataclass(frozen=True)
class DistillationTuning:
    """How the layers of a compressed model are refined together to mimic the original (`passes.reconstruction`)."""

    steps: tuple[int, int] = (400, 2000)
    """Steps of the run at medium and at high effort: loss against time. Not tuned: five times the time from one level
    to the next."""
    multiply_adds: tuple[float, float] = (1e12, 5e12)
    """Multiply-adds of all steps at medium and at high effort. Large models take fewer samples a step, then fewer
    steps. Not tuned: 20 and 100 seconds of a core, at the rate of `SensitivityTuning.multiply_adds`."""
    seen: int = 400
    """Samples of all steps, counted each time that they are seen, that large models get within `most_multiply_adds`.
    Settled on test images of a segmentation network of 1.3e9 multiply-adds: with 150, 300 and 600 its mean IoU is 50.4,
    51.2 and 52.1. A face detector that sees 4,900 instead of 2,500 gains nothing."""
    most_multiply_adds: float = 4e12
    """Multiply-adds of these steps. Not tuned: four times those of others at medium effort."""
    weight_multiply_adds: tuple[float, float] = (2e7, 1e8)
    """Multiply-adds of all steps for each weight, at medium and at high effort: a few weights at the many places of a
    large image are learned from few samples. Not tuned: nearly three times the most that any network takes on which
    accuracy was measured."""
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
    rates: tuple[float, ...] = (8.0, 2.0, 0.5, 0.12)
    """Largest change of the outputs by a step, relative to their spread and to the root of the loss: the nearer the
    student, the shorter its way. Each layer makes an equal part of it. Settled on test
    images: a segmentation network gains most by 8, a keyword spotter by 2, detectors by 0.5 and 0.12."""
    matrix_share: float = 0.5
    """Multiply-adds for the orthogonalised steps of matrices, as a share of those of the gradients: the cheapest
    matrices come first, all others take steps of Adam. Not tuned: half as many."""
    tried_share: float = 0.33
    """Steps after which the rates are compared, as a share of a run. Not tuned: a third."""
    tolerated: float = 1.05
    """Loss, as a multiple of the first, that is tolerated then: the rate has not fallen yet. Not tuned: a twentieth."""
    slower_gain: float = 2.0
    """Gain in these steps, as a multiple of that of the rate before, from which on a smaller rate is taken: the larger
    one gains more in the rest of the run. Settled on the segmentation network."""
    least_gain: float = 0.98
    """Loss at the end of a run, as a multiple of the first, down from which the refined weights are taken. Without
    them, layers are solved on the samples that judge, too, which gains as much. Settled on the test sets of a keyword
    spotter, which gains by 0.966, and of image classifiers, which lose by 0.991 and 0.995."""
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
    """Weight of all that layers read together where outputs have many places, which say enough. Settled on networks of
    random weights."""
    copies: int = 2
    """Shifted copies of each image to learn from. Settled on the same classifiers: with none, two and four the
    divergence of the latter is 0.0289, 0.0276 and 0.0271."""
    augmentation: AugmentationTuning = AugmentationTuning()
    judgements: int = 3
    """Parts of a run, after which the samples that are left out judge the weights. Not tuned: each is a run over these
    samples."""
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
    target_share: float = 0.25
    """Share of the memory for targets that are kept. Not tuned: a quarter, the rest is for the activations of a
    step."""
    fewest_reads: int = 2
    """How often targets that memory does not hold are read, on average, from which on they are kept in a temporary
    file, and not computed again. Not tuned: half of them, at least, are not."""
    stored_targets: float = 8.0
    """Largest size of that file, as a multiple of the memory for a layer's moments. Not tuned: 6 GB at the default
    limit, which disks write in the time that a large model takes to run."""
