"""The loss by which a student mimics the original, its gradient, and the targets from the original."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
import onnx

from passes.gradients.differentiate import GradientModel, gradient_model
from passes.gradients.losses import SquaredError
from passes.gradients.observed_graph import graph_at
from passes.graph.model import Array
from passes.interface.engine import Engine, retaining
from passes.numerics.threads import at_once
from passes.reconstruction.mimicked_tensors import ChannelVariances, MimickedTensor, channel_weights, mimicked_tensors
from passes.reconstruction.output_weights import output_weights
from passes.reconstruction.student import Student, outputting
from passes.settings.distillation_tuning import DistillationTuning
from passes.statistics.batch_cache import BatchCache
from passes.statistics.tensor_store import ScratchSpace


class ImitationLoss:
    """Loss and gradient of ``student`` on batches of samples, ``feeds``.

    ``weighing``: the batches by which channels are weighed; ``workers``: batches that ``engine`` runs at the same time;
    ``room``: bytes of memory for targets that are kept; ``scratch``: disk space for the others.

    Raises
    ------
    NoGradientError: an op has no gradient.
    RunError: the original or the gradients cannot be run.
    """

    def __init__(
        self,
        student: Student,
        feeds: Sequence[Mapping[str, Array]],
        weighing: Collection[int],
        engine: Engine,
        workers: int,
        room: float,
        tuning: DistillationTuning,
        scratch: ScratchSpace | None = None,
    ) -> None:
        self._workers, self._kept = workers, BatchCache(engine, room, scratch)
        self._student, self._feeds, self._engine = student, feeds, engine
        graph = student.typing.graph
        outputs = engine(graph.model)(feeds[0])
        self.tensors = mimicked_tensors(student, outputs)
        self._ends = [one for one in self.tensors if not one.feature]
        teacher = onnx.ModelProto()
        teacher.CopyFrom(graph.model)
        self._teacher = engine(outputting(teacher, [one.name for one in self.tensors]))
        spreads, values = self._seen(weighing, room)
        self.spreads = {name: float(np.sqrt(spread.mean())) for name, spread in spreads.items()}
        """Standard deviation of each tensor, over all channels."""
        self._weights = {name: channel_weights(spread, tuning.variance_floor) for name, spread in spreads.items()}
        axes = {one.name: one.axis for one in self._ends}
        self._parts = output_weights(student.typing, values, axes, tuning.variance_floor)
        self._gradients = imitation_gradients(student, self.tensors, feeds[0], engine)
        self._run = retaining(engine)(self._gradients.model)

    def _seen(self, indices: Collection[int], room: float) -> tuple[dict[str, Array], dict[str, list[Array]]]:
        """The variances of the channels of each tensor over the batches ``indices``, and the values of the outputs in
        as many of these as ``room`` bytes hold, at least in one."""
        found = {one.name: ChannelVariances(one.axis) for one in self.tensors}
        values: dict[str, list[Array]] = {one.name: [] for one in self._ends}
        for made in at_once(self._target, indices, self._workers):
            for one in self.tensors:
                found[one.name].add(made[one.name])
            size = sum(made[name].nbytes for name in values)
            for name, held in values.items():
                if not held or size <= room:
                    held.append(made[name])
            room -= size
        return {name: one.result() for name, one in found.items()}, values

    def slopes(
        self, indices: Sequence[int], values: Mapping[str, Array], feature_weight: float
    ) -> Iterator[dict[str, Array]]:
        """Gradients on each of the batches ``indices`` with ``values`` of the weights. ``feature_weight``: of all
        features together, where the outputs have the weight 1."""
        return at_once(lambda index: self._slope(index, values, feature_weight), indices, self._workers)

    def _slope(self, index: int, values: Mapping[str, Array], feature_weight: float) -> dict[str, Array]:
        targets = self._target(index)
        given = {_target_of(one): targets[one.name] for one in self.tensors}
        weights = {
            _weight_of(one): self._weight(one, targets[one.name], feature_weight if one.feature else 1.0)
            for one in self.tensors
        }
        found = self._run({**self._feeds[index], **values, **given, **weights})
        return {name: found[made] for name, made in self._gradients.gradients.items()}

    def measured(self, indices: Sequence[int], values: Mapping[str, Array]) -> float:
        """The mean loss of the outputs alone on the batches ``indices``. Not finite where an output is not."""
        run = self._engine(self._student.with_outputs([one.name for one in self._ends], values))

        def loss(index: int) -> float:
            targets, made = self._target(index), run(self._feeds[index])
            with np.errstate(over="ignore", invalid="ignore"):  # of weights that diverge
                return sum(self._error(one, made[one.name], targets[one.name]) for one in self._ends)

        return sum(at_once(loss, indices, self._workers)) / len(indices)

    def _error(self, one: MimickedTensor, made: Array, target: Array) -> float:
        error = np.square(made - target, dtype=np.float64)
        return 0.5 * float((error * self._weight(one, target, 1.0)).sum())

    def _weight(self, one: MimickedTensor, target: Array, factor: float) -> Array:
        """Weights that broadcast to ``target``: twice the share, divided by the number of values of a channel."""
        if one.name in self._parts:
            return np.asarray(self._parts[one.name] * (2 * factor / len(target)), np.float32)
        line = self._weights[one.name] * (2 * factor * one.share * target.shape[one.axis] / max(1, target.size))
        shape = [-1 if k == one.axis else 1 for k in range(target.ndim)]
        return np.asarray(line.reshape(shape), np.float32)

    def _target(self, index: int) -> Mapping[str, Array]:
        """The mimicked tensors of the original at the kept channels."""
        found = self._kept.get(index)
        if found is None:
            made = self._teacher(self._feeds[index])
            found = {name: np.ascontiguousarray(self._student.kept(name, array)) for name, array in made.items()}
            self._kept.put(index, found)
        return found


def imitation_gradients(
    student: Student, tensors: Sequence[MimickedTensor], feed: Mapping[str, Array], engine: Engine
) -> GradientModel:
    """The model that computes the gradients of the losses of ``tensors`` with respect to the student's weights.

    ``feed``: a batch on which the student runs.

    Raises
    ------
    NoGradientError: an op has no gradient.
    """
    graph = graph_at(student.model, feed, engine)
    losses = [SquaredError(one.name, _target_of(one), _weight_of(one)) for one in tensors]
    return gradient_model(graph, list(student.values), losses=losses, with_losses=False)


def _target_of(one: MimickedTensor) -> str:
    return f"{one.name}.mimicked"


def _weight_of(one: MimickedTensor) -> str:
    return f"{one.name}.weighed"
