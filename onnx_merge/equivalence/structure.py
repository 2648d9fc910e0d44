"""Checks that the result is a valid model with the original's interface and runs wherever the original runs."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_merge.equivalence.data_dependent_sizes import value_sized
from onnx_merge.equivalence.finiteness import first_not_finite
from onnx_merge.equivalence.interface import check_interface, dims
from onnx_merge.errors import OnnxMergeError, StructureError, UsageError
from onnx_merge.inputs.assignments import Assignments, find_assignments
from onnx_merge.inputs.dimensions import Assignment, sizes_of
from onnx_merge.inputs.feeds import Sizes, feeds_at, index_bounds
from onnx_merge.io.checker import check_valid, checker_line
from onnx_merge.io.save import needs_external_data, save_atomically
from onnx_merge.runtime.providers import CPU, ProviderChoice
from onnx_merge.runtime.session import Session, loaded
from onnx_merge.runtime.tensor_info import BFLOAT16
from passes.weights.stored_tensors import without_values

Array = NDArray[Any]
CHANGE_LESS_REMEDY = "--exclude leaves layers whole, and a larger --keep changes less"
"""What helps where shrunk layers make numbers that a later op is not defined for."""


def check_structure(
    original: onnx.ModelProto,
    result: onnx.ModelProto,
    provider: ProviderChoice = CPU,
    *,
    assignments: Assignments | None = None,
    sizes: Sizes | None = None,
    seed: int = 0,
    session: Session | None = None,
    newer_operators: bool = False,
) -> list[str]:
    """Check that ``result`` is valid, has the interface of ``original``, and runs wherever ``original`` runs.

    At every assignment its outputs must have the original's types and shapes and be finite where the original's are. If
    the original itself fails a check, the result need not pass it. ``assignments``: input sizes at which the original
    runs; by default they are searched for, with ``sizes`` as in `find_assignments`. ``session``: the original, if it is
    loaded already. ``newer_operators``: whether the result may use a newer opset, as models in other number formats do.

    Returns
    -------
    What could not be checked, and why: one line each, empty if everything was checked.

    Raises
    ------
    StructureError: the result is invalid; the message says how.
    UsageError: ``sizes`` do not fit the model.
    """
    with _portable(result) as source:
        notes = _check_sound(original, result, source)
        check_interface(original, result, newer_operators)
        try:
            before = session or loaded(original, provider)
            _ = before.inputs
        except OnnxMergeError as error:
            return [*notes, f"not run, since the original does not load either: {error}"]
        try:
            after = Session(source, provider, optimisation=before.optimisation)
        except OnnxMergeError as error:
            raise StructureError(f"the result does not load: {error}") from error
        if assignments is None:
            try:
                assignments = find_assignments(before, model=original, sizes=sizes, seed=seed)
            except UsageError:
                raise
            except OnnxMergeError as error:
                assignments = Assignments((), error.message)
        return notes + _check_runs(original, result, before, after, assignments, seed)


@contextlib.contextmanager
def _portable(model: onnx.ModelProto) -> Iterator[onnx.ModelProto | bytes | str]:
    """Yield the model's bytes, or the path of a temporary file if the model is too large to serialise; the model itself
    if its weights are in files."""
    if without_values(model) is not model:
        yield model
        return
    if not needs_external_data(model):
        yield model.SerializeToString()
        return
    with tempfile.TemporaryDirectory(prefix="onnx_merge-", ignore_cleanup_errors=True) as folder:
        yield os.fspath(save_atomically(model, Path(folder, "model.onnx")).path)


def _check_sound(
    original: onnx.ModelProto, result: onnx.ModelProto, source: onnx.ModelProto | bytes | str
) -> list[str]:
    """Run `onnx.checker` with strict shape inference, or without it if the original fails strict inference too."""
    if isinstance(source, onnx.ModelProto):
        source = without_values(result).SerializeToString()
    try:
        check_valid(source)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise StructureError(f"the result is not a valid model: {checker_line(error)}") from error
    try:
        onnx.checker.check_model(source, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        try:
            onnx.checker.check_model(without_values(original), full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError):
            return [f"strict shape inference fails, as it does on the original: {checker_line(error)}"]
        raise StructureError(f"the shapes in the result contradict each other: {checker_line(error)}") from error
    return []


def _check_runs(
    original: onnx.ModelProto,
    result: onnx.ModelProto,
    before: Session,
    after: Session,
    assignments: Assignments,
    seed: int,
) -> list[str]:
    if not assignments.found:
        return [f"not run, since the original was not run at any size either: {assignments.problem}"]
    declared = {v.name: dims(v) for v in original.graph.output}
    bounds, loose = index_bounds(original), value_sized(original)
    alone = "run at one size of {} only: the original was not seen to run at another"
    notes = [alone.format(name) for name in assignments.stuck]
    for assignment in assignments.found:
        at = f"at {place(assignment)}"
        feeds = feeds_at(before.inputs, assignment, seed, bounds)
        try:
            expected = before.run(feeds)
        except OnnxMergeError as error:
            notes.append(f"not run {at}, since the original does not run either: {error}")
            continue
        try:
            actual = after.run(feeds)
        except OnnxMergeError as error:
            raise StructureError(f"the result does not run {at}, where the original does: {error}") from error
        sizes = sizes_of(before.inputs, assignment)
        for name, value in expected.items():
            notes += _check_output(name, value, actual[name], declared[name], sizes, name in loose, at)
            if not _is_finite(value, actual[name]):
                node = first_not_finite(original, result, feeds, before.provider)
                first = f", from {node} on" if node else ""
                raise StructureError(
                    f"output {name!r} is not finite {at}{first}, where the original's is; {CHANGE_LESS_REMEDY}"
                )
    return notes


def place(assignment: Assignment) -> str:
    """Format an assignment for messages: ``x:1,3,48,320``."""
    shapes = [f"{name}:{','.join(map(str, shape))}" for name, shape in assignment.items() if shape]
    return " ".join(shapes) or "the only size"


def _check_output(
    name: str,
    expected: Array,
    actual: Array,
    declared: Sequence[int | str | None] | None,
    sizes: Mapping[str, int],
    loose: bool,
    at: str,
) -> list[str]:
    """Compare an output's type and shape.

    ``loose``: its sizes may depend on values, as a number of detections does. Then only those dims are compared that
    are declared as a number or as the size of an input, and only where the original follows its declaration.
    """
    notes: list[str] = []
    if expected.dtype != actual.dtype:
        raise StructureError(f"output {name!r} has the type {actual.dtype} {at}, the original's has {expected.dtype}")
    wanted = [d if isinstance(d, int) and d > 0 else sizes.get(str(d)) for d in declared or []]
    fits = len(wanted) == expected.ndim and all(w in (None, n) for w, n in zip(wanted, expected.shape, strict=True))
    if declared is not None and not fits:
        notes.append(f"output {name!r} of the original has shape {expected.shape} {at}, unlike its declaration")
    axes = [a for a in range(expected.ndim) if not loose or (fits and wanted[a] is not None)]
    if expected.ndim != actual.ndim or any(expected.shape[a] != actual.shape[a] for a in axes):
        raise StructureError(f"output {name!r} has shape {actual.shape} {at}, the original's has {expected.shape}")
    if not is_float(expected):
        return notes
    finite = np.isfinite(expected)
    if not finite.all():
        notes.append(f"output {name!r} of the original is not finite {at}")
    return notes


def _is_finite(expected: Array, actual: Array) -> bool:
    """Whether ``actual`` is finite where ``expected`` is. Values of ``expected`` that are not finite mark places, as
    masks do. What other places are marked is a loss, which the comparison of outputs measures."""
    return not is_float(expected) or not np.isfinite(expected).all() or bool(np.isfinite(actual).all())


def is_float(array: Array) -> bool:
    """Whether ``array`` holds floating-point numbers, including the types of ml_dtypes."""
    return array.dtype.kind == "f" or array.dtype == BFLOAT16
