"""Tunables of reports and pages: how much of the samples and of large models they show.

All of them trade detail against the size of a report or a page. None changes a result.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SampleReportTuning:
    """Differences by sample (`onnx_merge.report.sample_differences`). Not tuned: what fits a page."""

    worst: int = 12
    """Number of samples that are listed, those whose outputs differ most."""
    most_bins: int = 24
    """Largest number of bars of the histogram. It has twice the cube root of the number of samples (Rice's rule)."""
    decades: float = 8.0
    """Decades below the largest difference that the histogram covers. Smaller ones are in its first bar."""


@dataclass(frozen=True)
class PageTuning:
    """Pages (`onnx_merge.html`). Not tuned: what fits a page, and what a browser shows without delay."""

    largest_picture: int = 128
    """Largest height and width of a picture in pixels. Larger images are reduced to it."""
    smallest_picture: int = 6
    """Smallest height and width of what is shown as an image."""
    most_groups: int = 2000
    """Number of groups that the page of an inspection lists, the most costly ones: at about 1 kB each, 2 MB."""
    most_class_changes: int = 12
    """Number of pairs of classes that a page shows."""


SAMPLE_REPORT, PAGES = SampleReportTuning(), PageTuning()
