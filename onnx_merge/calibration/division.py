"""Split the user's samples into those that layers are fitted to and those that results are measured on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from onnx_merge.calibration.load import Calibration
from onnx_merge.calibration.splits import found_in, held_count, held_rows, parted
from onnx_merge.inputs.user_arrays import Samples
from onnx_merge.tuning.calibration import SPLITS
from passes.samples.sample_files import samples_at


@dataclass(frozen=True, eq=False)
class Division:
    """A split of the samples.

    ``fitted`` are the samples to fit to, ``measured`` those to measure on. If there are too few to split, both are the
    same and ``in_sample`` is set. ``what`` describes the measured samples in messages.
    """

    fitted: Calibration
    measured: Samples
    what: str
    in_sample: bool = False
    total: int | None = None
    """The number of samples that were split, if some were left out then."""


def divided(loaded: Calibration, unit: int, count: int, seed: int, *, half: bool = False) -> Division:
    """Split the user's samples so that at most ``count`` are fitted to. For ``half`` and ``unit`` see
    `splits.held_count`."""
    total = len(loaded)
    held = held_count(total, count, half=half, unit=unit)
    if not held:
        return Division(loaded, Samples(loaded.feeds), "the samples, which were fitted to as well", True)
    kept, apart = parted(loaded.feeds, held_rows(total, held, seed, unit))
    # Copies in batches of other samples were not left out. Clips may share a few frames.
    if unit > 1 and found_in(apart, kept).mean() > SPLITS.most_shared:
        return Division(loaded, Samples(loaded.feeds), "the samples, which were fitted to as well", True)
    return Division(replace(loaded, feeds=kept), Samples(apart), f"the {held:,} samples that were held out")


def divided_labels(labelled: Samples, name: str, unit: int, count: int, seed: int) -> Division:
    """Split the labelled samples of the file ``name``. Used if there are no other samples to fit to."""
    assert labelled.labels is not None  # only labelled samples are passed
    whole = Calibration(labelled.feeds, f"part of {name}", True)
    total = len(whole)
    held = held_count(total, count, half=True, unit=unit)
    if not held:
        return Division(whole, labelled, "the labelled samples, which were fitted to as well", True)
    rows = held_rows(total, held, seed, unit)
    kept, apart = parted(labelled.feeds, rows)
    shared = found_in(kept, apart)  # under another label
    runs = np.split(np.arange(total - held), range(unit, total - held, unit))
    others = [run for run in runs if not shared[run].any()]
    if not others:
        return Division(whole, labelled, "the labelled samples, which were fitted to as well", True)
    fitted = replace(whole, feeds=samples_at(kept, np.concatenate(others)) if shared.any() else kept)
    measured = Samples(apart, labelled.labels[rows])
    return Division(fitted, measured, f"the {held:,} labelled samples that were held out", total=total)


def apart_from(labelled: Samples, loaded: Calibration, unit: int, count: int, seed: int) -> Division:
    """Measure on labelled samples and fit to ``loaded``.

    Samples that are in both sets are split, so that none is both fitted to and measured on, unless too few labelled
    samples would be left to measure on.
    """
    assert labelled.labels is not None  # only labelled samples are passed
    what = "the labelled samples"
    if not found_in(loaded.feeds, labelled.feeds).any():
        return Division(loaded, labelled, what)
    fitted = divided(loaded, unit, count, seed).fitted.take(count)
    unseen = ~found_in(labelled.feeds, fitted.feeds)
    if unseen.sum() < SPLITS.fewest:
        return Division(loaded, labelled, f"{what}, which were fitted to as well", True)
    others = Samples(samples_at(labelled.feeds, np.flatnonzero(unseen)), labelled.labels[unseen])
    return Division(fitted, others, f"{what} that were not fitted to")
