"""Observe shapes that inference cannot find, by running the model (the observer of `passes.shapes.inference`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import onnx

from onnx_merge.errors import OnnxMergeError
from onnx_merge.inputs.feeds import feeds_at, index_bounds, resolve_shapes
from onnx_merge.runtime.providers import CPU, ProviderChoice
from onnx_merge.runtime.session import Session
from passes.shapes.inference import Shape
from passes.shapes.shape_probe import SHAPELESS, shape_name, with_shape_outputs

Layer = TypeVar("Layer")
STRINGS = ("a", "a b c,d", "")
"""Made-up strings of unlike numbers of words and characters."""


@dataclass
class RunObserver:
    """Runs a model on random inputs and returns the shapes of tensors inside it.

    Every run draws other values, beginning with ``seed``. A size that depends on values, such as the count of a
    NonZero, then differs between two runs and is recognised as dynamic. So does one that depends on strings, such as
    the number of their words. Encoders take strings that they do not know.
    """

    provider: ProviderChoice = CPU
    seed: int = 0
    _runs: int = field(default=0, init=False, repr=False)
    _loaded: tuple[onnx.ModelProto, list[str], Session, dict[str, int]] | None = field(
        default=None, init=False, repr=False
    )

    def __getstate__(self) -> dict[str, object]:
        """The state to send to another process, which loads the model itself."""
        return {**vars(self), "_loaded": None}

    def __call__(self, model: onnx.ModelProto, sizes: Mapping[str, Shape], names: list[str]) -> dict[str, Shape]:
        """Shapes of those of ``names`` that are tensors; empty if the model cannot be run. No exception is raised."""
        try:
            session, bounds = self._session(model, names)
            seed, self._runs = self.seed + self._runs, self._runs + 1
            shapes = resolve_shapes(session.inputs, None, {}) | dict(sizes)
            drawn = feeds_at([i for i in session.inputs if i.dtype != object], shapes, seed, bounds)
            words = STRINGS[self._runs % len(STRINGS)]
            strings = {i.name: np.full(shapes[i.name], words, object) for i in session.inputs if i.dtype == object}
            values = session.run({**drawn, **strings})
        except OnnxMergeError:
            return {}
        wanted = {shape_name(name): name for name in names}
        return {wanted[name]: tuple(map(int, value)) for name, value in values.items() if name in wanted}

    def _session(self, model: onnx.ModelProto, names: list[str]) -> tuple[Session, dict[str, int]]:
        """A session of the model whose outputs are the shapes, and the bounds of its inputs. The last session is
        cached."""
        if self._loaded is None or self._loaded[0] is not model or self._loaded[1] != names:
            self._loaded = None
            try:
                session = self._load(with_shape_outputs(model, names))
            except OnnxMergeError:  # some of the names are not tensors
                others = {n for node in model.graph.node if node.op_type in SHAPELESS for n in node.output}
                session = self._load(with_shape_outputs(model, [name for name in names if name not in others]))
            self._loaded = model, names, session, index_bounds(model)
        return self._loaded[2:]

    def _load(self, model: onnx.ModelProto) -> Session:
        return Session(model, self.provider, optimisation="basic")


def exposing(model: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    """A copy of ``model`` with the tensors ``names`` among its outputs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    present = {value.name for value in copy.graph.output}
    # Without a type: onnxruntime infers it.
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in present)
    return copy


def evenly_spaced_layers(layers: Sequence[Layer], most: int) -> Sequence[Layer]:
    """At most ``most`` of ``layers``, but one at least, spread evenly: those whose tensors are exposed."""
    if len(layers) <= most:
        return layers
    return [layers[k] for k in np.unique(np.linspace(0, len(layers) - 1, max(1, most)).astype(int))]
