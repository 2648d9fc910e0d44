"""Generate dead-leaves images: overlapping discs and boxes whose edges have the statistics of photographs.

The radii have a density of r^-3, so that no scale is preferred. The spectrum falls like that of photographs (about
1/f), and filter responses have the same heavy tails.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from onnx_merge.runtime.threads import usable_cores
from onnx_merge.tuning.calibration import DEAD_LEAVES
from passes.numerics.jit import serial
from passes.numerics.threads import at_once

Single = NDArray[np.float32]


@serial
def _draw(state: NDArray[np.uint64]) -> float:
    """A uniform random number in [0, 1), by the generator xorshift64*."""
    x = state[0]
    x ^= x >> np.uint64(12)
    x ^= x << np.uint64(25)
    x ^= x >> np.uint64(27)
    state[0] = x
    return float((x * np.uint64(2685821657736338717)) >> np.uint64(11)) / 9007199254740992.0


@serial
def _paint(canvas: Single, uncovered: NDArray[np.bool_], state: NDArray[np.uint64], smallest: float) -> None:
    """Draw one image into ``canvas`` (C, H, W).

    Leaves are drawn from front to back: a leaf fills only pixels that are still ``uncovered`` (H, W). This gives the
    same distribution as drawing from back to front.
    """
    channels, height, width = canvas.shape
    largest = float(max(height, width))
    # The radii of leaves that touch the canvas have the density r^-3 (H + 2r) (W + 2r), a mixture of three power laws.
    part3 = height * width * 0.5 * (1.0 / smallest**2 - 1.0 / largest**2)
    part2 = 2.0 * (height + width) * (1.0 / smallest - 1.0 / largest)
    part1 = 4.0 * np.log(largest / smallest)
    colour = np.empty(channels)
    remaining = height * width
    background = remaining // 400  # the last pixels are filled by one leaf behind all others
    leaves = 0
    while remaining > 0:
        leaves += 1
        last = remaining <= background or leaves > 4 * height * width
        pick = _draw(state) * (part3 + part2 + part1)
        u = _draw(state)
        if pick < part3:
            radius = 1.0 / np.sqrt((1.0 - u) / smallest**2 + u / largest**2)
        elif pick < part3 + part2:
            radius = 1.0 / ((1.0 - u) / smallest + u / largest)
        else:
            radius = smallest * (largest / smallest) ** u
        centre_x = (width + 2.0 * radius) * _draw(state) - radius
        centre_y = (height + 2.0 * radius) * _draw(state) - radius
        kind = _draw(state)
        angle = 6.283185307 * _draw(state)
        flat = 1.0
        if kind > 0.5:
            flat = 0.35 + 0.65 * _draw(state)
        box = kind > 0.75
        cosine, sine = np.cos(angle) / radius, np.sin(angle) / radius
        # Most variance is in grey, then blue against yellow, then green against purple, as in photographs.
        grey = 1.5 * (_draw(state) + _draw(state) - 1.0)
        warm = 0.45 * (_draw(state) + _draw(state) - 1.0)
        green = 0.2 * (_draw(state) + _draw(state) - 1.0)
        for c in range(channels):
            colour[c] = grey
        if channels >= 3:
            colour[0] += warm - green
            colour[1] += green
            colour[2] -= warm + green
        slope = 0.8 * (_draw(state) - 0.5)
        rough = 0.25 * _draw(state) ** 3
        stripes = 0.0
        if _draw(state) < 0.15:
            stripes = 0.4 * _draw(state)
        # The wavelength is at least three pixels.
        wave = min(2.0 * radius, 6.0 + 30.0 * _draw(state))
        top, bottom = max(0, int(centre_y - radius)), min(height, int(centre_y + radius) + 2)
        left, right = max(0, int(centre_x - radius)), min(width, int(centre_x + radius) + 2)
        if last:
            top, bottom, left, right = 0, height, 0, width
        for y in range(top, bottom):
            for x in range(left, right):
                if not uncovered[y, x]:
                    continue
                along = (x - centre_x) * cosine + (y - centre_y) * sine
                across = ((y - centre_y) * cosine - (x - centre_x) * sine) / flat
                if not last:
                    if box:
                        if abs(along) > 0.7 or abs(across) > 0.7:
                            continue
                    elif along * along + across * across > 1.0:
                        continue
                shade = slope * along
                if rough > 0.01:
                    shade += rough * (_draw(state) - 0.5)
                if stripes > 0.0:
                    shade += stripes * np.sin(wave * along)
                for c in range(channels):
                    canvas[c, y, x] = colour[c] + shade
                uncovered[y, x] = False
                remaining -= 1


@serial
def _dead_leaves(out: Single, seeds: NDArray[np.uint64], factor: int, smallest: float) -> None:
    count, channels, height, width = out.shape
    canvas = np.empty((channels, height * factor, width * factor), np.float32)
    uncovered = np.empty((height * factor, width * factor), np.bool_)
    state = np.empty(1, np.uint64)
    for n in range(count):
        state[0] = seeds[n]
        uncovered[:] = True
        _paint(canvas, uncovered, state, smallest)
        for c in range(channels):
            for y in range(height):
                for x in range(width):
                    total = 0.0
                    for i in range(factor):
                        for j in range(factor):
                            total += canvas[c, y * factor + i, x * factor + j]
                    out[n, c, y, x] = total / (factor * factor)


def dead_leaves(count: int, channels: int, height: int, width: int, rng: np.random.Generator) -> Single:
    """Images (count, channels, height, width); each channel has mean 0 and standard deviation 1 over all images.

    Images differ in brightness and contrast as photographs do: their means have a standard deviation of about 0.5. Of
    three or more channels the first three are colours. All other channels are grey.
    """
    from scipy.ndimage import gaussian_filter  # here: its import takes a sixth of a second

    images = np.empty((count, channels, height, width), np.float32)
    seeds = rng.integers(1, 2**63, count, np.uint64)
    fine = min(height, width) <= DEAD_LEAVES.supersampled_edge
    contrast = np.clip(np.exp(rng.normal(-0.15, 0.3, count)), 0.4, 1.4)
    brightness = rng.normal(0.0, 0.5, count)
    blur = rng.uniform(*DEAD_LEAVES.blur, count)

    def draw(given: tuple[int, Single]) -> None:
        start, noise = given
        part = slice(start, start + len(noise))
        own = images[part]
        _dead_leaves(own, seeds[part], 2 if fine else 1, DEAD_LEAVES.smallest_radius * (2 if fine else 1))
        if channels == 4:  # the fourth channel is not a colour; it may be opacity
            own[:, 3] = own[:, :3].mean(1)
        for n, image in enumerate(own, start):
            gaussian_filter(image, (0.0, blur[n], blur[n]), output=image)
            deviation = max(float(image.std()), 1e-3)
            image *= contrast[n] / deviation
            image += brightness[n] - float(image.mean())
            image += 0.02 * noise[n - start]  # of the sensor
            np.clip(image, -2.3, 2.6, out=image)  # saturation at black and white

    together = max(1, DEAD_LEAVES.noise_bytes // (4 * channels * height * width))
    shapes = ((start, (min(together, count - start), *images.shape[1:])) for start in range(0, count, together))
    parts = ((start, rng.standard_normal(shape, np.float32)) for start, shape in shapes)
    for _ in at_once(draw, parts, usable_cores()):
        pass
    mean = images.mean((0, 2, 3), dtype=np.float64, keepdims=True)
    if images.nbytes <= DEAD_LEAVES.double_bytes:
        deviation = images.std((0, 2, 3), dtype=np.float64, keepdims=True)
    else:  # without a float64 copy of all images
        squares = sum(np.square(image - mean[0]).sum((1, 2)) for image in images)
        deviation = np.sqrt(squares / images[:, 0].size).reshape(mean.shape)
    images -= mean.astype(np.float32)
    images /= np.maximum(deviation, 1e-6).astype(np.float32)
    return images
