"""Find the block size of channels at whose multiples convolution kernels are fast.

On x86, onnxruntime computes convolutions in a layout with channels in blocks as wide as a vector register (NCHWc, in
MLAS): 16 for AVX-512, 8 otherwise. A width that is not a multiple of the block is padded to one. If it is not a
multiple of 4 either, the convolution falls back to a slower algorithm: 56 channels take as long as 64, and 62 take
longer. On a GPU, tiles of the tensor cores' kernels are as wide as 32 or 64 channels. Kernels change between versions,
so the block is measured where models run. What is known of the hardware decides only if the measurement is
inconclusive.
"""

from __future__ import annotations

import contextlib
import functools
import platform
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from onnx_merge.errors import OnnxMergeError
from onnx_merge.latency.width_times import Times, time_widths
from onnx_merge.runtime.providers import ProviderChoice
from onnx_merge.tuning.compression import CHANNEL_BLOCK, GPU_CHANNEL_BLOCK, ChannelBlockTuning

GPU_BLOCK = 8
"""Tensor cores read 16 bytes of channels at a time: 8 of float16 or 4 of TF32, whose kernels also prefer multiples of
8. cuBLAS and cuDNN pad other widths, which costs a copy. (NVIDIA, Deep Learning Performance: Convolutional Layers
User's Guide, "Channels In And Out".)"""


@dataclass(frozen=True, slots=True)
class ChannelBlock:
    """Channel counts that are multiples of ``size`` are fast."""

    size: int
    """Channels; 1 if all counts are equally fast."""
    reason: str
    """How the size was determined, for the report."""


def preferred_block(provider: ProviderChoice, half: bool = False) -> ChannelBlock:
    """The channel block of the convolutions of ``provider``; with ``half``, for float16 weights.

    It is measured once in a process: for half a second on the CPU, for a few on a GPU. On the CPU float16 makes no
    difference, because onnxruntime computes it in float32.
    """
    return _gpu_block(provider, half) if provider.on_device else _cpu_block()


@functools.cache
def _cpu_block() -> ChannelBlock:
    return find_block(time_widths, cpu_features())


@functools.cache
def _gpu_block(provider: ProviderChoice, half: bool) -> ChannelBlock:
    cuda = replace(provider, name="cuda")  # TensorRT takes long to build five models
    return find_gpu_block(partial(time_widths, provider=cuda, half=half, tuning=GPU_CHANNEL_BLOCK), half)


def find_gpu_block(measure: Callable[[Sequence[int]], Times], half: bool = False) -> ChannelBlock:
    """The largest block of which a width in the middle takes as long as the next multiple; `GPU_BLOCK` if there is
    none. ``measure`` returns the times of widths. A time between the hypotheses of `decide` is no sign of a block."""
    tuning, kind = GPU_CHANNEL_BLOCK, "float16" if half else "TF32"
    times: Times = {}
    with contextlib.suppress(OnnxMergeError):
        times = measure(widths_to_time(tuning))
    for block in tuning.blocks if times else ():
        if min(_scores(times, block, tuning)) >= 1 - tuning.tolerance:
            return ChannelBlock(block, f"GPU kernels work in blocks of {block} channels (probed, {kind})")
    return ChannelBlock(GPU_BLOCK, f"tensor cores work in blocks of {GPU_BLOCK} channels ({kind})")


def widths_to_time(tuning: ChannelBlockTuning) -> list[int]:
    """The width W that all blocks divide, and for each block b a width off it: W - b/2."""
    return [tuning.width, *(tuning.width - block // 2 for block in tuning.blocks)]


def find_block(measure: Callable[[Sequence[int]], Times], features: Iterable[str]) -> ChannelBlock:
    """The CPU's block by `decide`; by its ``features`` if the times are inconclusive. ``measure`` returns the times of
    widths."""
    times: Times = {}
    with contextlib.suppress(OnnxMergeError):  # no model runs on this machine, so the block does not matter
        times = measure(widths_to_time(CHANNEL_BLOCK))
    size = decide(times) if times else None
    if size is not None:
        what = f"in blocks of {size} channels" if size > 1 else "with any number of channels alike"
        return ChannelBlock(size, f"CPU kernels work {what} (probed)")
    size = block_of(features)
    return ChannelBlock(size, f"CPU kernels work in blocks of {size} channels (by the CPU's instruction set)")


def decide(times: Times) -> int | None:
    """The largest block b for which a width off the block, w = W - b/2, is not faster than W; 1 if there is none;
    None if the times are inconclusive. W is `ChannelBlockTuning.width`.

    The time of w is compared with two hypotheses. If b is not the block, the time is proportional to the multiply-adds:
    (w / W)^2 of the time of W. If b is the block, w is padded to W, which takes as long, or falls back to
    another algorithm, which takes longer; then b/2 and smaller blocks are excluded too. A time between the hypotheses
    is inconclusive, and so is a disagreement between the two halves of the rounds. The search then stops, since the
    differences for smaller blocks are even smaller.

    The shortest time of each width is used, because noise only adds to it.
    """
    for block in CHANNEL_BLOCK.blocks:
        scores = _scores(times, block, CHANNEL_BLOCK)
        if min(scores) >= 1 - CHANNEL_BLOCK.tolerance:
            return block
        if max(scores) > CHANNEL_BLOCK.tolerance:
            return None
    return 1


def _scores(times: Times, block: int, tuning: ChannelBlockTuning) -> list[float]:
    """Which hypothesis the times support, for either half of the rounds: 0 if the time off the block is proportional to
    the multiply-adds, 1 if it is that of width W."""
    width = tuning.width - block // 2
    proportional = (width / tuning.width) ** 2
    halves = [min(times[width][k::2]) / min(times[tuning.width][k::2]) for k in (0, 1)]
    return [(ratio - proportional) / (1 - proportional) for ratio in halves]


def block_of(features: Iterable[str]) -> int:
    """MLAS's block for a CPU, from NumPy's names of its instruction sets: 16 for AVX-512 and for ARM's NEON, otherwise
    8."""
    found = set(features)
    wide = any(name.startswith("AVX512") or name == "X86_V4" for name in found)
    return 16 if wide or found & {"NEON", "ASIMD"} else 8


def cpu_features() -> frozenset[str]:
    """The instruction sets of this CPU, by NumPy's names."""
    with warnings.catch_warnings():  # about a missing optional package, which this mode does not need
        warnings.simplefilter("ignore")
        config = np.show_config(mode="dicts")
    simd = config.get("SIMD Extensions", {}) if isinstance(config, dict) else {}
    found = {*simd.get("baseline", ()), *simd.get("found", ())}
    return frozenset(found or ({"ASIMD"} if platform.machine().lower() in ("arm64", "aarch64") else ()))
