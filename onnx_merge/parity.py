"""How close are the outputs of the result to the original's?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_merge.errors import InputError, StructureError, UsageError
from onnx_merge.runtime import CPU, ProviderChoice, Session, TensorInfo
from onnx_merge.structure import is_float
from passes.numerics.arrays import has_rows

Array = NDArray[Any]
CHUNK_BYTES = 8 * 2**20
"""Input of one run, at most: activations take some hundred times as much memory."""
CHUNK_SAMPLES = 128
STEP = 8
"""Batches are multiples of it, where they are larger: some models take no others."""


@dataclass(frozen=True, slots=True)
class Fidelity:
    """How close the result's outputs are to the original's."""

    cosine: float
    """Mean over samples and outputs of the cosine between the flattened outputs; 1 is best."""
    relative_l2: float
    """|result - original| / |original|, mean over outputs."""
    top1_agreement: float | None
    """Part of the samples (0 to 1) with the same largest score; None for models that are no classifiers."""
    samples: int
    source: str
    """Where the samples come from, as the report says it."""
    provider: str
    held_out: int = 0
    """Of the samples, those that nothing was fitted to."""
    fitted: int | None = None
    """Samples that layers were fitted to; None if nothing was fitted to any."""
    in_sample: bool = False
    """Whether layers were fitted to the samples compared on."""
    real: bool = True
    """Whether the samples are the user's."""


@dataclass(slots=True)
class _Distance:
    """Running comparison of one output."""

    cosines: list[float] = field(default_factory=list)
    squares: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    """Sums over all samples of (result - original)^2, original^2, result^2."""

    def add(self, name: str, expected: Array, actual: Array, size: int, valid: int) -> None:
        """Compare one batch of ``size`` samples, the first ``valid`` of which count.

        Outputs whose first dim is not the batch count as one sample. Where sizes differ (a number of detections), the
        smaller one is filled up with zeros: what is missing differs.
        """
        batched = all(a.ndim > 0 and a.shape[0] == size for a in (expected, actual))
        a, b = (x.reshape(size if batched else 1, -1)[:valid].astype(np.float64) for x in (expected, actual))
        width = max(a.shape[1], b.shape[1])
        a, b = (np.pad(x, ((0, 0), (0, width - x.shape[1]))) for x in (a, b))
        finite = np.isfinite(a)
        if not np.isfinite(b[finite]).all():
            raise StructureError(f"output {name!r} of the result is not finite where the original's is")
        a, b = np.where(finite, a, 0), np.where(finite, b, 0)
        aa, bb = (a * a).sum(1), (b * b).sum(1)
        self.squares += (float(((a - b) ** 2).sum()), float(aa.sum()), float(bb.sum()))
        norms = np.sqrt(aa * bb)  # in this order, equal vectors have a cosine of exactly 1
        # Two zero vectors agree; one alone has no direction in common with anything.
        cosines = np.where((aa == 0) & (bb == 0), 1.0, (a * b).sum(1) / np.where(norms > 0, norms, 1.0))
        self.cosines += np.clip(cosines, -1, 1).tolist()

    def relative_l2(self) -> float:
        """Relative to the result where the original is all zeros."""
        difference, original, result = self.squares.tolist()
        return math.sqrt(difference / (original or result or 1.0))


def fidelity(
    original: onnx.ModelProto | Session,
    result: onnx.ModelProto | Session,
    feeds: Mapping[str, Array],
    provider: ProviderChoice = CPU,
    *,
    source: str = "samples",
    base_dir: Path | None = None,
    most: int = CHUNK_SAMPLES,
    fitted: int | None = None,
    real: bool = True,
    in_sample: bool = False,
) -> Fidelity:
    """Compare the outputs of two models on ``feeds``, each (N, ...), in batches of bounded size.

    Float outputs count; where there are none, all of them. Top-1 agreement is that of the only output that holds
    scores, (N, classes) or (N, classes, 1, 1); models with several such outputs, or none, have no top-1. ``most``:
    samples of a batch, where the model leaves it open; ``fitted``, ``real``, ``in_sample``: see `Fidelity`.

    Raises
    ------
    StructureError: an output of the result is not finite where the original's is, or is missing.
    InputError: there is nothing to compare.
    OnnxMergeError: a model cannot be loaded or run.
    """
    before, after = _session(original, provider, base_dir), _session(result, provider, base_dir)
    distances: dict[str, _Distance] = {}
    agree = rows = samples = 0
    for chunk, size, valid in batches(feeds, before.inputs, most):
        expected, actual = before.run(chunk), after.run(chunk)
        if expected.keys() - actual.keys():
            raise StructureError(f"the result lacks the outputs {sorted(expected.keys() - actual.keys())}")
        numeric = [n for n, v in expected.items() if v.dtype != object]
        for name in [n for n in numeric if is_float(expected[n])] or numeric:
            distances.setdefault(name, _Distance()).add(name, expected[name], actual[name], size, valid)
        scores, new_scores = _scores(expected, size), _scores(actual, size)
        if scores is not None and new_scores is not None:
            best = scores[:valid].argmax(1)
            agree += int((best == new_scores[:valid].argmax(1)).sum())
            rows += len(best)
        samples += valid
    if not distances:
        raise InputError("the model has no numeric outputs, or there are no samples: nothing to compare")
    return Fidelity(
        cosine=float(np.mean([np.mean(d.cosines) for d in distances.values()])),
        relative_l2=float(np.mean([d.relative_l2() for d in distances.values()])),
        top1_agreement=agree / rows if rows else None,
        samples=samples,
        source=source,
        provider=before.provider.name,
        held_out=0 if in_sample else samples,
        fitted=fitted,
        in_sample=in_sample,
        real=real,
    )


def accuracy(
    model: onnx.ModelProto | Session,
    feeds: Mapping[str, Array],
    labels: NDArray[np.int64],
    provider: ProviderChoice = CPU,
    *,
    base_dir: Path | None = None,
    most: int = CHUNK_SAMPLES,
) -> float:
    """Top-1 accuracy in percent on ``feeds``, each (N, ...), with class indices ``labels`` (N,); ``most``: see
    `fidelity`.

    Raises
    ------
    UsageError: the model is no classifier, or the labels do not fit its classes or the samples.
    """
    session = _session(model, provider, base_dir)
    right = position = 0
    for chunk, size, valid in batches(feeds, session.inputs, most):
        scores = _scores(session.run(chunk), size)
        if scores is None:
            raise UsageError("accuracy needs a model with one output of scores, (N, classes): leave the labels out")
        expected = labels[position : position + valid]
        if len(expected) < valid:
            raise UsageError(f"there are {len(labels)} labels for more samples: give one label for each sample")
        if expected.min() < 0 or expected.max() >= scores.shape[1]:
            raise UsageError(f"labels must be class numbers from 0 to {scores.shape[1] - 1}, found {expected.max()}")
        right += int((scores[:valid].argmax(1) == expected).sum())
        position += valid
    if position != len(labels):
        raise UsageError(f"there are {len(labels)} labels for {position} samples: give one label for each sample")
    return 100.0 * right / position


def batches(
    feeds: Mapping[str, Array], inputs: Sequence[TensorInfo], most: int = CHUNK_SAMPLES
) -> Iterator[tuple[dict[str, Array], int, int]]:
    """Cut ``feeds`` into batches: (feeds of one run, its size, how many of its first samples count).

    A fixed batch size is kept, the last batch being filled up with copies of the last sample. Inputs that do not share
    their first dim are one run, which counts as one sample.
    """
    counts = {len(a) for a in feeds.values() if has_rows(a)}
    fixed = {i.shape[0] for i in inputs if i.shape and isinstance(i.shape[0], int) and i.shape[0] > 0}
    if len(counts) != 1 or len(fixed) > 1:
        yield dict(feeds), 1, 1
        return
    count = counts.pop()
    fixed_size = bool(fixed)
    per_sample = max(1, sum(a.nbytes for a in feeds.values()) // max(count, 1))
    step = fixed.pop() if fixed else min(most, CHUNK_SAMPLES, max(1, CHUNK_BYTES // per_sample))
    if not fixed_size and step > STEP:
        step -= step % STEP
    for start in range(0, count, step):
        valid = min(step, count - start)
        size = step if fixed_size else valid
        rows = np.minimum(np.arange(start, start + size), count - 1)
        yield {n: a[rows] if has_rows(a) else a for n, a in feeds.items()}, size, valid


def _scores(outputs: Mapping[str, Array], size: int) -> Array | None:
    """The one output that looks like class scores of ``size`` samples, as (size, classes)."""
    found = [
        v.reshape(v.shape[:2])
        for v in outputs.values()
        if is_float(v) and v.ndim >= 2 and v.shape[0] == size and v.shape[1] > 1 and all(d == 1 for d in v.shape[2:])
    ]
    return found[0] if len(found) == 1 else None


def _session(model: onnx.ModelProto | Session, provider: ProviderChoice, base_dir: Path | None) -> Session:
    return model if isinstance(model, Session) else Session(model, provider, base_dir=base_dir)
