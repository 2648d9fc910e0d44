"""Finds out whether the user's samples have an axis of samples in front of the axes that the model declares."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path

import numpy as np

from onnx_merge.calibration.array_files import array_files
from onnx_merge.calibration.python_source import is_pair
from onnx_merge.config.user_code import split_function
from onnx_merge.inputs.dimensions import Assignment
from onnx_merge.inputs.sample_axes import crosses
from onnx_merge.inputs.user_arrays import LABEL_KEYS, read_arrays
from onnx_merge.runtime.tensor_info import TensorInfo

Shapes = Mapping[str, tuple[int, ...]]


class Form(Enum):
    """What samples look like, where a run of the model may take one or many."""

    AS_DECLARED = "the first axes of the arrays are those that the model declares"
    IN_FRONT = "an axis of samples is in front of them"
    RUNS = "each item is a run of the model, and no array holds several"
    UNKNOWN = "they cannot be looked at before they are read"


def form_of(source: object, inputs: Sequence[TensorInfo]) -> tuple[Form, Assignment | None]:
    """The form of the samples in ``source``, see `onnx_merge.calibration.load.load_calibration`; and the sizes of one
    run, if it is not as declared and they are known."""
    try:
        found, many = _first(source, inputs)
    except Exception:  # of the user's code too: reading them says what is wrong
        return Form.AS_DECLARED, None
    if found is None:
        return Form.UNKNOWN, None
    names = {i.name for i in inputs}
    arrays = [name for name in found if name in names or name not in LABEL_KEYS]
    if len(inputs) == len(arrays) == 1:  # any name will do
        found = {inputs[0].name: found[arrays[0]]}
    ranked = [i for i in inputs if i.shape]
    if any(i.name not in found for i in ranked):
        return Form.AS_DECLARED, None
    more = {len(found[i.name]) - len(i.shape) for i in ranked}
    scalars: Assignment = {i.name: () for i in inputs if not i.shape}
    if more == {1}:
        return Form.IN_FRONT, {**scalars, **{i.name: found[i.name][1:] for i in ranked}}
    unlike = len({found[i.name][0] for i in ranked}) > 1 or crosses(inputs)
    if many and more == {0} and unlike:
        return Form.RUNS, {**scalars, **{i.name: found[i.name] for i in ranked}}
    return Form.AS_DECLARED, None


def _first(source: object, inputs: Sequence[TensorInfo]) -> tuple[Shapes | None, bool]:
    """The shapes of the first arrays, None if they are unknown, and whether others may follow."""
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if split_function(os.fspath(source)) is not None:
            return None, True
        files = array_files(path) if path.is_dir() else [path]
        return ({name: tuple(a.shape) for name, a in read_arrays(files[0]).items()} if files else {}), path.is_dir()
    if hasattr(source, "__array__"):
        return {"": np.shape(source)}, False
    if isinstance(source, Mapping):
        return _shapes(source, inputs), False
    if not isinstance(source, (list, tuple)) or is_pair(source):  # to read an item twice may give another one
        return None, True
    return (_shapes(source[0], inputs) if source else {}), True


def _shapes(item: object, inputs: Sequence[TensorInfo]) -> Shapes:
    if isinstance(item, (tuple, list)) and len(item) == len(inputs):
        item = {i.name: value for i, value in zip(inputs, item, strict=True)}
    return {str(name): np.shape(value) for name, value in item.items()} if isinstance(item, Mapping) else {}
