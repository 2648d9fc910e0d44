"""The task of telling file types by content, on files of Python packages."""

from __future__ import annotations

import collections
import zipfile
from pathlib import Path

import numpy as np

from board.tasks import CALIBRATION, Array, Feeds, Score, divergence


class FileTypes:
    """magika: the same file type as the original's."""

    title, kind = "magika", "convolutions over bytes"
    data = "files of the packages jupyterlab, bokeh and setuptools, at most 60 of a kind"
    measured, batch = "same file type", 50
    packages = ("jupyterlab", "bokeh", "setuptools")

    def __init__(self, cache: Path) -> None:
        self._cache = cache

    def model(self) -> Path:
        """Made by leaderboard_models.py."""
        return self._cache / "models" / "magika.onnx"

    def calibration(self) -> Feeds:
        """Every other file."""
        return {"bytes": self._files()[1::2][:CALIBRATION]}

    def judged(self) -> Feeds:
        """The others."""
        return {"bytes": self._files()[::2]}

    def score(self, outputs: Array, original: Array) -> Score:
        """Share of files with the original's type."""
        same = 100 * float(np.mean(outputs.argmax(-1) == original.argmax(-1)))
        return Score(None, same, divergence(outputs, original))

    def _files(self) -> Array:
        seen: collections.Counter[str] = collections.Counter()
        rows = []
        for package in self.packages:
            (path,) = (self._cache / "packages").glob(f"{package}-*.whl")
            with zipfile.ZipFile(path) as file:
                for info in file.infolist():
                    ending = Path(info.filename).suffix
                    if info.file_size >= 64 and seen[ending] < 60:
                        seen[ending] += 1
                        rows.append(_ends(file.read(info)))
        return np.stack(rows)[np.random.default_rng(0).permutation(len(rows))]


def _ends(content: bytes) -> Array:
    """What magika reads of a file: 1,024 bytes from both ends, without white space there; 256 where there are none."""
    start, end = content[:4096].lstrip()[:1024], content[-4096:].rstrip()[-1024:]
    row = np.full(2048, 256, np.int32)
    row[: len(start)] = np.frombuffer(start, np.uint8)
    row[2048 - len(end) :] = np.frombuffer(end, np.uint8)
    return row
