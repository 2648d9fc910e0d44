"""How many samples fit into memory, and how many of them go through together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from passes.statistics.activation_memory import Activations

BATCH = 32
"""Samples that go through the model together, where it leaves their number open."""
FEWEST = 4
"""Samples below which nothing is reconstructed."""
GIVEN = 2
"""Copies of a sample itself, besides the one that was loaded: as cut into batches, as joined with further ones."""
UNKNOWN = 2
"""What a compressed model's flow and targets hold, in times of what the original's does, where no layers are known."""
COMPARED = 2
"""Outputs of the original and of a model with a group cut, while what is lost is measured."""
WORKING = 10
"""What a batch takes while it is computed with, in times of what the widest node reads and makes."""
NORMED = 10
"""Live activations that are held while all samples go through the norms as arithmetic."""
KEPT = 0.25
"""Share of the memory that what the original gave its layers may take between its run and the solving."""
COPIES = 7
"""Of the weights: original, normalised, folded, restandardised and compressed model, as protobuf and as arrays."""
GRAMS, COVARIANCES, KNOWN = 56, 64, 12
"""Bytes for each pair of features whose products are taken; for each pair of channels, while some are predicted from
others, and as long as what is known of them is kept."""
LARGEST = 0.9
"""Share of the memory that the matrices of a layer may take."""
SHARE = 0.25
"""Of the memory, for what a batch takes while it is computed with."""
MOMENT_SHARE = 0.35
"""Of the memory, for what the moments of a layer take while they are computed."""
MOMENTS = 2**27
"""Bytes that they take where there is that much: small batches are joined
(`passes.reconstruction.layer_regression.TOGETHER`)."""


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

    @property
    def squares(self) -> float:
        """Bytes of the matrices that solving for it, or predicting channels, takes."""
        return max(GRAMS * self.groups * self.features**2, COVARIANCES * self.channels**2)


@dataclass(frozen=True)
class Budget:
    """Of ``memory`` bytes, for a model with ``weights`` bytes and samples with ``each``; ``layers``: of the model;
    ``most``: samples that may go through together."""

    memory: int
    weights: int
    each: Activations
    layers: tuple[Moment, ...] = ()
    most: int = BATCH

    @property
    def free(self) -> float:
        """Bytes that the weights leave, and what is known of channels."""
        return max(0.0, self.memory - self._fixed)

    @property
    def _fixed(self) -> float:
        return COPIES * self.weights + sum(KNOWN * layer.channels**2 for layer in self.layers)

    @property
    def working(self) -> float:
        """Bytes that a sample takes while it is computed with."""
        return max(1.0, self.each.live + WORKING * self.each.widest)

    @property
    def held(self) -> float:
        """Bytes that a sample takes from its run to the end, at most."""
        solved = max((layer.original + layer.drifted for layer in self._layers), default=0.0)
        measured = self.each.held + COMPARED * self.each.outputs
        return max(1.0, solved, measured) + GIVEN * self.each.given

    @property
    def _layers(self) -> Sequence[Moment]:
        held = self.each.held
        return self.layers or (Moment(held, UNKNOWN * held, 0.0, 0, 0),)

    @property
    def batch(self) -> int:
        """Samples that go through together; an even number, so that a mirror image goes with its image."""
        size = max(1, min(self.most, int(SHARE * self.free / self.working)))
        return size - size % 2 if size > 1 else 1

    @property
    def samples(self) -> int:
        """Samples that fit; 0 if too few do."""
        count = (self.free - self.batch * self.working) / self.held
        for layer in self.layers:
            held = max(1.0, layer.original + layer.drifted + GIVEN * self.each.given)
            target, room = layer.unit.target, self.free - self._taken(layer)
            # Few serve: of the others there are no targets.
            count = min(count, max(room / (held + target), (room - target * (layer.unit.serve + self.batch)) / held))
        return int(count) if count >= FEWEST else 0

    def _taken(self, layer: Moment) -> float:
        """Bytes of a layer's matrices and of a batch; where these are too much, places are thinned out."""
        moments = min(self.piece, max(MOMENTS, self.batch * layer.working))
        taken = layer.squares + max(moments, self.batch * layer.unit.working)
        return min(taken, max(COVARIANCES * layer.channels**2, LARGEST * self.free))

    @property
    def piece(self) -> float:
        """Bytes that the moments of a layer may take while they are computed."""
        return MOMENT_SHARE * self.free

    @property
    def normed(self) -> int:
        """Samples that can go through the norms as arithmetic together."""
        return int(self.free / max(1.0, NORMED * self.each.live + GIVEN * self.each.given))

    def kept(self, samples: int) -> float:
        """Bytes for what is remembered of so many samples: then the original's flow holds nothing."""
        held = max(layer.drifted for layer in self._layers) + GIVEN * self.each.given
        return max(0.0, min(KEPT * self.free, self.free - self.batch * self.working - samples * held))

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
