"""Run subgraphs of a model for the passes: for reconstruction on the chosen provider, for constant folding on the
CPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import onnx

from onnx_merge.errors import OnnxMergeError
from onnx_merge.runtime.memory_trim import defragment
from onnx_merge.runtime.providers import CPU, ProviderChoice
from onnx_merge.runtime.session import Optimisation, loaded
from onnx_merge.runtime.session_settings import thread_limit
from onnx_merge.runtime.threads import usable_cores
from passes.graph.model import Array
from passes.interface.engine import Loaded
from passes.interface.errors import RunError


@dataclass(frozen=True)
class SegmentRunner:
    """An engine that raises `RunError`. Its threads do not spin, because the solvers between two runs need the
    cores."""

    provider: ProviderChoice
    optimisation: Optimisation = "all"
    threads: int | None = None
    """Within an operator; see `Session`."""
    arena: bool = False
    """Whether sessions keep the memory of a run for the next one; see `Session`."""

    def __call__(self, model: onnx.ModelProto) -> Loaded:
        """Load ``model`` and return a function that runs it.

        Raises
        ------
        RunError: the model cannot be loaded or run, or an output is not a tensor.
        """
        defragment()  # the previous segment left free gaps that are too small for new tensors
        try:
            session = loaded(
                model, self.provider, self.optimisation, threads=self.threads, spinning=False, arena=self.arena
            )
        except OnnxMergeError as error:
            raise RunError(str(error)) from error
        names = {i.name for i in session.inputs}
        given = {o.name for o in session.outputs}
        for output in model.graph.output:
            if output.name not in given:
                raise RunError(f"{output.name} is no tensor")

        def run(feeds: Mapping[str, Array]) -> Mapping[str, Array]:
            try:
                return session.run({name: feeds[name] for name in feeds if name in names})
            except OnnxMergeError as error:
                raise RunError(str(error)) from error

        return run

    def retaining(self) -> SegmentRunner:
        """A runner whose models keep the memory of a run for the next one."""
        return replace(self, arena=True)

    def share_threads(self, most: int) -> tuple[SegmentRunner, int]:
        """A runner with an equal share of the threads for each of ``workers`` models at the same time, and ``workers``,
        at most ``most``."""
        threads = self.threads or thread_limit() or usable_cores()
        workers = max(1, min(most, threads))
        return (replace(self, threads=threads // workers), workers) if workers > 1 else (self, 1)


FOLDING = SegmentRunner(CPU, "none")
"""Computes constants. Without optimisations, every node is computed as written, so that no rewriting changes the
rounding."""
