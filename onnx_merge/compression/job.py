"""Compresses one model as often as needed, with the analysis done once."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace

import numpy as np

from onnx_merge.calibration.load import Calibration
from onnx_merge.compression.channel_plan import read_plan
from onnx_merge.compression.conversion import Converter, converter
from onnx_merge.config.options import Options
from onnx_merge.errors import InputError, NotCompressibleError, OnnxMergeError, UsageError
from onnx_merge.evaluation.comparison import Comparison
from onnx_merge.evaluation.drop_bounds import Promise
from onnx_merge.inputs.sample_axes import UNLIKE, fixing_sizes, unlike_axes
from onnx_merge.inputs.shape_observer import RunObserver
from onnx_merge.io.model_source import Source
from onnx_merge.io.scratch_space import scratch_space
from onnx_merge.latency.channel_block import ChannelBlock, preferred_block
from onnx_merge.report.result import AllocationResult
from onnx_merge.runtime.devices.device_runner import engine_of, room_on_device
from onnx_merge.runtime.memory_trim import trim
from onnx_merge.runtime.providers import ProviderChoice
from onnx_merge.runtime.segment_runner import FOLDING
from onnx_merge.verification.recorded_options import recorded
from passes.allocation.allocator import TargetError
from passes.analysis.analyse import Analysis
from passes.interface.errors import PassError, RunError
from passes.interface.runner import Progress, StageTimer, silent
from passes.pipeline import Compressed, Compressor
from passes.samples.calibration_samples import CalibrationSamples
from passes.settings.blocks import Blocks
from passes.settings.compress import CompressSettings
from passes.settings.merge import MergeSettings
from passes.settings.target import Target


class SizeGapError(NotCompressibleError):
    """No widths come near a size, but some are smaller. ``nearest``: the nearest possible size, a share of the
    original's."""

    def __init__(self, message: str, nearest: float = 1.0) -> None:
        super().__init__(message)
        self.nearest = nearest


@dataclass(eq=False)
class Job:
    """``settings``: those of the options. ``block``: the number of channels of which widths are multiples."""

    source: Source
    options: Options
    stages: StageTimer
    comparison: Comparison
    progress: Progress = silent
    analysis: Analysis | None = None
    """The analysis of the model, if already done (see `onnx_merge.compression.model_analysis`)."""
    processes: int = 1
    """Processes that compress side by side, and share the memory of a GPU."""
    doubts: tuple[str, ...] = ()
    """Warnings about the samples (see `onnx_merge.evaluation.doubts`)."""
    default_amount: bool = False
    """Whether how much goes is the default, not the user's word."""
    block: ChannelBlock = field(init=False)
    settings: CompressSettings = field(init=False)
    promise: Promise | None = field(default=None, init=False)
    """The promise about the result, if one was asked for."""
    recorded: dict[str, object] = field(init=False)
    """The options, for the model's metadata. Some of them cannot be sent to other processes."""
    fitted: int | None = field(default=None, init=False)
    """Number of samples that layers were fitted to, mirror images included; None if no samples were used."""
    notes: tuple[str, ...] = field(default=(), init=False)
    """Notes on the samples that layers are solved on."""
    _compressor: Compressor | None = field(default=None, init=False)
    converter: Converter | None = field(init=False)
    """Converts results to another number format, if that was asked for."""

    def __post_init__(self) -> None:
        options = self.options
        self.recorded = recorded(options)
        self.block = _block(options, self.provider)
        self.observer = RunObserver(self.provider, seed=options.seed)
        calibration = self._calibration()
        self.converter = converter(self.comparison, self.source.axis)
        self._samples = None if calibration is None else self._make_samples(calibration)
        self.notes = () if calibration is None else calibration.notes
        if self._samples is None and options.loses and options.method == "reconstruct":
            runs = self.comparison.original.session is not None
            why = "there are no samples" if runs else "the model could not be run on samples"
            self.notes = (*self.notes, f"merged by weights: {why}")
        kept = None
        if options.plan is not None:
            assert self.analysis is not None  # only sweeps come without it, and they take no plan
            kept = read_plan(options.plan, self.analysis.every_group)
        method = "reconstruct" if options.method == "auto" else options.method
        self.settings = CompressSettings(
            keep=options.amount,
            target=_target(options),
            allocation=options.allocation,
            blocks=Blocks(self.block.size, options.align not in (None, "auto")),
            lossless=options.lossless,
            method="merge" if method == "reconstruct" and self._samples is None else method,
            select=options.select,
            effort=options.effort,
            merge=MergeSettings(options.lambda_, options.threshold),
            coupled=options.coupled,
            exclude=options.exclude,
            exclude_inputs=options.exclude_inputs,
            keep_layers=options.keep_layer,
            assignments=self.comparison.original.assignments.witnesses,
            kept=kept,
        )

    def _calibration(self) -> Calibration | None:
        """The source of samples for reconstruction, if that was asked for."""
        calibration = self.comparison.samples.fitted() if self.options.reconstructs else None
        # Inputs that are declared empty hold no samples.
        return calibration if calibration is not None and len(calibration) else None

    def _make_samples(self, calibration: Calibration) -> CalibrationSamples:
        more = self.comparison.samples.more_samples(calibration)
        engine, memory = engine_of(self.provider), self.options.memory_limit
        room = room_on_device(self.provider, self.processes)
        effort = self.options.effort
        return CalibrationSamples(
            calibration.feeds, calibration.real, engine, memory, more, scratch_space(), room, effort
        )

    @property
    def provider(self) -> ProviderChoice:
        """Where models run."""
        return self.comparison.original.provider

    @property
    def unlike_training(self) -> bool:
        """Whether the user's samples look unlike what the model was trained on."""
        return self.comparison.samples.real and bool(self.doubts)

    def __getstate__(self) -> dict[str, object]:
        """The job in a form that can be sent to another process, without progress display and clock."""
        ours = {"progress": silent, "_samples": None}
        return {**vars(self), **ours, "options": replace(self.options, calib=None)}

    def keeping(self, ratio: float) -> Job:
        """The same job with another share of channels to keep. It shares the results found so far. What it finds
        itself, reasons to do less included, does not change this job."""
        job = copy.copy(self)
        job.options = replace(job.options, keep=ratio)
        job.settings = replace(self.settings, keep=ratio)
        job.recorded = {**self.recorded, "keep": ratio}
        job.comparison = self.comparison.with_options(job.options)
        return job

    @property
    def compressor(self) -> Compressor:
        """The compressor of the model, whose analysis is done once."""
        if self._compressor is None:
            self._compressor = Compressor(
                self.source.model,
                self.settings.assignments,
                self.observer,
                self.progress,
                self._samples,
                FOLDING,
                self.analysis,
            )
            self.analysis = self._compressor.analysis
        return self._compressor

    def prepare(self) -> None:
        """Compute everything that does not depend on the share of channels to keep.

        Raises
        ------
        UsageError: the settings do not fit the model.
        """
        try:
            self.compressor.prepare(self.settings)
        except RunError as error:
            raise self._not_solved(error) from error
        except PassError as error:
            raise UsageError(str(error)) from error

    def _not_solved(self, error: RunError) -> OnnxMergeError:
        """The error where samples cannot be run through segments of the model. Merging by weights instead would give a
        result that is much worse than the one asked for."""
        made_up = self._samples is not None and not self._samples.real
        remedy, kind = "give --method merge, which takes none", OnnxMergeError
        session, runs = self.comparison.original.session, self.comparison.original.assignments.witnesses
        refused = error.__cause__ is not None  # by the runtime; values that are not finite have other reasons
        if refused and session is not None and unlike_axes(session.inputs) and runs:
            remedy = f"{UNLIKE}: {remedy}, or {fixing_sizes(runs[0])}"
        elif made_up:
            remedy = "give --calib, or --method merge, which takes none"
        elif infinite := self._infinite_input():
            remedy, kind = f"input {infinite} of the samples holds infinity: clean them, or {remedy}", InputError
        return kind(f"layers cannot be solved on the samples: {error}; {remedy}")

    def _infinite_input(self) -> str | None:
        """An input of which the samples hold infinity. Masks may do so: it is no error by itself."""
        feeds = self._samples.feeds if self._samples else {}
        return next((n for n, a in feeds.items() if a.dtype.kind == "f" and np.isinf(a).any()), None)

    def compress(self, settings: CompressSettings) -> Compressed:
        """Compress the model, and convert the result if that was asked for.

        Raises
        ------
        UsageError: the settings do not fit the model.
        NotCompressibleError: the target cannot be met.
        OnnxMergeError: the samples cannot be run through segments of the model.
        """
        try:
            compressed = self.compressor.compress(settings)
        except RunError as error:
            raise self._not_solved(error) from error
        except TargetError as error:
            if error.nearest is not None:
                raise SizeGapError(str(error), error.nearest) from error
            raise NotCompressibleError(str(error)) from error
        except PassError as error:
            raise UsageError(str(error)) from error
        self.stages.seconds.update(compressed.seconds)
        solves = settings.method == self.settings.method == "reconstruct"
        self.fitted = self.compressor.fitted or None if solves else None
        if self.converter is None:
            return compressed
        with self.stages("convert"):
            return replace(compressed, model=self.converter(compressed.model), unconverted=compressed.model)

    def release(self, compressed: Compressed) -> None:
        """Free the memory of all that ``compressed`` was computed from. Nothing can be compressed afterwards."""
        self._compressor = self._samples = None
        self.comparison.samples.release()
        for graph in (compressed.before, compressed.typing.graph):
            graph.forget()
        trim()

    def allocation(self, compressed: Compressed) -> AllocationResult | None:
        """The distribution of the budget over groups, for the report."""
        found = compressed.allocation
        if found is None:
            return None
        reason = self.block.reason
        if found.block < found.asked:
            reason += f"; blocks of {found.asked} would lose too much, or miss the target"
        strict = self.settings.blocks.strict
        return AllocationResult(self.settings.allocation, found.block, strict, reason, found.loss, found.unaligned_loss)


def _block(options: Options, provider: ProviderChoice) -> ChannelBlock:
    """The block that ``align`` asks for."""
    align = options.align if options.align is not None else ("auto" if options.allocation == "auto" else 1)
    if align != "auto":
        return ChannelBlock(int(align), "asked for")
    if not options.loses:
        return ChannelBlock(1, "nothing is lost")
    return preferred_block(provider, half=options.then == "fp16")


def _target(options: Options) -> Target | None:
    if options.target_macs is not None:
        return Target("macs", options.target_macs)
    return None if options.target_params is None else Target("params", options.target_params)
