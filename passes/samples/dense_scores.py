"""Scores of places, as detectors give them, and places of made-up samples that are moved to an object of some class.

Made-up samples show no object, so that what tells objects from the rest hardly varies, and its channels look useless.
A few places of each sample are therefore moved until the scores are those of an object (Chawla et al., Data-free
knowledge distillation for object detection, WACV 2021; here each place has a target of its own).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from passes.gradients.losses import BinaryDivergence, KullbackLeibler, ScalarLoss
from passes.graph.model import Array, Graph, Node
from passes.settings.sample_tuning import SampleMatchingTuning

LAYOUT_OPS = {"Concat", "Flatten", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"}
"""Ops whose outputs have the values of their data."""


@dataclass(frozen=True)
class ScoreHead:
    """The ``tensor`` of logits (N, ...) of one kind of scores: their classes are along ``axis``, ``sizes`` is the shape
    of a sample; ``exclusive``: whether a place has one class (a softmax), or any number of them (a sigmoid)."""

    tensor: str
    axis: int
    sizes: tuple[int, ...]
    exclusive: bool

    @property
    def places(self) -> tuple[int, ...]:
        """Sizes of all axes but that of the classes."""
        return tuple(size for axis, size in enumerate(self.sizes, 1) if axis != self.axis)

    @property
    def target(self) -> str:
        """Input with the target probabilities."""
        return f"{self.tensor}.target"

    @property
    def weight(self) -> str:
        """Input with the weights of the elements."""
        return f"{self.tensor}.weight"

    @property
    def loss(self) -> ScalarLoss:
        """The divergence from the targets."""
        if self.exclusive:
            return KullbackLeibler(self.tensor, self.target, self.weight, self.axis)
        return BinaryDivergence(self.tensor, self.target, self.weight)


def score_heads(graph: Graph, samples: int) -> list[ScoreHead]:
    """The logits of all scores among the outputs of ``graph``, joined, cut or rearranged as they may be.

    ``graph``: with the shapes of a batch of so many ``samples``.
    """
    makers = {name: node for node in graph.nodes for name in node.outputs}
    found: dict[str, ScoreHead] = {}
    left, seen = [*graph.outputs], set[str]()
    while left:
        name = left.pop()
        node = makers.get(name)
        if node is None or name in seen:
            continue
        seen.add(name)
        if node.op in LAYOUT_OPS:
            left.extend(node.inputs if node.op == "Concat" else node.inputs[:1])
        elif node.op in ("Sigmoid", "Softmax"):
            shape = graph.shape(node.inputs[0]) or ()
            axis = _class_axis(node, shape, graph.opset)
            if axis and all(shape) and shape[0] == samples:
                found[node.inputs[0]] = ScoreHead(node.inputs[0], axis, tuple(shape[1:]), node.op == "Softmax")
    return sorted(found.values(), key=lambda head: head.tensor)


def _class_axis(node: Node, shape: Sequence[int], opset: int) -> int:
    """The axis of the classes of scores; 0 where there is none."""
    rank = len(shape)
    if node.op == "Sigmoid":  # classes are before the places of an image, and after those of a list
        return 1 if rank == 4 else max(0, rank - 1)
    axis = int(node.attrs.get("axis", -1 if opset >= 13 else 1)) % max(1, rank)
    joins = opset < 13 and any(size != 1 for size in shape[axis + 1 :])  # all axes from this one on
    return 0 if joins else axis


def object_targets(
    heads: Sequence[ScoreHead], count: int, seed: int, weight: float, tuning: SampleMatchingTuning
) -> dict[str, Array]:
    """Targets and weights of ``heads`` for ``count`` samples: `SampleMatchingTuning.objects` places of each are moved
    to a random class. Heads with the same places (objectness and classes, for instance) are moved at the same ones.

    ``weight``: of the objects of a sample. All other elements have the weight 0.
    """
    rng = np.random.default_rng(seed)
    found: dict[str, Array] = {}
    alike: dict[tuple[int, ...], list[ScoreHead]] = {}
    for head in heads:
        alike.setdefault(head.places, []).append(head)
        classes = head.sizes[head.axis - 1]
        weighed = tuple(1 if head.exclusive and axis == head.axis else s for axis, s in enumerate(head.sizes, 1))
        found[head.target] = np.full((count, *head.sizes), 1 / classes if head.exclusive else 0.5, np.float32)
        found[head.weight] = np.zeros((count, *weighed), np.float32)
    groups = [*alike]
    for sample in range(count if heads else 0):
        for _ in range(tuning.objects):
            places = groups[rng.integers(len(groups))]
            place = (sample, *(int(rng.integers(size)) for size in places))
            for head in alike[places]:
                classes = head.sizes[head.axis - 1]
                one = int(rng.integers(classes))
                targets, weights = found[head.target], found[head.weight]
                at = (*place[: head.axis], one, *place[head.axis :])
                if head.exclusive:
                    np.moveaxis(targets, head.axis, -1)[place] = (1 - tuning.confidence) / classes
                    targets[at] += tuning.confidence
                    np.moveaxis(weights, head.axis, -1)[place] = weight / tuning.objects
                else:
                    targets[at], weights[at] = tuning.confidence, weight / tuning.objects
    return found
