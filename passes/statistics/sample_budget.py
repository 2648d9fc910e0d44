"""Computes how many samples fit into memory, and the batch size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from passes.settings.statistics_tuning import MemoryTuning
from passes.settings.tuning import TUNING
from passes.statistics.activation_memory import Activations


@dataclass(frozen=True)
class PairMemory:
    """Memory of the joint refinement of a layer with the one before: bytes of a sample's ``target``; ``serve``: the
    largest number of samples it uses; ``working``: bytes of intermediate results of a sample."""

    target: float
    serve: float
    working: float


@dataclass(frozen=True)
class LayerMemory:
    """Memory that is taken while one layer is solved.

    ``original``, ``drifted``: bytes of a sample that the run of the original model holds, and the run of the compressed
    model; ``working``: bytes of a sample while moments are computed; ``channels``: input channels of the layer whose
    products are taken; ``features``: features whose products are taken, in each of ``groups`` groups; ``pair``: joint
    refinement with the layer before, zeros without one; ``kept``: values of a sample that are kept in place of products
    of channels.
    """

    original: float
    drifted: float
    working: float
    channels: int
    features: int
    groups: int = 1
    pair: PairMemory = PairMemory(0.0, 0.0, 0.0)
    kept: float = 0.0

    def matrices(self, tuning: MemoryTuning) -> float:
        """Bytes of the matrices for the regression, or for the prediction of channels, whichever is more."""
        return max(tuning.gram_bytes * self.groups * self.features**2, tuning.covariance_bytes * self.channels**2)


@dataclass(frozen=True)
class Budget:
    """A memory budget of ``memory`` bytes.

    ``weights``: bytes of the model's weights; ``each``: activations of one sample; ``layers``: memory of each layer's
    solution; ``most``: largest batch size, `MemoryTuning.batch` if None; ``compared``: largest number of samples whose
    outputs are compared while losses are measured; ``cores``: batches that may run at the same time, if memory holds
    them; ``unit``: samples that every batch has at least.
    """

    memory: int
    weights: int
    each: Activations
    layers: tuple[LayerMemory, ...] = ()
    most: int | None = None
    compared: int = TUNING.sensitivity.most_samples
    tuning: MemoryTuning = TUNING.memory
    cores: int = 1
    unit: int = 1

    @property
    def available(self) -> float:
        """Bytes left after the weights and the channel statistics."""
        return max(0.0, self.memory - self._fixed)

    @property
    def _fixed(self) -> float:
        known = sum(self.tuning.statistics_bytes * layer.channels**2 for layer in self.layers)
        return self.tuning.weight_copies * self.weights + known

    @property
    def working(self) -> float:
        """Bytes of a sample in a batch that is being computed."""
        return max(1.0, self.each.live + self.tuning.working * self.each.widest)

    @property
    def held(self) -> float:
        """Largest number of bytes that a sample takes between its run and the end."""
        solved = max((layer.original + layer.drifted for layer in self._layers), default=0.0)
        measured = self.each.held + self.tuning.compared_outputs * self.each.outputs
        return max(1.0, solved, measured) + self._given

    @property
    def _given(self) -> float:
        kept = sum(self.tuning.row_bytes * layer.kept for layer in self.layers)
        return self.tuning.sample_copies * self.each.given + kept

    @property
    def _layers(self) -> Sequence[LayerMemory]:
        held = self.each.held
        return self.layers or (LayerMemory(held, self.tuning.compressed_activations * held, 0.0, 0, 0),)

    @property
    def batch(self) -> int:
        """Batch size. It is 1 or even, so that an image and its mirror image are in the same batch."""
        most = self.tuning.batch if self.most is None else self.most
        share = self._together // self.cores
        size = max(1, min(most, share if share >= self.unit else self._together))
        return size - size % 2 if size > 1 else 1

    @property
    def workers(self) -> int:
        """Number of batches that run at the same time."""
        return max(1, min(self.cores, self._together // max(self.unit, self.batch)))

    @property
    def _together(self) -> int:
        """Number of samples whose intermediate results fit together."""
        return int(self.tuning.working_share * self.available / self.working)

    @property
    def _computed(self) -> int:
        """Number of samples that are being computed."""
        return self.batch if self.workers == 1 else max(self.unit, self.batch) * self.workers

    @property
    def samples(self) -> int:
        """Number of samples that fit; 0 if fewer than `MemoryTuning.fewest_samples` fit."""
        count = (self.available - self._computed * self.working) / self.held
        for layer in self.layers:
            held = max(1.0, layer.original + layer.drifted + self._given)
            target, room = layer.pair.target, self.available - self._taken(layer)
            # The joint refinement uses few samples. Targets are held for these only.
            count = min(
                count, max(room / (held + target), (room - target * (layer.pair.serve + self._computed)) / held)
            )
        return int(count) if count >= self.tuning.fewest_samples else 0

    def samples_stored(self, room: float) -> int:
        """Number of samples that fit if the activations of a run are in temporary files of ``room`` bytes, and only
        those of one batch in memory; 0 if fewer than `MemoryTuning.fewest_samples` fit."""
        tuning, each = self.tuning, self.each
        held = max((layer.original + layer.drifted for layer in self._layers), default=0.0)
        most = room / max(1.0, held, each.held)
        given = max(1.0, self._given)
        # The outputs of samples on which losses are measured are compared in memory.
        compared = tuning.compared_outputs * each.outputs
        free = self.available - self._computed * self.working
        counts = [most, max(free / (given + compared), (free - compared * self.compared) / given)]
        counts += [(self.available - self._taken(layer)) / given for layer in self.layers]
        count = min(counts)
        return int(count) if count >= tuning.fewest_samples else 0

    def _taken(self, layer: LayerMemory) -> float:
        """Bytes of a layer's matrices and of what is computed. Where these do not fit, places are subsampled."""
        tuning = self.tuning
        moments = min(self.moment_limit, max(self.workers * tuning.moment_bytes, self._computed * layer.working))
        taken = layer.matrices(tuning) + max(moments, self._computed * layer.pair.working)
        return min(taken, max(tuning.covariance_bytes * layer.channels**2, tuning.matrix_share * self.available))

    @property
    def moment_limit(self) -> float:
        """Bytes that the computation of a layer's moments may take."""
        return self.tuning.moment_share * self.available

    @property
    def normed(self) -> int:
        """Batch size that fits while BatchNormalization is computed as separate arithmetic nodes."""
        return int(self.available / max(1.0, self.tuning.normed * self.each.live + self._given))

    def kept(self, samples: int) -> float:
        """Bytes for recorded targets of so many samples. With these the run of the original model holds nothing."""
        held = max(layer.drifted for layer in self._layers) + self._given
        left = self.available - self._computed * self.working - samples * held
        return max(0.0, min(self.tuning.recorded_share * self.available, left))

    def needed(self, count: int = 1) -> int:
        """Bytes of memory with which ``count`` samples fit, or the fewest that are allowed if these are more."""
        count = max(1, count)
        low, high = 0, max(1, self.memory)
        while replace(self, memory=high).samples < count:
            low, high = high, 2 * high
        while high - low > high // 64:
            middle = (low + high) // 2
            low, high = (low, middle) if replace(self, memory=middle).samples >= count else (middle, high)
        return high
