"""Verifies, by measuring again, that a compressed model agrees with its metadata."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from onnx_merge.config.command_options import OF_VERIFY
from onnx_merge.config.options import Options
from onnx_merge.config.version import __version__
from onnx_merge.errors import InputError, UsageError
from onnx_merge.io.model_source import Model, Source, load_source
from onnx_merge.io.output_paths import IN_MEMORY
from onnx_merge.io.save import check_destination
from onnx_merge.io.scratch_space import weights_in_files
from onnx_merge.plugins.entry_points import load_plugins
from onnx_merge.report.result import write_report
from onnx_merge.runtime.session_settings import custom_operators
from onnx_merge.verification.findings import Check, Verification
from onnx_merge.verification.provenance import Provenance, read
from onnx_merge.verification.recorded_options import restored
from onnx_merge.verification.remeasure import remeasured
from passes.interface.runner import Progress, silent

GIVEN = (*(name for name in OF_VERIFY if name not in ("quiet", "verbose")), "report")
"""Options of a compression that a verification accepts."""


def verify(output: Model, against: Model, **options: object) -> Verification:
    """Measure again what the metadata of a compressed model state.

    Parameters
    ----------
    output: path of a model that `optimize` wrote, or the model in memory, unchanged or converted since.
    against: the model that it was made from.
    options: ``calib``, ``labels``, ``metric``, ``mean``, ``std``, ``layout``, ``input_shape``, ``fix_input``,
        ``custom_ops``, ``check_n`` and ``provider``, see `Options`. Options that are not given have the values that the
        file records. ``report`` is the path of a JSON report; ``force`` allows replacing that file.

    Returns
    -------
    The findings; ``keeps`` is whether the model agrees with its metadata.

    Raises
    ------
    UsageError, InputError: the options are invalid or do not fit, a file cannot be read, or ``output`` states nothing.
    OnnxMergeError: a model cannot be run, or the report cannot be written.
    """
    return run(output, against, options)


def run(output: Model, against: Model, given: Mapping[str, Any], *, progress: Progress = silent) -> Verification:
    """Like `verify`, for callers that show progress."""
    unknown = [name for name in given if name not in GIVEN]
    if unknown:
        raise UsageError(f"verify takes no {unknown[0]!r}: it takes {', '.join(GIVEN)}")
    asked = Options.make({name: value for name, value in given.items() if value is not None})
    load_plugins()
    with weights_in_files(), custom_operators(asked.custom_ops):
        return _run(output, against, given, asked, progress)


def _run(output: Model, against: Model, given: Mapping[str, Any], asked: Options, progress: Progress) -> Verification:
    if asked.report is not None:
        check_destination(_path(output), asked.report, asked.force, _inputs(asked, against))
    progress("load")
    made, original = load_source(output), load_source(against)
    if asked.report is not None:
        check_destination(_path(output), asked.report, asked.force, (*made.files, *original.files))
    provenance = read(made.model)
    if provenance is None or not provenance.measured.get("fidelity"):
        what = "says nothing of itself" if provenance is None else "says that its outputs were not compared"
        name = "the model" if isinstance(output, onnx.ModelProto) else _path(output)
        raise InputError(f"{name} {what}: give a file that onnx-merge wrote, without --no-provenance")
    same_model = _identity(provenance, original)
    found = Verification(__version__, provenance.version, made.info, original.info, (same_model,))
    if found.keeps:
        stated = provenance.measured["fidelity"]
        if isinstance(stated, dict) and stated.get("real") and not (asked.labels or asked.has_samples):
            what = f"{stated.get('samples')} samples of {stated.get('source')}"
            raise UsageError(f"the file speaks of {what}: give them, or others, with --labels or --calib")
        options = restored(provenance.options, {n: v for n, v in given.items() if n not in ("report", "force")})
        found = remeasured(found, made.model, original, provenance.measured, provenance.promise, options, progress)
    if asked.report is not None:
        write_report(found, asked.report)
    return found


def _path(model: Model) -> Path:
    return Path(model) if isinstance(model, (str, os.PathLike)) else IN_MEMORY


def _inputs(options: Options, against: Model) -> list[Path]:
    """Return the files that the report must not replace."""
    named = (_path(against), options.labels, options.calib_file, *options.fixed_files, *map(Path, options.custom_ops))
    return [path for path in named if path is not None]


def _identity(provenance: Provenance, original: Source) -> Check:
    """Check that the original is the model that the file was made from: its bytes and external data."""
    reason = None
    if provenance.input_sha256 is None:  # the model was too large to be serialised
        pass
    elif provenance.input_sha256 != original.info.sha256:
        reason = "it was made from another model than the one given with --against"
        if original.info.sha256 in provenance.earlier:
            reason = "it was made from a result of the model given with --against: give that result"
    elif provenance.data_sha256 != original.data_sha256:
        reason = "it was made from a model with other weights in its external data than the one given with --against"
    return Check("input", keeps=reason is None, reason=reason)
