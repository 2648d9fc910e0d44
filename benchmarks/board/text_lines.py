"""The task of a recogniser of text lines, on lines that Pillow draws."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import matplotlib
import numpy as np
import onnx
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from board.sentences import sentences
from board.tasks import CALIBRATION, Array, Feeds, Score, divergence


class TextLines:
    """PP-OCRv4's recogniser: characters read right in lines that Pillow draws."""

    title, kind = "PP-OCRv4 recogniser", "CNN and transformer"
    data = "100 drawn lines of docstrings (Pillow's font and matplotlib's), made with 128 others"
    measured, batch = "characters right", 10
    judged_count, width = 100, 320

    def __init__(self, cache: Path) -> None:
        self._cache = cache

    def model(self) -> Path:
        """Made by leaderboard_models.py."""
        return self._cache / "models" / "text_recogniser.onnx"

    def calibration(self) -> Feeds:
        """Lines of other docstrings; half as many as usual, which take as long."""
        texts = self._texts()[self.judged_count : self.judged_count + CALIBRATION // 2]
        return {"x": np.stack(list(_drawn(texts, self.width, seed=1)))}

    def judged(self) -> Feeds:
        """100 lines."""
        return {"x": np.stack(list(_drawn(self._texts()[: self.judged_count], self.width, seed=0)))}

    def score(self, outputs: Array, original: Array) -> Score:
        """Characters right: one minus edits over length. Divergence is the mean over places."""
        texts = self._texts()[: self.judged_count]
        found, wanted = (list(self._read(array)) for array in (outputs, original))
        return Score(_characters_right(found, texts), _characters_right(found, wanted), divergence(outputs, original))

    def _texts(self) -> list[str]:
        return [" ".join(text.split()[:3])[:24] for text in sentences()]

    def _read(self, outputs: Array) -> Iterator[str]:
        """CTC's best path: repeated characters and blanks go."""
        (entry,) = (p.value for p in onnx.load(self.model()).metadata_props if p.key == "character")
        characters = ["", *entry.splitlines(), " "]
        for places in outputs.argmax(-1):
            kept = places[np.insert(places[1:] != places[:-1], 0, True)]
            yield "".join(characters[k] for k in kept)


def _drawn(texts: list[str], width: int, seed: int) -> Iterator[Array]:
    """Images (3, 48, width) from -1 to 1 of lines in several fonts, colours and sizes, blurred a little, with noise."""
    rng = np.random.default_rng(seed)
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    names = ("DejaVuSans.ttf", "DejaVuSerif.ttf", "DejaVuSansMono.ttf", "DejaVuSans-Bold.ttf")
    for k, text in enumerate(texts):
        size = int(rng.integers(28, 38))
        font = ImageFont.load_default(size) if k % 5 == 4 else ImageFont.truetype(str(folder / names[k % 5]), size)
        light, dark = (int(rng.integers(*span)) for span in ((170, 256), (0, 90)))
        length = int(font.getlength(text)) + 16
        image = Image.new("RGB", (length, 48), (light,) * 3)
        ImageDraw.Draw(image).text((8, 24), text, (dark,) * 3, font, anchor="lm")
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 0.8))))
        pixels = np.asarray(image.resize((min(length, width), 48)), np.float32).transpose(2, 0, 1)
        line = np.zeros((3, 48, width), np.float32)
        line[..., : pixels.shape[-1]] = (pixels + rng.normal(0, 4, pixels.shape)).clip(0, 255) / 127.5 - 1
        yield line


def _characters_right(found: list[str], wanted: list[str]) -> float:
    """In percent of the wanted ones; spaces count for nothing, since lines end and begin without them."""
    right = total = 0
    for ours, theirs in zip(found, wanted, strict=True):
        ours, theirs = ours.replace(" ", ""), theirs.replace(" ", "")
        right += max(len(theirs) - _edits(ours, theirs), 0)
        total += len(theirs)
    return 100 * right / total


def _edits(one: str, other: str) -> int:
    """Levenshtein distance."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        left, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            left, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, left + (a != b))
    return row[-1]
