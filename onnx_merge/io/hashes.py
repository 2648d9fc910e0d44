"""Compute hashes that identify samples and weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_merge.tuning.inputs import MODEL_FILES


def sha256_of_files(files: Iterable[Path]) -> str:
    """The SHA-256 of the concatenated bytes of ``files``, as ``cat`` piped to ``sha256sum`` gives it."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as source:
            while part := source.read(MODEL_FILES.hashed_bytes):
                digest.update(part)
    return digest.hexdigest()


def sha256_of_arrays(arrays: Mapping[str, NDArray[Any]]) -> str:
    """The SHA-256 of arrays by name: of their names, types, shapes and values, independent of their order."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(repr((name, array.dtype.name, array.shape)).encode("utf-8", "backslashreplace"))
        if array.dtype == object:  # strings; their lengths make the encoding unambiguous
            for text in array.ravel():
                encoded = str(text).encode("utf-8", "backslashreplace")
                digest.update(b"%d:" % len(encoded) + encoded)
        else:
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
