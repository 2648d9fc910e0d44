"""What a pass is: a named step that takes a model and returns one, and says what it needs to know beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol, TypeVar, cast

import onnx

from passes.interface.errors import PassError
from passes.interface.reason import Reason

Fact = TypeVar("Fact")


@dataclass(frozen=True)
class WorkingModel:
    """A model on its way. ``proto``: the graph as it stands, which passes do not modify; ``facts``: what passes found
    out about it, one of each type (see `knowing`)."""

    proto: onnx.ModelProto
    facts: Mapping[type[Any], object] = field(default_factory=dict)

    def knowing(self, *facts: object) -> WorkingModel:
        """This model with more facts. A fact replaces an earlier one of its type."""
        return replace(self, facts={**self.facts, **{type(fact): fact for fact in facts}})

    def having(self, proto: onnx.ModelProto) -> WorkingModel:
        """This model with another graph, and the facts that are known."""
        return replace(self, proto=proto)

    def get(self, kind: type[Fact]) -> Fact | None:
        """The fact of this type, if it is known."""
        return cast("Fact | None", self.facts.get(kind))

    def __getitem__(self, kind: type[Fact]) -> Fact:
        """The fact of this type.

        Raises
        ------
        PassError: no pass has found it.
        """
        if kind not in self.facts:
            raise PassError(f"{kind.__name__} of the model is not known: run the pass that finds it first")
        return cast("Fact", self.facts[kind])


class PassResult(NamedTuple):
    """``changed``: whether the graph is another; ``reasons``: node, layer or group -> why the pass left it as it was;
    ``notes``: what a user should know of the result, a line each, in which settings are
    named as in a `PassError`."""

    model: WorkingModel
    changed: bool = False
    reasons: Mapping[str, Reason] = {}
    notes: tuple[str, ...] = ()


class Pass(Protocol):
    """A step of a pipeline. It leaves what it is given as it is."""

    @property
    def name(self) -> str:
        """Name of the pass in messages, progress and timings."""

    @property
    def requires(self) -> tuple[type[Any], ...]:
        """Types of the facts that have to be known."""

    def run(self, model: WorkingModel) -> PassResult:
        """Take the step.

        Raises
        ------
        PassError: the model or the request cannot be handled.
        RunError: a segment of the model cannot be run.
        """
