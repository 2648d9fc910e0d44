"""Read the user's arrays from .npz and .npy files, and fit them to the inputs of a model."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_merge.errors import InputError, UsageError
from onnx_merge.inputs.feeds import describe, type_rank
from onnx_merge.inputs.npz_rows import StoredArray, stored
from onnx_merge.inputs.sample_axes import UNLIKE, by_sample, unlike_axes, with_axis_in_front
from onnx_merge.runtime.batching import rows_of_run
from onnx_merge.runtime.tensor_info import TensorInfo, is_open
from passes.numerics.arrays import has_rows

Array = NDArray[Any]
Stored = Array | StoredArray
LABEL_KEYS = ("labels", "y", "label")


@dataclass(frozen=True, eq=False, slots=True)
class Samples:
    """Checked samples: ``feeds`` (N, ...) by input name, and ``labels`` if the file has them.

    Labels are class numbers (N,), or any array (N, ...) for a metric that takes other labels.
    """

    feeds: dict[str, Array]
    labels: Array | None = None


def load_samples(path: Path, inputs: Sequence[TensorInfo], any_labels: bool = False) -> Samples:
    """Samples from an .npz file (arrays under the inputs' names, labels under ``labels`` or ``y``) or an .npy file.

    For a model with a single input, the only array that is not labels is taken, whatever its key. With ``any_labels``,
    labels may be any array with a row for each sample; otherwise they must be class numbers.

    Raises
    ------
    InputError: the file cannot be read, lacks an input, or holds arrays that do not fit the model.
    """
    arrays = read_arrays(path)
    label_key = next((k for k in LABEL_KEYS if k in arrays and k not in {i.name for i in inputs}), None)
    named = by_input(arrays, inputs, f"{path}")
    counts = {n: len(a) for n, a in named.items() if a.ndim and has_rows(a)}
    check_counts(counts, inputs, f"{path}")
    feeds = conform_all(named, inputs, f"{path}")
    if label_key is None:
        return Samples(feeds)
    labels, count = np.asarray(arrays[label_key]), next(iter(counts.values()), 1)
    if not any_labels:
        return Samples(feeds, check_labels(labels, count, f"{path}"))
    if labels.ndim == 0 or len(labels) != count:
        raise InputError(f"{path}: labels must have {count} rows, one for each sample, not shape {labels.shape}")
    return Samples(feeds, labels)


def by_input(arrays: Mapping[str, Stored], inputs: Sequence[TensorInfo], where: str) -> dict[str, Stored]:
    """The array for every input, by `by_sample`. The array of a single input may have any key except that of labels.

    Raises
    ------
    InputError: an array is missing. ``where`` names the source in the message.
    """
    names = [i.name for i in inputs]
    label_key = next((k for k in LABEL_KEYS if k in arrays and k not in names), None)
    candidates = [k for k in arrays if k != label_key]
    if len(inputs) == 1 and names[0] not in arrays and len(candidates) == 1:
        return {names[0]: arrays[candidates[0]]}
    if missing := [n for n in names if n not in arrays]:
        raise InputError(f"{where} lacks {', '.join(missing)}: found {', '.join(candidates) or 'nothing'}")
    return by_sample({n: arrays[n] for n in names}, inputs)


def read_arrays(path: Path) -> dict[str, Stored]:
    """The arrays of a file by key; the array of an .npy file has the key ``""``.

    An .npy file is memory-mapped. Large arrays of an .npz file are read row by row on demand. Pickled objects are
    refused.

    Raises
    ------
    InputError: the file cannot be read as NumPy arrays.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in (".npz", ".npy"):
        raise InputError(f"{path} is no sample file: give an .npz or .npy file")
    try:
        if suffix == ".npy":
            return {"": np.load(path, mmap_mode="r", allow_pickle=False)}
        # Opened here, because np.load leaves the file of a damaged archive open.
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            return {key: stored(path, archive, key) for key in archive.files}
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: check the name") from None
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        pickled = "allow_pickle" in str(error)  # NumPy's guess about files that it does not know
        why = "it holds Python objects, or is no file of NumPy's" if pickled else error
        raise InputError(f"{path} cannot be read as NumPy arrays: {why}") from error


def check_counts(counts: Mapping[str, int], inputs: Sequence[TensorInfo], where: str) -> None:
    """Refuse arrays of ``counts`` samples, by input name, where these differ.

    Raises
    ------
    InputError: they do; the message says how an input is given of which a sample takes several rows.
    """
    if len(set(counts.values())) < 2:
        return
    several = [i for i in inputs if i.name in rows_of_run(inputs)]
    remedy = "; ".join(f"give {i.name} as (samples, {describe(i.shape)[1:]}{_or_once(i, counts)}" for i in several)
    if unlike_axes(inputs):
        remedy = (
            f"{UNLIKE}: give one for each run, {with_axis_in_front(inputs)}, or fix the sizes of one with --fix-shape"
        )
    raise InputError(f"{where} has different numbers of samples: {counts}" + (f": {remedy}" if remedy else ""))


def _or_once(info: TensorInfo, counts: Mapping[str, int]) -> str:
    """The remedy for an input that was given once, as it is the same for all samples."""
    once = counts.get(info.name) == 1 and not any(map(is_open, info.shape))
    return f", or once with --fix-input {info.name}={'...' if len(info.shape) == 1 else 'FILE.npy'}" if once else ""


def conform_all(arrays: Mapping[str, Stored], inputs: Sequence[TensorInfo], where: str) -> dict[str, Array]:
    """`conform` for every input, with the rows of its runs."""
    rows = rows_of_run(inputs)
    return {i.name: conform(np.asarray(arrays[i.name]), i, where, rows.get(i.name, 0)) for i in inputs}


def conform(array: Array, info: TensorInfo, where: str, rows: int = 0) -> Array:
    """``array`` (N, ...) converted to the type of the input ``info``, if only precision is lost.

    Any N is accepted, also if the model's batch size is fixed. With ``rows`` (see
    `onnx_merge.runtime.batching.rows_of_run`), (N, rows, ...) becomes (N rows, ...). ``where`` names the source in
    error messages.

    Raises
    ------
    InputError: wrong rank or size, a type that cannot be converted, values out of range, NaN, or no samples.
    """
    if rows and array.ndim == len(info.shape) + 1 and array.shape[1] == rows:
        array = array.reshape(-1, *array.shape[2:])
    fits = array.ndim == len(info.shape)
    if not fits or any(not is_open(d) and d != n for d, n in zip(info.shape[1:], array.shape[1:], strict=True)):
        remedy = ": join its first two axes" if array.shape[1:] == info.shape else ""
        wanted_shape = describe(info.shape, True)
        raise InputError(f"{where}: {info.name!r} must have shape {wanted_shape}, not {array.shape}{remedy}")
    if array.ndim and not len(array) and info.shape[0] != 0:  # other axes may be empty, as the past of a first token is
        raise InputError(f"{where}: {info.name!r} is empty (shape {array.shape}): give at least one sample")
    given, wanted = type_rank(array.dtype), type_rank(info.dtype)
    if given > wanted or (given != wanted and wanted == 3):
        raise InputError(f"{where}: {info.name!r} must be {info.dtype}, not {array.dtype}: convert it first")
    limits = np.iinfo(info.dtype) if wanted == 1 and array.size else None
    if limits is not None and not (limits.min <= array.min() and array.max() <= limits.max):
        raise InputError(f"{where}: {info.name!r} has values that do not fit into {info.dtype}")
    if wanted != 2 or array.dtype == info.dtype:
        result = array if array.dtype == info.dtype else array.astype(info.dtype)
    else:
        with np.errstate(over="ignore"):
            result = array.astype(info.dtype)
        if given == 2 and np.isinf(result).sum() > np.isinf(array).sum():
            raise InputError(f"{where}: {info.name!r} has values that do not fit into {info.dtype}")
    if wanted == 2 and np.isnan(result).any():
        raise InputError(f"{where}: {info.name!r} contains NaN: clean the samples first")
    return result


def check_classes(labels: NDArray[np.int64], classes: int) -> None:
    """Refuse labels that are none of the ``classes``.

    Raises
    ------
    UsageError: some are not.
    """
    wrong = labels[(labels < 0) | (labels >= classes)]
    if wrong.size:
        remedy = ": leave out the samples without a label" if wrong[0] < 0 else ""
        raise UsageError(f"labels must be class numbers from 0 to {classes - 1}, found {wrong[0]}{remedy}")


def check_labels(labels: Array, count: int, where: str) -> NDArray[np.int64]:
    """Class indices (N,) from labels of shape (N,), (N, 1), or one-hot (N, classes).

    Raises
    ------
    InputError: they are not whole numbers, or not one for each of the ``count`` samples.
    """
    if type_rank(labels.dtype) > 2:
        named = ": give the number of each name in the order of the outputs" if labels.dtype.kind in "US" else ""
        raise InputError(f"{where}: labels must be class numbers from 0, not {labels.dtype}{named}")
    if labels.ndim == 2:
        one_hot = labels.shape[1] > 1 and bool(np.all((labels != 0).sum(1) == 1))
        labels = labels.argmax(1) if one_hot else labels[:, 0] if labels.shape[1] == 1 else labels
    if labels.shape != (count,):
        raise InputError(f"{where}: labels must have shape ({count},), one for each sample, not {labels.shape}")
    if not np.all(labels == np.floor(labels)):
        raise InputError(f"{where}: labels must be whole class numbers from 0")
    return labels.astype(np.int64)
