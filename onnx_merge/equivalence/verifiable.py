"""Refuses, before the work begins, a model whose result could not be verified at the end.

Each refusal is one line with the true reason and the remedy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_merge.equivalence.structure import is_float, place
from onnx_merge.errors import QUOTED_LENGTH, InputError, OnnxMergeError, UnverifiedError, one_line
from onnx_merge.inputs.assignments import Assignments
from onnx_merge.inputs.sample_axes import UNLIKE, fixing_sizes, unlike_axes, with_axis_in_front
from onnx_merge.runtime.batching import BatchSize, batches
from onnx_merge.runtime.custom_operators import foreign_operators
from onnx_merge.runtime.session import Session

Array = NDArray[Any]
UNVERIFIED = "--unverified goes on without comparing outputs"
"""The remedy where nothing that was asked for needs outputs."""
NAMED = 3
"""Largest number of operators, or of weights, that a message names."""


def unverified_remedy(needing: Sequence[str]) -> str:
    """The remedy where outputs cannot be compared. ``needing``: given options that need outputs."""
    return f"--unverified goes on only without {', '.join(needing)}" if needing else UNVERIFIED


def cannot_load(model: onnx.ModelProto, error: OnnxMergeError, remedy: str = UNVERIFIED) -> InputError:
    """Return the error for a model that cannot be loaded, or whose inputs are not tensors."""
    foreign = foreign_operators(model)
    if not foreign:
        return InputError(f"{error.message}; {remedy}")
    more = f" and {len(foreign) - NAMED} more" if len(foreign) > NAMED else ""
    return InputError(
        f"onnxruntime does not know {', '.join(foreign[:NAMED])}{more}: give the library that has it with --custom-ops "
        f"LIBRARY; {remedy}"
    )


def check_verifiable(
    session: Session,
    feeds: Mapping[str, Array],
    source: str,
    found: Assignments,
    batch: BatchSize,
    fixing: str = "",
    going_on: str = UNVERIFIED,
) -> None:
    """Run the original on a few of the samples (N, ...) on which outputs will be compared. ``fixing``: the remedy for
    made-up ones that do not fit, if it is another than samples; ``going_on``: see `unverified_remedy`.

    Raises
    ------
    InputError: it does not run on them, or none of its outputs is finite.
    UnverifiedError: none of its outputs can be compared.
    """
    which, remedy = f"the samples of {source}", ""
    runs = found.witnesses
    differ = bool(runs) and unlike_axes(session.inputs)
    unlike = f"{UNLIKE}: give {fixing_sizes(runs[0])}" if differ else ""
    if source == "random" or "synthetic" in source:
        which, remedy = "made-up samples", f": {fixing or unlike or 'give --calib'}"
    elif runs:
        forms = f", or samples for each run, {with_axis_in_front(session.inputs)}" if differ else ""
        remedy = f": it runs at {place(runs[0])}" + (f"; {unlike}{forms}" if unlike else "")
    numeric: list[Array] = []
    floats: list[Array] = []
    for chunk, _, _ in batches(feeds, session.inputs, batch):
        try:
            numeric += [value for value in session.run(chunk).values() if value.dtype != object]
        except OnnxMergeError as error:
            said = one_line(error.message, QUOTED_LENGTH)
            raise InputError(f"the model does not run on {which} ({said}){remedy}; {going_on}") from error
        floats = [value for value in numeric if is_float(value) and value.size]
        if not numeric or any(np.isfinite(value.astype(np.float32)).any() for value in floats):
            break  # one sample with a usable output is enough
    if not any(value.size for value in numeric):
        why = "they hold nothing" if numeric else "none of them is a tensor of numbers"
        raise UnverifiedError(f"outputs cannot be compared: {why}; {going_on}")
    if floats and not any(np.isfinite(value.astype(np.float32)).any() for value in floats):
        raise InputError(f"the model gives nothing but NaN and infinity on {which}{remedy}; {going_on}")
