"""Read samples from Python objects: iterables, data readers, functions, and functions in a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from onnx_merge.calibration.array_files import chosen_rows, evenly_spaced_rows, fitting, with_batch
from onnx_merge.calibration.sample_room import UNLIMITED, GatheredSamples, SampleRoom
from onnx_merge.config.user_code import importable, load_user_function, reported
from onnx_merge.errors import InputError
from onnx_merge.inputs.user_arrays import Stored, by_input
from onnx_merge.runtime.tensor_info import TensorInfo

Array = NDArray[Any]


def is_pair(source: object) -> TypeGuard[tuple[Any, Callable[[Any], Any]]]:
    """Whether ``source`` is a pair: raw items, and a function that converts each of them to arrays."""
    return isinstance(source, (tuple, list)) and len(source) == 2 and callable(source[1])


def load_function(
    path: Path, name: str, inputs: Sequence[TensorInfo], count: int, room: SampleRoom = UNLIMITED
) -> dict[str, Array]:
    """At most ``count`` samples from what ``name()`` in the file ``path`` returns or yields: see `load_items`.

    Modules in the file's folder can be imported while the samples are read.

    Raises
    ------
    InputError: there is no such file or function, it fails, or its samples do not fit the model.
    """
    where = f"{path}:{name}"
    with importable(path.parent), reported(where):
        return load_items(load_user_function(path, name), inputs, count, where, room)


def load_items(
    source: object, inputs: Sequence[TensorInfo], count: int, where: str, room: SampleRoom = UNLIMITED
) -> dict[str, Array]:
    """At most ``count`` samples (N, ...) by input name; fewer if ``room`` has no place for them.

    From a sequence they are taken evenly spaced; from any other iterable the first ones are taken. ``where`` names the
    source in error messages.

    Raises
    ------
    InputError: the source has an unsupported type, fails, yields no samples, or does not fit the model.
    """
    transform: Callable[[Any], Any] = _same
    if is_pair(source):
        source, transform = source
    with reported(where):
        if callable(source) and not hasattr(source, "get_next") and not isinstance(source, Iterable):
            source = source()
            if is_pair(source):
                source, transform = source
        if isinstance(source, Mapping) or (hasattr(source, "__array__") and transform is _same):
            return chosen_rows(with_batch(_named(source, inputs, where), inputs), inputs, count, where, room)
        gathered = GatheredSamples(inputs, where, room)
        for k, item in _items(source, count, where, gathered):
            at = f"{where}, sample {k}"
            named = with_batch(_named(transform(item), inputs, at), inputs)
            count = min(count, fitting(named, inputs, count, room.most))
            gathered.add(chosen_rows(named, inputs, count - gathered.count, at), count)
            if gathered.count >= count:
                break
    if not gathered.count:
        raise InputError(f"{where} gave no samples")
    return gathered.feeds()


def _items(source: Any, count: int, where: str, gathered: GatheredSamples) -> Iterator[tuple[int, Any]]:
    """The items and their indices. ``gathered``: the samples of the items read so far; from it follows how many items
    of a sequence give ``count`` samples."""
    if hasattr(source, "get_next"):
        for k, item in enumerate(iter(source.get_next, None)):
            yield k, item
    elif isinstance(source, (str, bytes)) or not (isinstance(source, Iterable) or hasattr(source, "__array__")):
        raise InputError(f"{where}: {type(source).__name__} cannot be read: give arrays, or an iterable of them")
    elif isinstance(source, Sequence) or hasattr(source, "__array__"):
        if len(source):
            yield 0, source[0]
        wanted = -(-count // max(1, gathered.count))
        for k in evenly_spaced_rows(len(source), wanted)[1:]:
            yield k, source[k]
    else:
        yield from enumerate(source)


def _named(item: Any, inputs: Sequence[TensorInfo], where: str) -> dict[str, Stored]:
    """Arrays by input name, from a mapping, a tuple with one array for each input, or the array of a single input."""
    if isinstance(item, Mapping):
        return by_input({str(key): _array(value, where) for key, value in item.items()}, inputs, where)
    if isinstance(item, (tuple, list)) and len(item) == len(inputs) > 1:
        return by_input({i.name: _array(v, where) for i, v in zip(inputs, item, strict=True)}, inputs, where)
    if len(inputs) != 1:
        names = ", ".join(i.name for i in inputs)
        raise InputError(f"{where} is {type(item).__name__}, but the model has several inputs: give a dict of {names}")
    return {inputs[0].name: _array(item, where)}


def _array(value: Any, where: str) -> Array:
    if isinstance(value, (str, bytes, os.PathLike)):
        raise InputError(f"{where} holds {type(value).__name__} instead of an array")
    try:
        return np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        pair = isinstance(value, (list, tuple)) and len(value) == 2
        more = "; give the inputs alone, without labels" if pair else ""
        raise InputError(f"{where} holds what is no array: {error}{more}") from error


def _same(item: Any) -> Any:
    return item
