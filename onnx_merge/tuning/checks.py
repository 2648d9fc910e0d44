"""Tunables of the checks of a result: equality for lossless results, and ``onnx-merge verify``.

A stricter tolerance finds more faults and takes more rounding for one. Values without a measurement follow from what
they bound.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EquivalenceTuning:
    """Whether a lossless result equals the original (`onnx_merge.equivalence`)."""

    double_tolerance: float = 1e-8
    """Largest norm of the difference relative to the original's norm, of float64 outputs. Not tuned: far above
    rounding, so that deep networks pass."""
    single_tolerance: float = 1e-5
    """Largest norm of the difference relative to the original's norm, of float32 outputs. Not tuned: a hundred times
    the rounding of one operation."""
    half_tolerance: float = 1e-2
    """Largest norm of the difference relative to the original's norm, of float16 and bfloat16 outputs. Not tuned: ten
    times the rounding of one operation in float16."""
    inner_factor: float = 3
    """Factor on the tolerance for tensors inside a model: differences of nearly equal values lose some digits. Not
    tuned: half a digit."""
    tensors_at_once: int = 48
    """Tensors inside a model that one run returns: all tensors of a large model would take too much memory. Not tuned:
    a few runs for a usual model."""
    scales: tuple[float, ...] = (1.0, 1e-3, 10.0, 100.0)
    """Scales of the standard normal inputs: values reached against time. Not tuned: near zero, usual, and where
    functions saturate."""
    small_input: int = 2**17
    """Input size in elements up to which every assignment is run at every scale. Larger ones use the smallest only. Not
    tuned: just below an image of 224 x 224 pixels."""
    flips: int = 24
    """Largest number of differing outcomes of comparisons that are followed: time against doubtful results. Not tuned:
    each takes a run."""
    tried_samples: int = 8
    """Largest number of samples on which the original is tried before it is compressed. Not tuned: what fails, fails on
    the first ones."""


@dataclass(frozen=True)
class VerificationTuning:
    """Whether a file keeps what its metadata state (`onnx_merge.verification`)."""

    rounding: float = 3e-4
    """Largest difference of outputs that rounding causes, as an amplitude relative to the outputs' spread.

    A float32 network of a hundred layers accumulates a few 1e-5; Winograd convolutions, which some providers use, ten
    times that. Derived, not tuned.
    """
    logit_rounding: float = 1e-3
    """Largest difference that rounding causes in the square root of a divergence: logits with a spread of several
    units, off by `rounding` of it. Derived, not tuned."""
    stated_rounding: float = 1e-3
    """Relative rounding error of stated numbers, which have four digits. Derived, not tuned."""
    flips: float = 0.005
    """Share of the samples whose class rounding may change; one sample is always allowed. Not tuned: few samples are
    that near to a boundary."""
    metric_parts: int = 8
    """Number of parts of the samples between which the variation of the drop is measured. A metric is one number for
    all samples, not one for each. More parts give a surer variation, of a metric on fewer samples. Not tuned: a
    standard error of eight parts is known to within a quarter."""
    other_samples: int = 4096
    """Largest number of samples, other than those of the statement, if no option sets it: certainty against time. Not
    tuned: they give a share to within 0.016."""
    confidence: float = 0.95
    """Confidence of the intervals of shares. Not tuned: the usual one."""
    nsr_confidence: float = 0.99
    """Confidence of the interval of noise over signal. It is higher because a few samples contribute most of the noise,
    and the actual coverage is lower. Not tuned: the next usual level."""
    widest_interval: float = 10.0
    """Largest width of the logarithm of an interval. Beyond it, the samples carry no information. Not tuned: a factor
    of 20,000."""


EQUIVALENCE = EquivalenceTuning()
VERIFICATION = VerificationTuning()
