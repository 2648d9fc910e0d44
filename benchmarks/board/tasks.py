"""Tasks of the leaderboard: a trained model, samples to calibrate on, samples to judge on, and a score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Feeds = Mapping[str, Array]
"""Input name -> (N, ...)."""
CALIBRATION = 256
"""Samples to calibrate on."""
SHIPPED = Path(__file__).parents[2] / "models"


@dataclass(frozen=True)
class Score:
    """What a model is worth. ``measure``: the task's own, in percent; None where no labels are to be had.
    ``agreement``: with the original, in percent. ``kl``: mean divergence of the original's distributions from the
    model's, in nats; None where outputs are no distributions."""

    measure: float | None
    agreement: float
    kl: float | None


class Task(Protocol):
    """A model and its data. Samples that are judged on are never calibrated on."""

    title: str
    kind: str
    """Of the model."""
    data: str
    """The judged samples, and where they come from."""
    measured: str
    """What `Score.measure` and `Score.agreement` are."""
    batch: int
    """Samples in a run while it is judged."""

    def model(self) -> Path:
        """The ONNX file."""
        ...

    def calibration(self) -> Feeds:
        """`CALIBRATION` samples."""
        ...

    def judged(self) -> Feeds:
        """Samples to judge on."""
        ...

    def score(self, outputs: Array, original: Array) -> Score:
        """Score of the first output of a model on the judged samples; ``original``: that of the original."""
        ...


def distributions(outputs: Array) -> Array:
    """Probabilities over the last axis, of probabilities or of logits."""
    values = outputs.astype(np.float64)
    if values.min() >= 0 and np.allclose(values.sum(-1), 1, atol=1e-3):
        return values
    values = np.exp(values - values.max(-1, keepdims=True))
    return np.asarray(values / values.sum(-1, keepdims=True))


def divergence(outputs: Array, original: Array) -> float:
    """Mean Kullback-Leibler divergence of ``original`` from ``outputs``, in nats, a sample at a time."""
    total = 0.0
    for ours, theirs in zip(outputs, original, strict=True):
        p, q = distributions(theirs), distributions(ours)
        total += float(np.mean((p * np.log((p + 1e-12) / (q + 1e-12))).sum(-1)))
    return total / len(outputs)


def class_score(outputs: Array, original: Array, labels: Array | None) -> Score:
    """Of a classifier; ``labels`` (N,), if there are any."""
    found, wanted = outputs.argmax(-1), original.argmax(-1)
    right = None if labels is None else 100 * float(np.mean(found == labels))
    return Score(right, 100 * float(np.mean(found == wanted)), divergence(outputs, original))


class Digits:
    """A model that ships with the package; needs no download."""

    data = "500 held-out images of scikit-learn's digits (`models/digits_test.npz`)"
    measured = "accuracy"
    batch = 100

    def __init__(self, cache: Path, name: str, kind: str) -> None:
        self.title, self.kind, self._name = f"`models/{name}.onnx`", kind, name

    def model(self) -> Path:
        """The file in the repository."""
        return SHIPPED / f"{self._name}.onnx"

    def calibration(self) -> Feeds:
        """Training images."""
        with np.load(SHIPPED / "digits_calib.npz") as file:
            return {name: file[name][:CALIBRATION] for name in file.files}

    def judged(self) -> Feeds:
        """Test images."""
        with np.load(SHIPPED / "digits_test.npz") as file:
            return {name: file[name] for name in file.files if name != "labels"}

    def score(self, outputs: Array, original: Array) -> Score:
        """Accuracy."""
        with np.load(SHIPPED / "digits_test.npz") as file:
            return class_score(outputs, original, file["labels"])
