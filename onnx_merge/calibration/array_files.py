"""Read samples from NumPy files: one file with many samples, or a folder of files with one or several samples each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_merge.calibration.sample_room import UNLIMITED, GatheredSamples, SampleRoom, bytes_of_sample
from onnx_merge.inputs.npz_rows import StoredArray
from onnx_merge.inputs.user_arrays import Stored, by_input, check_counts, conform, conform_all, read_arrays
from onnx_merge.runtime.batching import rows_of_run
from onnx_merge.runtime.tensor_info import TensorInfo
from passes.numerics.arrays import has_rows, sample_count
from passes.samples.sample_files import release_pages, row_chunks, samples_at

Array = NDArray[Any]


def array_files(folder: Path) -> list[Path]:
    """The .npz and .npy files in ``folder``, sorted by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in (".npz", ".npy"))


def load_array_file(
    path: Path, inputs: Sequence[TensorInfo], count: int, room: SampleRoom = UNLIMITED
) -> dict[str, Array]:
    """At most ``count`` samples of an .npz or .npy file, evenly spaced: (N, ...) by input name.

    There are fewer if ``room`` has no place for ``count`` samples.

    Raises
    ------
    InputError: the file cannot be read or does not fit.
    """
    return chosen_rows(by_input(read_arrays(path), inputs, f"{path}"), inputs, count, f"{path}", room)


def load_array_folder(
    paths: Sequence[Path], inputs: Sequence[TensorInfo], count: int, room: SampleRoom = UNLIMITED
) -> dict[str, Array]:
    """At most ``count`` samples from files that hold one or several samples each, with or without the batch axis.

    There are fewer if ``room`` has no place for ``count`` samples. They are evenly spaced over the files, and
    within each file.

    Raises
    ------
    InputError: a file cannot be read or does not fit.
    """
    first = with_batch(by_input(read_arrays(paths[0]), inputs, f"{paths[0]}"), inputs)
    count = fitting(first, inputs, count, room.most)
    files = [paths[k] for k in evenly_spaced_rows(len(paths), count)]
    share = -(-count // len(files))
    gathered = GatheredSamples(inputs, "the files", room)
    for path in files:
        named = by_input(read_arrays(path), inputs, f"{path}")
        gathered.add(chosen_rows(with_batch(named, inputs), inputs, share, f"{path}"), share * len(files))
    found = gathered.feeds()
    return samples_at(found, evenly_spaced_rows(sample_count(found), count))


def with_batch(arrays: Mapping[str, Stored], inputs: Sequence[TensorInfo]) -> dict[str, Stored]:
    """``arrays``, with a batch axis of size one added where it is missing."""
    ranks = {i.name: len(i.shape) for i in inputs}
    return {n: np.asarray(a)[None] if ranks[n] and a.ndim == ranks[n] - 1 else a for n, a in arrays.items()}


def fitting(arrays: Mapping[str, Stored], inputs: Sequence[TensorInfo], count: int, most: float) -> int:
    """``count``, or the number of samples like those of ``arrays`` (N, ...) that fit into ``most`` bytes, if that is
    less. Sizes are counted in the inputs' types."""
    each = bytes_of_sample({n: a.shape for n, a in arrays.items()}, inputs)
    return max(1, int(min(count, most / max(1, each))))


def chosen_rows(
    arrays: Mapping[str, Stored],
    inputs: Sequence[TensorInfo],
    count: int,
    where: str,
    room: SampleRoom = UNLIMITED,
) -> dict[str, Array]:
    """At most ``count`` samples of ``arrays`` (N, ...), evenly spaced, in the inputs' types.

    There are fewer if ``room`` has no place for ``count`` samples. ``where`` names the source in error messages.

    Raises
    ------
    InputError: the arrays do not fit the inputs, or their numbers of samples differ.
    """
    counts = {i.name: len(arrays[i.name]) for i in inputs if i.shape and has_rows(arrays[i.name])}
    check_counts(counts, inputs, where)
    run = rows_of_run(inputs)
    count = fitting(arrays, inputs, count, room.most)
    rows = evenly_spaced_rows(next(iter(counts.values()), 1), count)
    total = len(rows) * bytes_of_sample({n: a.shape for n, a in arrays.items()}, inputs)
    if counts and room.in_file(total):
        return {
            i.name: _copied(arrays[i.name], rows, i, where, room, total, run.get(i.name, 0))
            if i.name in counts
            else conform(np.asarray(arrays[i.name]), i, where, run.get(i.name, 0))
            for i in inputs
        }
    taken = {n: a if n not in counts or len(a) <= count else a[rows] for n, a in arrays.items()}
    return conform_all(taken, inputs, where)


def _copied(
    array: Stored, rows: Sequence[int], info: TensorInfo, where: str, room: SampleRoom, total: float, run: int
) -> Array:
    """The ``rows`` of one input in a file, read a few at a time. ``run``: see `conform`."""
    found = room.empty((len(rows), *array.shape[1:]), info.dtype, total)
    chunks = list(row_chunks(len(rows), found))
    size = chunks[0].stop
    parts = array.parts(rows, size) if isinstance(array, StoredArray) else (array[rows[c]] for c in chunks)
    for chunk, part in zip(chunks, parts, strict=True):
        found[chunk] = conform(part, info, where, run).reshape(found[chunk].shape)
        release_pages()
    return found if found.ndim == len(info.shape) else found.reshape(-1, *found.shape[2:])


def evenly_spaced_rows(total: int, count: int) -> list[int]:
    """At most ``count`` of the indices below ``total``, evenly spaced, because samples are often sorted by class."""
    if total <= count:
        return list(range(total))
    return [int(k) for k in np.linspace(0, total - 1, count).round()]
