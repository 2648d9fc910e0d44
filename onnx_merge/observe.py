"""Shapes that inference cannot find, read off a run of the model (the observer of `passes.graph.shapes`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from onnx_merge.errors import OnnxMergeError
from onnx_merge.runtime import CPU, ProviderChoice, Session
from onnx_merge.samples import index_bounds, random_feeds
from passes.graph.shapes import Shape


@dataclass
class RunObserver:
    """Runs a model on random inputs and tells the shapes of tensors inside it.

    ``seed``: every run draws other values, so that a size that depends on values (the count of a NonZero, say)
    differs between the runs for two assignments of sizes, and is seen to be dynamic.
    """

    provider: ProviderChoice = CPU
    base_dir: Path | None = None
    seed: int = 0
    _runs: int = field(default=0, init=False, repr=False)

    def __call__(self, model: onnx.ModelProto, sizes: Mapping[str, Shape], names: list[str]) -> dict[str, Shape]:
        """Shapes of those of ``names`` that are tensors; none if the model cannot be run. Nothing is raised."""
        try:
            session = Session(exposing(model, names), self.provider, optimisation="basic", base_dir=self.base_dir)
            seed, self._runs = self.seed + self._runs, self._runs + 1
            feeds = random_feeds(session.inputs, None, seed, sizes, index_bounds(model))
            wanted = [output.name for output in session.outputs if output.name in set(names)]
            return {name: tuple(value.shape) for name, value in session.run(feeds, wanted).items()}
        except OnnxMergeError:
            return {}


def exposing(model: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    """A copy of ``model`` with the tensors ``names`` among its outputs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    present = {value.name for value in copy.graph.output}
    # Without a type: onnxruntime infers it.
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in present)
    return copy
