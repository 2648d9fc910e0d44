"""Tasks on photographs: a classifier and a detector, on the sample images of ImageNet's classes."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import Image

from board.tasks import CALIBRATION, Array, Feeds, Score, class_score

EXAMPLE = Path(__file__).parents[2] / "examples" / "detection_f1.py"
SCORE = 0.25
"""Of a box of the detector, at least, as its package has it."""


def photographs(cache: Path) -> list[Path]:
    """One of each of the 1,000 classes, in their order: the names begin with the WordNet numbers, which give it."""
    found = sorted((cache / "photographs").glob("n*.JPEG"))
    if len(found) != 1000:
        raise FileNotFoundError(f"{cache}/photographs holds {len(found)} photographs, not 1000; leaderboard_models.py")
    return found


class EfficientNet:
    """Top-1 of EfficientNet-Lite0. Classes of the images judged on and of those calibrated on are different ones."""

    title, kind = "EfficientNet-Lite0", "CNN with depthwise convolutions"
    data = "500 photographs, of every other ImageNet class (imagenet-sample-images)"
    measured, batch = "top-1 accuracy", 20

    def __init__(self, cache: Path) -> None:
        self._cache = cache

    def model(self) -> Path:
        """Made by leaderboard_models.py."""
        return self._cache / "models" / "efficientnet_lite0.onnx"

    def calibration(self) -> Feeds:
        """Photographs of the other classes."""
        return {"input": np.stack([_cropped(path) for path in photographs(self._cache)[1 : 2 * CALIBRATION : 2]])}

    def judged(self) -> Feeds:
        """Those of the classes 0, 2, 4, ..."""
        return {"input": np.stack([_cropped(path) for path in photographs(self._cache)[::2]])}

    def score(self, outputs: Array, original: Array) -> Score:
        """Top-1."""
        return class_score(outputs, original, np.arange(0, 1000, 2))


class Detector:
    """NudeNet's YOLOv8n: how many of the original's boxes are found, and no others."""

    title, kind = "NudeNet 320n (YOLOv8n)", "CNN"
    data = "200 photographs (imagenet-sample-images), made with 128 others"
    measured, batch = "F1 of the boxes", 10

    def __init__(self, cache: Path) -> None:
        self._cache = cache

    def model(self) -> Path:
        """Made by leaderboard_models.py."""
        return self._cache / "models" / "nudenet.onnx"

    def calibration(self) -> Feeds:
        """Every other photograph, from the second on; half as many as usual, which take as long."""
        return {"images": np.stack([_padded(path) for path in photographs(self._cache)[1:CALIBRATION:2]])}

    def judged(self) -> Feeds:
        """Every other one, from the first on."""
        return {"images": np.stack([_padded(path) for path in photographs(self._cache)[:400:2]])}

    def score(self, outputs: Array, original: Array) -> Score:
        """F1 against the original's boxes; there are no labels. Its outputs are no distributions."""
        f1 = _example()
        matched = total = 0
        for wanted, found in zip(_boxes(f1, original), _boxes(f1, outputs), strict=True):
            matched += f1.matches(wanted, found)
            total += len(wanted[0]) + len(found[0])
        return Score(None, 200 * matched / max(total, 1), None)


def _cropped(path: Path) -> Array:
    """Resized to 256 on the shorter side and cropped to 224 in the middle; pixels (x - 127) / 128."""
    image = Image.open(path).convert("RGB")
    scale = 256 / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - 224) // 2, (image.height - 224) // 2
    pixels = np.asarray(image.crop((left, top, left + 224, top + 224)), np.float32)
    return np.ascontiguousarray((pixels.transpose(2, 0, 1) - 127) / 128)


def _padded(path: Path) -> Array:
    """Padded to a square and resized to 320; pixels 0 to 1."""
    image = Image.open(path).convert("RGB")
    square = Image.new("RGB", (max(image.size),) * 2)
    square.paste(image)
    pixels = np.asarray(square.resize((320, 320), Image.Resampling.BILINEAR), np.float32)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1) / 255)


def _boxes(f1: ModuleType, outputs: Array) -> Iterator[tuple[Array, Array]]:
    """Boxes and classes of each photograph. ``outputs``: (N, 4 + classes, candidates), centres and sizes first."""
    for rows in outputs.transpose(0, 2, 1).astype(np.float64):
        likely = rows[rows[:, 4:].max(-1) >= SCORE]
        centre, size = likely[:, :2], likely[:, 2:4]
        corners = np.concatenate([centre - size / 2, centre + size / 2], -1)
        yield f1.suppressed(corners, likely[:, 4:].max(-1), likely[:, 4:].argmax(-1))


def _example() -> ModuleType:
    """examples/detection_f1.py: suppression and matching of boxes; boxes of lower scores are dropped before."""
    spec = importlib.util.spec_from_file_location("detection_f1", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["detection_f1"] = module
    spec.loader.exec_module(module)
    module.SCORE = SCORE  # type: ignore[attr-defined]
    return module
