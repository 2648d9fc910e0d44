"""The built-in metrics. Higher is better; each processes the samples batch by batch.

Class scores are the one output of shape (N, classes) or (N, classes, 1, 1). Class labels are numbers (N,). If scores
are equal, the lower class ranks first. ``psnr`` and ``r2`` compare an output with labels of its shape. Without labels
they compare with the outputs of the original, and the worst of several outputs counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_merge.equivalence.structure import is_float
from onnx_merge.errors import UsageError
from onnx_merge.inputs.user_arrays import check_classes
from onnx_merge.metrics.predictor import Predictor
from onnx_merge.metrics.spread import Spread
from onnx_merge.runtime.tensor_info import BFLOAT16
from onnx_merge.tuning.evaluation import CLASS_CHANGES
from passes.numerics.arrays import has_rows, rows_between, sample_count

Array = NDArray[Any]
Double = NDArray[np.float64]
Feeds = Mapping[str, Array]


def top1(predict: Predictor, samples: Feeds, labels: Array | None) -> float:
    """Percentage of the samples whose label has the highest score.

    Raises
    ------
    UsageError: there are no labels, or the model has no class scores. The other metrics for classes raise it too.
    """
    return _in_top(1, predict, samples, labels, "accuracy")


def top5(predict: Predictor, samples: Feeds, labels: Array | None) -> float:
    """Percentage of the samples whose label is among the five highest scores."""
    return _in_top(5, predict, samples, labels, "top5")


def _in_top(k: int, predict: Predictor, samples: Feeds, labels: Array | None, name: str) -> float:
    right = total = 0
    for scores, expected in _scored(predict, samples, labels, name):
        if scores.shape[1] <= k:
            raise UsageError(f"{name} needs more than {k} classes, but the model has {scores.shape[1]}: use accuracy")
        own = np.take_along_axis(scores, expected[:, None], 1)
        before = np.arange(scores.shape[1]) < expected[:, None]
        ahead = (scores > own) | ((scores == own) & before) | np.isnan(scores)
        right += int(((ahead.sum(1) < k) & ~np.isnan(own[:, 0])).sum())
        total += len(expected)
    return 100.0 * right / total


def neg_cross_entropy(predict: Predictor, samples: Feeds, labels: Array | None) -> float:
    """Mean log probability of the label, in nats; at most 0.

    An output holds probabilities if all its values are in 0..1 and sum to 1 in every sample. They are clipped to at
    least the epsilon of the type, as in scikit-learn's ``log_loss``. Any other output holds logits (log probabilities
    are a special case), to which a softmax is applied.
    """
    as_logits = as_probabilities = 0.0
    total, probabilities = 0, True
    for scores, expected in _scored(predict, samples, labels, "neg-cross-entropy"):
        values = scores.astype(np.float64)
        probabilities &= bool(
            (values >= 0).all()
            and (values <= 1).all()
            and (abs(values.sum(1) - 1) <= CLASS_CHANGES.sum_tolerance).all()
        )
        own = np.take_along_axis(values, expected[:, None], 1)[:, 0]
        most = values.max(1)
        with np.errstate(invalid="ignore"):  # infinities
            as_logits += float((own - most - np.log(np.exp(values - most[:, None]).sum(1))).sum())
        least = float(np.finfo(np.float32 if scores.dtype == BFLOAT16 else scores.dtype).eps)
        as_probabilities += float(np.log(np.clip(own, least, 1 - least)).sum())
        total += len(expected)
    return (as_probabilities if probabilities else as_logits) / total


def psnr(predict: Predictor, samples: Feeds, labels: Array | None) -> float:
    """Peak signal-to-noise ratio in decibels over all samples: 10 log10(range^2 / mean squared error).

    The range is the difference between the maximum and the minimum of the targets. Without labels, the value of the
    original is infinite.
    """
    squares: dict[str, float] = {}
    counts: dict[str, int] = {}
    least: dict[str, float] = {}
    most: dict[str, float] = {}
    for name, target, output in _targeted(predict, samples, labels, "psnr"):
        squares[name] = squares.get(name, 0.0) + float(((target - output) ** 2).sum())
        counts[name] = counts.get(name, 0) + target.size
        least[name] = min(least.get(name, math.inf), float(target.min()))
        most[name] = max(most.get(name, -math.inf), float(target.max()))
    values = []
    for name, square in squares.items():
        if not most[name] > least[name]:
            raise UsageError(f"psnr: the targets of output {name!r} are all the same on these samples: use others")
        mean = square / counts[name]
        values.append(10 * math.log10((most[name] - least[name]) ** 2 / mean) if mean else math.inf)
    return min(values)


def r2(predict: Predictor, samples: Feeds, labels: Array | None) -> float:
    """Coefficient of determination, averaged over the elements of an output, as in scikit-learn's ``r2_score``.

    It is 1 - (squared error) / (squared deviation of the targets from their mean). An element with constant targets
    counts 1 if it is predicted exactly, otherwise 0.
    """
    parts: dict[str, Spread] = {}
    for name, target, output in _targeted(predict, samples, labels, "r2"):
        parts.setdefault(name, Spread()).add(target, output)
    values = []
    for found in parts.values():
        if found.count < 2:
            raise UsageError("r2 needs at least 2 samples")
        ratio = found.error / np.where(found.varies, found.spread, 1.0)
        values.append(float(np.where(found.varies, 1 - ratio, np.where(found.error == 0, 1.0, 0.0)).mean()))
    return min(values)


BUILT_IN: Mapping[str, Callable[[Predictor, Feeds, Array | None], float]] = {
    "accuracy": top1,
    "top5": top5,
    "neg-cross-entropy": neg_cross_entropy,
    "psnr": psnr,
    "r2": r2,
}
"""The metrics by the names in `onnx_merge.config.option_parsing.METRICS`."""


def _scored(
    predict: Predictor, samples: Feeds, labels: Array | None, name: str
) -> Iterator[tuple[Array, NDArray[np.int64]]]:
    """Class scores (n, classes) and labels (n,), batch by batch."""
    if labels is None:
        raise UsageError(f"metric {name} needs labels: give --labels with a file that holds them")
    for rows, outputs in predict.batches(samples):
        expected = labels[rows]
        scores = score_matrix(outputs, len(expected))
        if scores is None:
            raise UsageError(f"metric {name} needs a model with one output of class scores, (N, classes)")
        check_classes(expected, scores.shape[1])
        yield scores, expected


def score_matrix(outputs: Mapping[str, Array], count: int) -> Array | None:
    """The class scores of ``count`` samples as (count, classes); None unless exactly one output has such a shape."""
    found = [a.reshape(a.shape[:2]) for a in outputs.values() if holds_class_scores(a, count)]
    return found[0] if len(found) == 1 else None


def holds_class_scores(array: Array, count: int) -> bool:
    """Whether the shape is that of class scores of ``count`` samples: (count, classes), and axes of size one."""
    if not is_float(array) or array.ndim < 2:
        return False
    return array.shape[0] == count and array.shape[1] > 1 and all(n == 1 for n in array.shape[2:])


def _targeted(
    predict: Predictor, samples: Feeds, labels: Array | None, name: str
) -> Iterator[tuple[str, Double, Double]]:
    """(Name of the output, targets (n, elements), outputs (n, elements)), batch by batch."""
    if labels is not None and labels.dtype.kind not in "biuf":
        raise UsageError(f"metric {name} needs labels that are numbers, not {labels.dtype}")
    for rows, outputs in predict.batches(samples):
        numbers = {n: a for n, a in outputs.items() if a.dtype != object and has_rows(a)}
        numbers = {n: a for n, a in numbers.items() if is_float(a)} or numbers
        if labels is None:
            part = rows_between(samples, *rows.indices(sample_count(samples))[:2])
            targets = predict.original(part) if predict.original is not predict else outputs
            pairs = {n: (targets[n], a) for n, a in numbers.items()}
        else:
            given = labels[rows]
            pairs = {
                n: (given, a) for n, a in numbers.items() if len(a) == len(given) and _squeezed(a) == _squeezed(given)
            }
        if len(pairs) != 1 and labels is not None:
            shapes = ", ".join(f"{n} {a.shape[1:]}" for n, a in numbers.items()) or "none"
            raise UsageError(
                f"metric {name} needs labels of the shape of one output: of a sample, they are {labels.shape[1:]}, "
                f"and outputs are {shapes}"
            )
        if not pairs:
            raise UsageError(f"metric {name} needs a model with an output of numbers")
        for output, (target, actual) in pairs.items():
            if labels is None and target.shape != actual.shape:
                raise UsageError(f"metric {name}: output {output!r} has another shape than the original's")
            flat = (len(actual), -1)
            yield output, np.asarray(target, np.float64).reshape(flat), np.asarray(actual, np.float64).reshape(flat)


def _squeezed(array: Array) -> tuple[int, ...]:
    """The shape of a sample without axes of size one."""
    return tuple(n for n in array.shape[1:] if n != 1)
