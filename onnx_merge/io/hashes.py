"""Hashes by which samples and weights are known again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHUNK = 2**20


def sha256_of_files(files: Iterable[Path]) -> str:
    """Of the bytes of ``files``, one after the other: what ``cat`` and ``sha256sum`` give."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as source:
            while part := source.read(CHUNK):
                digest.update(part)
    return digest.hexdigest()


def sha256_of_arrays(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Of arrays by name, whatever their order: names, types and shapes count besides the values."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(repr((name, array.dtype.name, array.shape)).encode("utf-8", "backslashreplace"))
        if array.dtype == object:  # texts, whose lengths keep them apart
            for text in array.ravel():
                encoded = str(text).encode("utf-8", "backslashreplace")
                digest.update(b"%d:" % len(encoded) + encoded)
        else:
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
