"""A model with a session: on which provider it runs, at which input sizes, and what happens if it does not run."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

import onnx
from numpy.typing import NDArray

from onnx_merge.config.options import Options
from onnx_merge.errors import InputError, OnnxMergeError
from onnx_merge.inputs.assignments import Assignments, find_assignments, require, sample_sizes
from onnx_merge.inputs.feeds import Sizes
from onnx_merge.inputs.memory_fit import MemoryFit
from onnx_merge.inputs.sample_axes import crosses, unlike_axes
from onnx_merge.inputs.size_inputs import fixing
from onnx_merge.inputs.user_arrays import Samples
from onnx_merge.runtime.batching import batches
from onnx_merge.runtime.devices.faster_provider import faster_provider
from onnx_merge.runtime.providers import ProviderChoice
from onnx_merge.runtime.session import Optimisation, Session, loaded
from onnx_merge.runtime.tensor_info import is_open
from onnx_merge.tuning.runtime import DEVICE

Array = NDArray[Any]


@dataclass
class RunnableModel:
    """A model, and how it runs."""

    model: onnx.ModelProto
    options: Options
    provider: ProviderChoice
    notes: tuple[str, ...] = field(default=(), init=False)
    """What a user should know of how it runs, and of how samples were found."""
    optimisation: Optimisation = field(default="all", init=False)
    """The level at which onnxruntime optimises the model. It is lowered if onnxruntime's optimisations break the
    model."""
    runs: bool = field(default=True, init=False)
    """Whether the model can be run."""
    assignments: Assignments = field(default=Assignments(()), init=False)
    """Input sizes at which the model runs. If there are none, ``problem`` says why."""
    sizes: Sizes = field(default_factory=dict, init=False)
    """Sizes at which samples are made: those that the user gave, or shapes of all inputs if the model does not run at
    the default sizes."""
    fitting: MemoryFit = field(init=False)
    """The memory that a sample takes, and the sizes chosen for dynamic dimensions that the user left open."""
    _session: Session | None = field(default=None, init=False, repr=False)

    def _first_session(self, candidate: ProviderChoice) -> Session:
        """A session to look for sizes and samples with: on the CPU, or on ``candidate`` for models that run only
        there."""
        try:
            return loaded(self.model, self.provider)
        except OnnxMergeError:
            if self.provider.on_device or not candidate.on_device:
                raise
            with contextlib.suppress(OnnxMergeError):
                found = loaded(self.model, candidate)
                self.provider = candidate
                where = f"{candidate.name.upper()} ({candidate.reason})"
                self.notes += (f"runs on {where}: onnxruntime cannot load it for the CPU",)
                return found
            raise

    def _take_faster(self, candidate: ProviderChoice, batch: Callable[[int], dict[str, Array]]) -> None:
        """Run on ``candidate`` from here on, if a run of the tool is faster there. ``batch``: makes so many samples."""
        assert self._session is not None
        try:
            some = batch(DEVICE.timed_samples)
            feeds, size, _ = next(batches(some, self._session.inputs, self.fitting.together(some)))
            self._session = None  # the weights of a large model are not in memory three times
            self.provider, note = faster_provider(self.model, feeds, size, candidate, self.optimisation)
        except OnnxMergeError as error:
            note = f"runs on the CPU: a batch could not be timed on both providers: {error}"
        self.notes += (note,)
        self._session = self._session or self.load(self.model)

    @property
    def _allows_unverified(self) -> bool:
        """Whether a model that does not run may be compressed all the same, because no option needs a run."""
        return self.options.unverified and not self._needing_outputs

    @property
    def _needing_outputs(self) -> tuple[str, ...]:
        """The given options that need outputs of the model."""
        options = self.options
        samples = (("--labels", bool(options.labels)), ("--calib", options.has_samples))
        return (*(name for name, given in samples if given), *options.limits)

    def _continue_unverified(self, error: OnnxMergeError) -> tuple[str, ...]:
        """Continue without running the model. Returns a note."""
        self._session, self.runs, self.real = None, False, False
        self.assignments = Assignments((), error.message)
        return (f"outputs were not compared: {error}",)

    def _find_sizes(self, samples: Samples | None = None) -> tuple[str, ...]:
        """Find sizes at which the model runs and samples can be made. Returns notes."""
        assert self._session is not None
        known = [{n: (2, *a.shape[1:]) if a.ndim else () for n, a in samples.feeds.items()}] if samples else []
        given, seed = self.given, self.options.seed
        try:
            found = find_assignments(self._session, model=self.model, sizes=given, known=known, seed=seed)
        except InputError as error:  # inputs that cannot be generated
            if samples is None:
                raise
            self.assignments = Assignments((), error.message)
            return ()
        self.assignments = found
        if samples is not None:
            return ()
        require(found, self._session.inputs, given, fixing(self.model))
        self.sizes, note = sample_sizes(self._session, found, self.model, given, seed)
        return (note,) if note else ()

    @property
    def session(self) -> Session | None:
        """The session of the model, created on first use; None if the model cannot be run."""
        if self._session is None and self.runs:
            self._session = self.load(self.model)
        return self._session

    def load(self, model: onnx.ModelProto) -> Session:
        """A session of ``model``, the original or a result, at the optimisation level of the original.

        Raises
        ------
        OnnxMergeError: onnxruntime cannot load it.
        """
        return Session(model, self.provider, optimisation=self.optimisation)

    def with_options(self, options: Options) -> Self:
        """A copy with other options and the same samples."""
        other = copy.copy(self)
        other.options = options
        return other

    @property
    def given(self) -> dict[str, tuple[int, ...]]:
        """The input shapes that the user gave, by input name."""
        return dict(self.options.input_shape)

    @property
    def _only_batch(self) -> int | None:
        """The size of a dynamic batch if the model ran at no other one; None if it did, or the batch is none."""
        inputs = [i for i in self._session.inputs if i.shape and is_open(i.shape[0])] if self._session else []
        found = {a[i.name][0] for a in self.assignments.found for i in inputs}
        return found.pop() if len(found) == 1 and self._rows_are_samples else None

    @property
    def _rows_are_samples(self) -> bool:
        """Whether the dynamic first axes of the inputs are all that of the samples: by their names, or by the sizes at
        which the model ran."""
        inputs = [i for i in self._session.inputs if i.shape and is_open(i.shape[0])] if self._session else []
        if not unlike_axes(inputs):
            return True
        ran = self.assignments.found
        return bool(ran) and not crosses(inputs) and all(len({a[i.name][0] for i in inputs}) < 2 for a in ran)

    @property
    def _unit(self) -> int:
        """The number that every batch size must be a multiple of: the greatest common divisor of the batches at which
        the model ran."""
        inputs = self._session.inputs if self._session else ()
        tried = self.assignments.found or [{i.name: i.shape for i in inputs}]
        found = (a[i.name][0] for a in tried for i in inputs if i.shape)
        return max(1, math.gcd(*(n for n in found if isinstance(n, int))))
