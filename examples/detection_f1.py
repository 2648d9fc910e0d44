"""F1 of a detector's boxes, as a metric: `onnx-merge IN OUT --metric examples/detection_f1.py:f1 ...`.

The model's boxes are compared with labelled ones, or, without labels, with those of the original. Two boxes match if
their classes are the same and they overlap by more than half.

Labels are boxes (N, M, 5) in the units of the model's boxes: x1, y1, x2, y2, class. Where a sample has fewer than M,
its other rows have the class -1.

`decode` knows the outputs of YOLOX and of Ultralytics' YOLO from version 8 on. For another detector, change it, and set
the two thresholds to those of its deployment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

Arrays = dict[str, np.ndarray]
Boxes = tuple[np.ndarray, np.ndarray]
"""Corners (M, 4) as x1, y1, x2, y2, and classes (M,)."""

SCORE = 0.3
"""Of a box, at least."""
OVERLAP = 0.45
"""Of two boxes of one class, of which the one with the lower score goes (non-maximum suppression)."""
MATCH = 0.5
"""Overlap of two boxes that are the same."""
TOGETHER = 32
"""Samples whose outputs are held at once."""


def f1(predict: Callable[[Arrays], Arrays], samples: Arrays, labels: np.ndarray | None) -> float:
    """Twice the number of boxes that match, over the number of boxes found and wanted: 0 to 1."""
    wanted = labelled(labels) if labels is not None else detections(predict.original, samples)
    matched = total = 0
    for truth, found in zip(wanted, detections(predict, samples), strict=True):
        matched += matches(truth, found)
        total += len(truth[0]) + len(found[0])
    if not total:
        raise ValueError("there are no boxes on these samples, found or wanted: give others")
    return 2 * matched / total


def decode(outputs: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (N, M, 4) as x1, y1, x2, y2, and their scores (N, M, classes), before any of them goes.

    The first output is (N, M, 5 + classes), YOLOX's: the box's centre and size, whether it holds an object, and the
    classes, the last two as probabilities. Or it is (N, 4 + classes, M), Ultralytics': the same without the object.
    There are more boxes than numbers of each, which tells them apart.
    """
    values = next(iter(outputs.values())).astype(np.float64)
    if values.shape[1] < values.shape[2]:
        values = values.transpose(0, 2, 1)
        scores = values[..., 4:]
    else:
        scores = values[..., 4:5] * values[..., 5:]
    centre, size = values[..., :2], values[..., 2:4]
    return np.concatenate([centre - size / 2, centre + size / 2], -1), scores


def detections(predict: Callable[[Arrays], Arrays], samples: Arrays) -> Iterator[Boxes]:
    """What a model finds on each sample, the best first."""
    count = min(len(array) for array in samples.values())
    for start in range(0, count, TOGETHER):
        boxes, scores = decode(predict({name: array[start : start + TOGETHER] for name, array in samples.items()}))
        for k in range(len(boxes)):
            yield suppressed(boxes[k], scores[k].max(-1), scores[k].argmax(-1))


def suppressed(boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray) -> Boxes:
    """The boxes that stay after non-maximum suppression, the best first."""
    left = [i for i in np.argsort(-scores, kind="stable") if scores[i] >= SCORE]
    kept = []
    while left:
        best = left.pop(0)
        kept.append(best)
        overlaps = overlap(boxes[best], boxes[left])
        left = [i for i, o in zip(left, overlaps, strict=True) if classes[i] != classes[best] or o < OVERLAP]
    return boxes[kept], classes[kept]


def labelled(labels: np.ndarray) -> Iterator[Boxes]:
    """The boxes of each sample."""
    for rows in labels:
        real = rows[rows[:, 4] >= 0]
        yield real[:, :4], real[:, 4].astype(int)


def matches(wanted: Boxes, found: Boxes) -> int:
    """How many of the boxes found, the best first, match one that was wanted; each of these counts once."""
    left = list(range(len(wanted[0])))
    for box, kind in zip(*found, strict=True):
        same = [i for i in left if wanted[1][i] == kind]
        overlaps = overlap(box, wanted[0][same])
        if len(overlaps) and overlaps.max() > MATCH:
            left.remove(same[int(overlaps.argmax())])
    return len(wanted[0]) - len(left)


def overlap(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of a box (4,) with others (M, 4): (M,)."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    common = np.prod(np.maximum(sides, 0), axis=1)
    areas = np.prod(others[:, 2:] - others[:, :2], axis=1) + np.prod(box[2:] - box[:2])
    return common / np.maximum(areas - common, 1e-12)
