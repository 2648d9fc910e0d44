"""How many samples fit into memory, and how many of them go through together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from passes.settings.tuning import TUNING, MemoryTuning
from passes.statistics.activation_memory import Activations


@dataclass(frozen=True)
class Together:
    """A layer solved once more with the one before: bytes of a sample's ``target``; most samples that ``serve``; bytes
    that one takes meanwhile."""

    target: float
    serve: float
    working: float


@dataclass(frozen=True)
class Moment:
    """When a layer is solved for.

    ``original``, ``drifted``: bytes of a sample that the original's flow holds, and that of the compressed model;
    ``working``: bytes that a sample takes while its moments are computed; ``channels`` that the layer reads,
    ``features`` whose products are taken, as often as it has ``groups``; ``unit``: where it is solved once more with
    the one before.
    """

    original: float
    drifted: float
    working: float
    channels: int
    features: int
    groups: int = 1
    unit: Together = Together(0.0, 0.0, 0.0)

    def matrices(self, tuning: MemoryTuning) -> float:
        """Bytes of the matrices that solving for it, or predicting channels, takes."""
        return max(tuning.gram_bytes * self.groups * self.features**2, tuning.covariance_bytes * self.channels**2)


@dataclass(frozen=True)
class Budget:
    """Of ``memory`` bytes, for a model with ``weights`` bytes and samples with ``each``; ``layers``: of the model;
    ``most``: samples that may go through together, `MemoryTuning.batch` where nothing else is said."""

    memory: int
    weights: int
    each: Activations
    layers: tuple[Moment, ...] = ()
    most: int | None = None
    tuning: MemoryTuning = TUNING.memory

    @property
    def free(self) -> float:
        """Bytes that the weights leave, and what is known of channels."""
        return max(0.0, self.memory - self._fixed)

    @property
    def _fixed(self) -> float:
        known = sum(self.tuning.statistics_bytes * layer.channels**2 for layer in self.layers)
        return self.tuning.weight_copies * self.weights + known

    @property
    def working(self) -> float:
        """Bytes that a sample takes while it is computed with."""
        return max(1.0, self.each.live + self.tuning.working * self.each.widest)

    @property
    def held(self) -> float:
        """Bytes that a sample takes from its run to the end, at most."""
        solved = max((layer.original + layer.drifted for layer in self._layers), default=0.0)
        measured = self.each.held + self.tuning.compared_outputs * self.each.outputs
        return max(1.0, solved, measured) + self._given

    @property
    def _given(self) -> float:
        return self.tuning.sample_copies * self.each.given

    @property
    def _layers(self) -> Sequence[Moment]:
        held = self.each.held
        return self.layers or (Moment(held, self.tuning.compressed_activations * held, 0.0, 0, 0),)

    @property
    def batch(self) -> int:
        """Samples that go through together; an even number, so that a mirror image goes with its image."""
        most = self.tuning.batch if self.most is None else self.most
        size = max(1, min(most, int(self.tuning.working_share * self.free / self.working)))
        return size - size % 2 if size > 1 else 1

    @property
    def samples(self) -> int:
        """Samples that fit; 0 if too few do."""
        count = (self.free - self.batch * self.working) / self.held
        for layer in self.layers:
            held = max(1.0, layer.original + layer.drifted + self._given)
            target, room = layer.unit.target, self.free - self._taken(layer)
            # Few serve: of the others there are no targets.
            count = min(count, max(room / (held + target), (room - target * (layer.unit.serve + self.batch)) / held))
        return int(count) if count >= self.tuning.fewest_samples else 0

    def _taken(self, layer: Moment) -> float:
        """Bytes of a layer's matrices and of a batch; where these are too much, places are thinned out."""
        tuning = self.tuning
        moments = min(self.piece, max(tuning.moment_bytes, self.batch * layer.working))
        taken = layer.matrices(tuning) + max(moments, self.batch * layer.unit.working)
        return min(taken, max(tuning.covariance_bytes * layer.channels**2, tuning.matrix_share * self.free))

    @property
    def piece(self) -> float:
        """Bytes that the moments of a layer may take while they are computed."""
        return self.tuning.moment_share * self.free

    @property
    def normed(self) -> int:
        """Samples that can go through the norms as arithmetic together."""
        return int(self.free / max(1.0, self.tuning.normed * self.each.live + self._given))

    def kept(self, samples: int) -> float:
        """Bytes for what is remembered of so many samples: then the original's flow holds nothing."""
        held = max(layer.drifted for layer in self._layers) + self._given
        left = self.free - self.batch * self.working - samples * held
        return max(0.0, min(self.tuning.recorded_share * self.free, left))

    def needed(self, count: int = 1) -> int:
        """Bytes of memory with which the fewest samples would fit, or as many as ``count``."""
        count = max(1, count)
        low, high = 0, max(1, self.memory)
        while replace(self, memory=high).samples < count:
            low, high = high, 2 * high
        while high - low > high // 64:
            middle = (low + high) // 2
            low, high = (low, middle) if replace(self, memory=middle).samples >= count else (middle, high)
        return high
