"""Draws random directions in which the outputs of the original move, by how much their elements count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from passes.axes.inference import Typing
from passes.graph.model import Array
from passes.interface.engine import Engine
from passes.numerics.arrays import samples_in
from passes.reconstruction.mimicked_tensors import guessed_channel_axis
from passes.reconstruction.output_weights import element_weights
from passes.settings.reconstruction_tuning import PlaceTuning
from passes.statistics.object_places import ObjectPlaces

Feed = Mapping[str, Array]


class OutputDraws:
    """Directions r u^(1/2) / d with normal r, the deviations d of the elements, and the weights u of the places where a
    detector finds objects (`passes.statistics.object_places`), 1 elsewhere.

    ``names``: of the outputs of real numbers that nodes compute, and that have a row of the same size for each sample
    of ``feeds``.

    Raises
    ------
    RunError: the original cannot be run.
    """

    def __init__(self, typing: Typing, feeds: Sequence[Feed], engine: Engine, tuning: PlaceTuning) -> None:
        self._original = engine(typing.graph.model)
        values = self._values(typing, feeds, tuning.seen_samples)
        self.names = [*values]
        axes = {name: guessed_channel_axis(batches[0]) for name, batches in values.items()}
        weights = element_weights(typing, values, axes, tuning.variance_floor)
        self._scales = {name: np.sqrt(one).astype(np.float32) for name, one in weights.items()}
        self._places = ObjectPlaces(typing, values, axes, tuning.objects)

    def of(self, feed: Feed, index: int) -> dict[str, Array]:
        """A direction (n, ...) of each output for a batch of n samples. ``index``: of the draw."""
        rng, count = np.random.default_rng((0, index)), samples_in(feed)
        found = {
            name: rng.standard_normal((count, *scale.shape[1:]), np.float32) * scale
            for name, scale in self._scales.items()
        }
        for name, weights in self._places.weights(self._original(feed) if self._places else {}).items():
            found[name] *= np.sqrt(weights)
        return found

    def _values(self, typing: Typing, feeds: Sequence[Feed], most: int) -> dict[str, list[Array]]:
        """Values of the outputs on the first ``most`` samples or a few more."""
        found, seen = dict[str, list[Array]](), list[int]()
        for feed in feeds:
            for name, value in self._original(feed).items():
                if name in typing.graph.producer and value.dtype.kind == "f" and value.size:
                    found.setdefault(name, []).append(np.asarray(value))
            seen.append(samples_in(feed))
            if sum(seen) >= most:
                break
        return {name: values for name, values in found.items() if _has_row_each(values, seen)}


def _has_row_each(values: Sequence[Array], samples: Sequence[int]) -> bool:
    """Whether the batches ``values`` have as many rows as ``samples``, and these have one shape, of rank 1 or more."""
    shapes = {value.shape[1:] for value in values}
    return len(shapes) == 1 and shapes != {()} and [len(value) for value in values] == [*samples]
