"""Where samples are kept: in memory, or in temporary files if they take too much of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_merge.errors import InputError
from onnx_merge.runtime.tensor_info import TensorInfo
from passes.numerics.arrays import samples_in
from passes.samples.sample_files import file_array, release_pages
from passes.statistics.tensor_store import ScratchSpace

Array = NDArray[Any]


@dataclass(frozen=True)
class SampleRoom:
    """``memory``: bytes that samples may take in memory; ``scratch``: disk space for more, None for none."""

    memory: float = math.inf
    scratch: ScratchSpace | None = None

    @property
    def most(self) -> float:
        """Upper limit on the bytes of all samples."""
        return max(self.memory, self.scratch.room if self.scratch else 0.0)

    def in_file(self, total: float) -> bool:
        """Whether samples of ``total`` bytes are kept in a file."""
        return total > self.memory and self.scratch is not None

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any], total: float) -> Array:
        """An array for one input, of samples that take ``total`` bytes with all inputs.

        Raises
        ------
        PassError: the temporary folder cannot take it.
        """
        if self.scratch is None or not self.in_file(total) or dtype.hasobject:
            return np.empty(shape, dtype)
        return file_array(shape, dtype, self.scratch.folder)


UNLIMITED = SampleRoom()


def bytes_of_sample(shapes: Mapping[str, Sequence[int]], inputs: Sequence[TensorInfo]) -> int:
    """Bytes of one sample in the inputs' types. ``shapes``: of the arrays (N, ...), by input name."""
    return sum(math.prod(shapes[i.name][1:]) * i.dtype.itemsize for i in inputs if i.shape)


class GatheredSamples:
    """Samples that come in parts (n, ...), at most ``count``; ``where`` names the source in error messages."""

    def __init__(self, inputs: Sequence[TensorInfo], where: str, room: SampleRoom) -> None:
        self._inputs, self._where, self._room = inputs, where, room
        self._parts: list[dict[str, Array]] = []
        self._stored: dict[str, Array] = {}
        self.count = 0
        """Number of samples so far."""

    def add(self, part: dict[str, Array], count: int) -> None:
        """Add samples. ``count``: how many there will be at most in all.

        Raises
        ------
        InputError: their shapes differ from those before.
        """
        shapes = {n: a.shape for n, a in part.items()}
        total = count * bytes_of_sample(shapes, self._inputs)
        if not self.count and self._room.in_file(total) and len({len(a) for a in part.values() if a.ndim}) == 1:
            self._stored = {
                i.name: self._room.empty((count, *shapes[i.name][1:]), i.dtype, total) for i in self._inputs
            }
        start = self.count
        self.count += samples_in(part)
        if not self._stored:
            self._parts.append(part)
            return
        for name, array in part.items():
            self._check(name, array.shape[1:], self._stored[name].shape[1:])
            left = self._stored[name][start : self.count]
            left[:] = array[: len(left)]
        release_pages()

    def feeds(self) -> dict[str, Array]:
        """All samples (N, ...) by input name.

        Raises
        ------
        InputError: their shapes differ.
        """
        if self._stored:
            return {name: array[: self.count] for name, array in self._stored.items()}
        found: dict[str, Array] = {}
        for info in self._inputs:
            arrays = [part[info.name] for part in self._parts]
            for array in arrays:
                self._check(info.name, array.shape[1:], arrays[0].shape[1:])
            found[info.name] = np.concatenate(arrays) if info.shape else arrays[0]
        return found

    def _check(self, name: str, shape: tuple[int, ...], first: tuple[int, ...]) -> None:
        """Each dynamic dimension must have the same size in all samples."""
        if shape != first:
            raise InputError(
                f"{self._where}: {name!r} has samples of different shapes, {first} and {shape}: bring them to one size"
            )
