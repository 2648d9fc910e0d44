"""The original with a session: on which provider it runs, at which input sizes, and what happens if it does not run."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import onnx
from numpy.typing import NDArray

from onnx_merge.config.options import Options
from onnx_merge.equivalence.verifiable import cannot_load, unverified_remedy
from onnx_merge.errors import InputError, OnnxMergeError, UsageError
from onnx_merge.inputs.assignments import Assignments, counted_at, find_assignments, require, sample_sizes
from onnx_merge.inputs.feeds import STRINGS_REMEDY, resolve_shapes
from onnx_merge.inputs.input_memory import check_input_memory
from onnx_merge.inputs.memory_fit import MemoryFit, fit_to_memory
from onnx_merge.inputs.sample_axes import crosses, unlike_axes
from onnx_merge.inputs.size_inputs import fixing
from onnx_merge.inputs.user_arrays import Samples
from onnx_merge.runtime.batching import batches
from onnx_merge.runtime.devices.faster_provider import faster_provider
from onnx_merge.runtime.providers import CPU, ProviderChoice
from onnx_merge.runtime.session import Optimisation, Session, loaded
from onnx_merge.runtime.tensor_info import TensorInfo, is_open
from onnx_merge.tuning.runtime import DEVICE

Array = NDArray[Any]


@dataclass(eq=False)
class OpenedModel:
    """A model, and how onnxruntime runs it; see `open_model`."""

    model: onnx.ModelProto
    options: Options
    provider: ProviderChoice
    """Where it runs."""
    memory: MemoryFit
    """The memory that a sample takes, and the input sizes and batches at which samples are run."""
    notes: tuple[str, ...] = ()
    """What a user should know of how it runs."""
    optimisation: Optimisation = "all"
    """The level at which onnxruntime optimises it. It is lowered if onnxruntime's optimisations break the model."""
    runs: bool = True
    """Whether it can be run."""
    assignments: Assignments = field(default=Assignments(()))
    """Input sizes at which it runs. If there are none, ``problem`` says why."""
    _session: Session | None = field(default=None, repr=False)

    def __getstate__(self) -> dict[str, object]:
        """The state to send to another process, which creates the session itself. Samples may come from a generator,
        which cannot be sent."""
        return {**vars(self), "options": replace(self.options, calib=None), "_session": None}

    @property
    def session(self) -> Session | None:
        """The session of the model, created on first use; None if the model cannot be run."""
        if self._session is None and self.runs:
            self._session = self.load(self.model)
        return self._session

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """The inputs of the model; none if it cannot be run."""
        return tuple(self.session.inputs) if self.session else ()

    def load(self, model: onnx.ModelProto) -> Session:
        """A session of ``model``, the original or a result, at the optimisation level of the original.

        Raises
        ------
        OnnxMergeError: onnxruntime cannot load it.
        """
        return Session(model, self.provider, optimisation=self.optimisation)

    @property
    def allows_unverified(self) -> bool:
        """Whether a model that does not run may be compressed all the same, because no option needs a run."""
        return self.options.unverified and not self._needing_outputs

    @property
    def going_on(self) -> str:
        """The remedy where outputs cannot be compared."""
        return unverified_remedy(self._needing_outputs)

    @property
    def _needing_outputs(self) -> tuple[str, ...]:
        """The given options that need outputs of the model."""
        options = self.options
        samples = (("--labels", bool(options.labels)), ("--calib", options.has_samples))
        return (*(name for name, given in samples if given), *options.limits)

    def continue_unverified(self, error: OnnxMergeError) -> None:
        """Continue without running the model, which gave ``error``."""
        self._session, self.runs = None, False
        self.assignments = Assignments((), error.message)
        self.notes += (f"outputs were not compared: {error}",)

    def find_sizes(self, samples: Samples | None = None) -> None:
        """Find the sizes at which the model runs. Choose those of made-up samples if there are no ``samples``; else
        measure the memory again at theirs, if they differ from those that it was measured at.

        Raises
        ------
        UsageError: it runs at none, and there are no samples.
        InputError: an input takes strings, and there are no samples.
        """
        assert self._session is not None
        known = [{n: (2, *a.shape[1:]) if a.ndim else () for n, a in samples.feeds.items()}] if samples else []
        given, seed = dict(self.options.input_shape), self.options.seed
        try:
            found = find_assignments(self._session, model=self.model, sizes=given, known=known, seed=seed)
        except InputError as error:  # inputs that cannot be generated
            if samples is None:
                raise
            self.assignments = Assignments((), error.message.removesuffix(f": {STRINGS_REMEDY}"))
            return
        self.assignments = found
        note = counted_at(found, self.inputs)
        self.notes += (note,) if note else ()
        if samples is None:
            require(found, self.inputs, given, fixing(self.model))
            sizes, note = sample_sizes(self._session, found, self.model, given, seed)
            self.memory = replace(self.memory, sizes=sizes)
            self.notes += (note,) if note else ()
        elif found.asked is not None and all(min(shape, default=1) > 0 for shape in found.asked.values()):
            measured = resolve_shapes(self.inputs, None, self.memory.sizes)
            if any(shape[1:] != measured[name][1:] for name, shape in found.asked.items()):
                self.memory = replace(self.memory, sizes=found.asked)
                self.measure_memory()

    def measure_memory(self) -> None:
        """Measure the memory of a sample, by which the size of images is chosen where nothing else says it."""
        with contextlib.suppress(InputError):  # an input takes strings: only the user can give samples
            limit, sizes = self.options.memory_limit, self.memory.sizes
            self.memory = fit_to_memory(self.model, self.inputs, self.provider, sizes, limit)

    def find_batches(self) -> None:
        """Find of how many samples batches are, by the sizes at which the model ran."""
        tried = self.assignments.found or [{i.name: i.shape for i in self.inputs}]
        firsts = (a[i.name][0] for a in tried for i in self.inputs if i.shape)
        unit = max(1, math.gcd(*(n for n in firsts if isinstance(n, int))))
        self.memory = replace(self.memory, unit=unit, only=self._only_batch)

    @property
    def _only_batch(self) -> int | None:
        """The size of a dynamic batch if the model ran at no other one; None if it did, or the batch is none."""
        inputs = [i for i in self.inputs if i.shape and is_open(i.shape[0])]
        found = {a[i.name][0] for a in self.assignments.found for i in inputs}
        return found.pop() if len(found) == 1 and self.rows_are_samples else None

    @property
    def rows_are_samples(self) -> bool:
        """Whether the dynamic first axes of the inputs are all that of the samples: by their names, or by the sizes at
        which the model ran."""
        inputs = [i for i in self.inputs if i.shape and is_open(i.shape[0])]
        if not unlike_axes(inputs):
            return True
        ran = self.assignments.found
        return bool(ran) and not crosses(inputs) and all(len({a[i.name][0] for i in inputs}) < 2 for a in ran)

    def take_faster(self, candidate: ProviderChoice, batch: Callable[[int], dict[str, Array]]) -> None:
        """Run on ``candidate`` from here on, if a run of the tool is faster there. ``batch``: makes so many samples."""
        try:
            some = batch(DEVICE.timed_samples)
            feeds, size, _ = next(batches(some, self.inputs, self.memory.together(some)))
            self._session = None  # the weights of a large model are not in memory three times
            self.provider, note = faster_provider(self.model, feeds, size, candidate, self.optimisation)
        except OnnxMergeError as error:
            note = f"runs on the CPU: a batch could not be timed on both providers: {error}"
        self.notes += (note,)


def open_model(model: onnx.ModelProto, options: Options, candidate: ProviderChoice) -> OpenedModel:
    """``model``, opened on ``candidate``; or on the CPU if the provider is chosen by its speed, until there are samples
    to try both on. Where the user gives no samples, sizes are found at which they can be made.

    Raises
    ------
    InputError, UsageError: the model cannot be run, or the sizes that the user gave do not fit it. With the option
        ``unverified``, unless another option needs a run, a model that cannot be run is only mentioned in ``notes``.
    """
    given, limit = dict(options.input_shape), options.memory_limit
    check_input_memory(model, given, limit, ", or raise --memory-limit")
    opened = OpenedModel(model, options, CPU if options.provider == "auto" else candidate, MemoryFit(limit, given))
    try:
        session = _first_session(opened, candidate)
    except OnnxMergeError as error:
        if not opened.allows_unverified:
            raise cannot_load(model, error, opened.going_on) from error
        opened.continue_unverified(error)
        return opened
    opened._session, opened.optimisation = session, session.optimisation
    if opened.optimisation != "all":
        opened.notes += (f"onnxruntime loads the model with {opened.optimisation} optimisations only",)
    resolve_shapes(session.inputs, None, given)
    try:
        if not options.has_samples and not options.labels:
            opened.find_sizes()
    except (InputError, UsageError) as error:
        if not opened.allows_unverified:
            raise
        opened.continue_unverified(error)
    else:
        opened.measure_memory()
    return opened


def _first_session(opened: OpenedModel, candidate: ProviderChoice) -> Session:
    """A session to look for sizes and samples with: on the CPU, or on ``candidate`` for models that run only there."""
    try:
        return loaded(opened.model, opened.provider)
    except OnnxMergeError:
        if opened.provider.on_device or not candidate.on_device:
            raise
        with contextlib.suppress(OnnxMergeError):
            found = loaded(opened.model, candidate)
            opened.provider = candidate
            where = f"{candidate.name.upper()} ({candidate.reason})"
            opened.notes += (f"runs on {where}: onnxruntime cannot load it for the CPU",)
            return found
        raise
