"""Find disk space for temporary files."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from onnx_merge.tuning.inputs import SAMPLE_MEMORY
from passes.statistics.tensor_store import ScratchSpace
from passes.weights.stored_tensors import storing_weights

IN_MEMORY = ("tmpfs", "ramfs")
"""File systems whose files take memory."""
MOUNTS = Path("/proc/self/mounts")
OTHER = "/var/tmp"
"""Folder for large temporary files on systems that keep /tmp in memory (Filesystem Hierarchy Standard 3.0, 5.15)."""


def scratch_space() -> ScratchSpace | None:
    """The folder for temporary files (TMPDIR, ...) or `OTHER`, with the share of its free space that may be used. None
    if both are in memory, or have no room."""
    for folder in dict.fromkeys((tempfile.gettempdir(), OTHER)):
        try:
            free = shutil.disk_usage(folder).free
        except OSError:  # there is no such folder
            continue
        if free and not _is_in_memory(folder):
            return ScratchSpace(folder, free / SAMPLE_MEMORY.disk_share)
    return None


@contextmanager
def weights_in_files() -> Iterator[None]:
    """In the block, the weights of large models that are read, and of results, stay in files: see
    `passes.weights.stored_tensors`. Without effect where there is no room for temporary files."""
    space = scratch_space()
    with storing_weights(space.folder if space else None, space.room if space else 0.0):
        yield


def _is_in_memory(folder: str) -> bool:
    """Whether the files of ``folder`` take memory; False where the system does not tell."""
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return False
    path = Path(folder).resolve()
    mounts = [(Path(point.replace("\\040", " ")), kind) for _, point, kind, *_ in map(str.split, lines)]
    holding = [(len(point.parts), kind) for point, kind in mounts if path.is_relative_to(point)]
    return bool(holding) and max(holding, key=lambda found: found[0])[1] in IN_MEMORY
