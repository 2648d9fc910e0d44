"""Turns samples that are images, or look like images, into PNG files."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_merge.tuning.pages import PAGES

Array = NDArray[Any]


def pictures(feeds: Mapping[str, Array], samples: Iterable[int]) -> dict[int, str]:
    """Return sample -> data URI of its picture, from the first input (N, ...) whose samples look like images.

    Images are (C, H, W), (H, W, C) or (H, W), with one, three or four channels. Values are stretched to the range of
    a pixel for each sample. Empty if no input holds images.
    """
    wanted = list(samples)
    for array in feeds.values():
        if array.ndim < 3 or array.dtype.kind not in "fiu":
            continue
        if any(sample >= len(array) for sample in wanted):
            continue
        found = {sample: _pixels(array[sample]) for sample in wanted}
        if found and all(pixels is not None for pixels in found.values()):
            return {sample: _data_uri(pixels) for sample, pixels in found.items() if pixels is not None}
    return {}


def _pixels(sample: Array) -> NDArray[np.uint8] | None:
    """Return (H, W, 1) or (H, W, 3) pixels; None if the sample is no image."""
    if sample.ndim == 2:
        sample = sample[..., None]
    if sample.ndim != 3:
        return None
    if sample.shape[0] in (1, 3, 4) and min(sample.shape[1:]) >= PAGES.smallest_picture:
        sample = np.moveaxis(sample, 0, -1)
    if sample.shape[-1] not in (1, 3, 4) or min(sample.shape[:2]) < PAGES.smallest_picture:
        return None
    step = max(1, -(-max(sample.shape[:2]) // PAGES.largest_picture))
    values = np.nan_to_num(sample[::step, ::step, : 3 if sample.shape[-1] >= 3 else 1].astype(np.float64))
    low, high = values.min(), values.max()
    return np.asarray(np.round(255 * (values - low) / (high - low if high > low else 1)), np.uint8)


def _data_uri(pixels: NDArray[np.uint8]) -> str:
    return f"data:image/png;base64,{base64.b64encode(png(pixels)).decode()}"


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Encode (H, W, 1) grey or (H, W, 3) colour pixels (ISO/IEC 15948, without filters)."""
    height, width, channels = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in np.ascontiguousarray(pixels))
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(_chunk, chunks))


def _chunk(part: tuple[bytes, bytes]) -> bytes:
    kind, content = part
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
