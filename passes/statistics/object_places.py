"""Weighs the places of a detector's outputs by whether there is an object.

Almost all places of a photograph are empty. Boxes and classes are read there by nobody, and yet they are most of what a
squared error counts. Here a place has the weight

    w = 1 - s + s q / mean(q)

with its score q, the largest one of all classes. The mean is over all places of the samples.

What the scores are is told by their values: they are in 0..1, few places have a high one, and most have next to none. A
channel that is high at most places is that of the background.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from passes.axes.inference import Typing
from passes.axes.output_parts import index_sets
from passes.graph.model import Array
from passes.settings.object_tuning import ObjectTuning

Sizes = tuple[int, ...]


@dataclass(frozen=True)
class _Scores:
    """The ``channels`` along ``axis`` of the output ``name``; ``mean``: of the scores of all places."""

    name: str
    axis: int
    channels: Array
    mean: float

    def at(self, outputs: Mapping[str, Array]) -> Array:
        """The score of each place (n, ...) of a batch."""
        return np.asarray(np.take(np.asarray(outputs[self.name]), self.channels, self.axis).max(self.axis))


class ObjectPlaces:
    """Where a model finds objects, by its ``outputs``: name -> batches (n, ...) of the original's values.

    ``axes``: name -> axis of the output's channels. Outputs belong to the same places if the sizes of all their other
    axes are the same. Where several parts of them are scores, such as objectness and classes, the one with the fewest
    channels counts.
    """

    def __init__(
        self,
        typing: Typing,
        outputs: Mapping[str, Sequence[Array]],
        axes: Mapping[str, int],
        tuning: ObjectTuning,
    ) -> None:
        self._axes, self._share = axes, tuning.share
        self._scores: dict[Sizes, _Scores] = {}
        for name, values in outputs.items():
            places = self._sizes(name, values[0])
            if math.prod(places) < tuning.fewest_places or len({array.shape[1:] for array in values}) > 1:
                continue
            axis = axes[name] % values[0].ndim
            for indices in index_sets(typing, name, values[0].shape[1:]):
                if tuple(len(line) for k, line in enumerate(indices, 1) if k != axis) != places:
                    continue
                found, known = _scores(name, values, axis, indices[axis - 1], tuning), self._scores.get(places)
                if found and (known is None or len(found.channels) < len(known.channels)):
                    self._scores[places] = found

    def __bool__(self) -> bool:
        return bool(self._scores)

    def weights(self, outputs: Mapping[str, Array]) -> dict[str, Array]:
        """Output -> w of its places, of size one along its channels, for a batch of values. Without those whose places
        have no scores."""
        found: dict[str, Array] = {}
        for name in self._axes if self else ():
            known = self._scores.get(self._sizes(name, outputs[name]))
            if known is not None:
                relative = 1 - self._share + self._share * known.at(outputs) / known.mean
                found[name] = np.expand_dims(relative.astype(np.float32), self._axes[name] % outputs[name].ndim)
        return found

    def _sizes(self, name: str, values: Array) -> Sizes:
        """The sizes of all axes of an output but those of samples and channels."""
        return tuple(size for k, size in enumerate(values.shape) if k not in (0, self._axes[name] % values.ndim))


def _scores(name: str, values: Sequence[Array], axis: int, channels: Array, tuning: ObjectTuning) -> _Scores | None:
    """Scores of the ``channels`` of an output that are high at few places; None if these are no scores of objects."""
    taken = (np.moveaxis(np.take(np.asarray(array), channels, axis), axis, -1) for array in values)
    part = np.concatenate([array.reshape(-1, len(channels)) for array in taken])
    if not (part.size and part.min() >= 0 and part.max() <= 1):  # or not a number
        return None
    rare = np.flatnonzero(part.mean(0, dtype=np.float64) < 0.5)
    if not len(rare):
        return None
    highest = part[:, rare].max(1)
    if np.median(highest) > tuning.empty or not 0 < (highest >= tuning.found).mean() <= tuning.most_found:
        return None
    return _Scores(name, axis, channels[rare], float(highest.mean(dtype=np.float64)))
