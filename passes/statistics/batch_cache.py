"""Keeps tensors of batches that are used again: in memory, then in a temporary file."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from threading import Lock

from passes.graph.model import Array
from passes.interface.engine import Engine, placed
from passes.interface.errors import PassError
from passes.statistics.tensor_store import ScratchSpace, StoredTensors, TensorStore


class BatchCache:
    """Tensors by the index of their batch. Threads may share it.

    ``engine``: where those in memory are placed; ``room``: bytes of memory; ``scratch``: disk space for what memory
    does not hold, None for none.
    """

    def __init__(self, engine: Engine, room: float, scratch: ScratchSpace | None = None) -> None:
        self._engine, self._room, self._lock = engine, room, Lock()
        self._store: TensorStore | None = None
        self._disk = 0.0
        if scratch is not None:
            with contextlib.suppress(PassError):  # what is not kept is computed again
                self._store, self._disk = TensorStore(scratch.folder), scratch.room
        self._held: dict[int, Mapping[str, Array]] = {}
        self._stored: dict[int, StoredTensors] = {}

    def get(self, index: int) -> Mapping[str, Array] | None:
        """The tensors of batch ``index``; None if they are not kept.

        Raises
        ------
        PassError: the temporary file cannot be read.
        """
        if index in self._held:
            return self._held[index]
        with self._lock:
            stored = self._stored.get(index)
            return None if stored is None else dict(stored)

    def put(self, index: int, tensors: Mapping[str, Array]) -> None:
        """Keep ``tensors`` if there is room."""
        size = sum(array.nbytes for array in tensors.values())
        with self._lock:
            if index in self._held or index in self._stored:
                return
            if size <= self._room:
                self._room -= size
                self._held[index] = placed(self._engine, tensors)
            elif self._store is not None and size <= self._disk:
                self._disk -= size
                try:
                    stored = StoredTensors(self._store, {})
                    stored.update(tensors)
                    self._stored[index] = stored
                except PassError:  # the disk is full: what is kept there stays
                    self._disk = 0.0
