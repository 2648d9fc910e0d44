"""Find the block size of channels at whose multiples convolution kernels are fast.

On x86, onnxruntime computes convolutions in a layout with channels in blocks as wide as a vector register (NCHWc, in
MLAS): 16 for AVX-512, 8 otherwise. A width that is not a multiple of the block is padded to one. If it is not a
multiple of 4 either, the convolution falls back to a slower algorithm: 56 channels take as long as 64, and 62 take
longer. Kernels change between versions, so the block is measured. The instruction set of the CPU decides only if the
measurement is inconclusive.
"""

from __future__ import annotations

import contextlib
import functools
import platform
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto, numpy_helper
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info

from onnx_merge.errors import OnnxMergeError
from onnx_merge.latency.interleaved_timing import interleaved
from onnx_merge.runtime.providers import ProviderChoice
from onnx_merge.runtime.session import Session
from onnx_merge.tuning.compression import CHANNEL_BLOCK

CUDA_BLOCK = 8
"""Tensor cores read 16 bytes of channels at a time: 8 of float16 or 4 of TF32, whose kernels also prefer multiples of
8. cuBLAS and cuDNN pad other widths, which costs a copy. (NVIDIA, Deep Learning Performance: Convolutional Layers
User's Guide, "Channels In And Out"; not measured here.)"""

Times = Mapping[int, Sequence[float]]
"""Width -> the shortest time of each round in seconds, with the same rounds for all widths."""


@dataclass(frozen=True, slots=True)
class ChannelBlock:
    """Channel counts that are multiples of ``size`` are fast."""

    size: int
    """Channels; 1 if all counts are equally fast."""
    reason: str
    """How the size was determined, for the report."""


def preferred_block(provider: ProviderChoice, half: bool = False) -> ChannelBlock:
    """The channel block of the convolutions of ``provider``; with ``half``, for float16 weights.

    On the CPU it is measured once in a process, which takes about half a second. There float16 makes no difference,
    because onnxruntime computes it in float32.
    """
    if provider.name == "cuda":
        kind = "float16" if half else "TF32 and float16"
        return ChannelBlock(CUDA_BLOCK, f"tensor cores work in blocks of {CUDA_BLOCK} channels ({kind})")
    return _cpu_block()


@functools.cache
def _cpu_block() -> ChannelBlock:
    return find_block(time_widths, cpu_features())


def find_block(measure: Callable[[Sequence[int]], Times], features: Iterable[str]) -> ChannelBlock:
    """The CPU's block by `decide`; by its ``features`` if the times are inconclusive. ``measure`` returns the times of
    widths."""
    times: Times = {}
    with contextlib.suppress(OnnxMergeError):  # no model runs on this machine, so the block does not matter
        times = measure([CHANNEL_BLOCK.width, *(CHANNEL_BLOCK.width - block // 2 for block in CHANNEL_BLOCK.blocks)])
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
        width = CHANNEL_BLOCK.width - block // 2
        proportional = (width / CHANNEL_BLOCK.width) ** 2
        halves = [min(times[width][k::2]) / min(times[CHANNEL_BLOCK.width][k::2]) for k in (0, 1)]
        # 0: the time is proportional to the multiply-adds; 1: it is that of W.
        scores = [(ratio - proportional) / (1 - proportional) for ratio in halves]
        if min(scores) >= 1 - CHANNEL_BLOCK.tolerance:
            return block
        if max(scores) > CHANNEL_BLOCK.tolerance:
            return None
    return 1


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


def time_widths(widths: Sequence[int]) -> Times:
    """`Times` of a stack of 3x3 convolutions of each width, interleaved, on one thread; a second thread would only add
    noise.

    Raises
    ------
    OnnxMergeError: onnxruntime cannot run the stack.
    """
    calls = []
    for width in widths:
        session = Session(_stack(width), threads=1)
        feeds = {"x": np.full((1, width, CHANNEL_BLOCK.edge, CHANNEL_BLOCK.edge), 0.5, np.float32)}
        calls.append(functools.partial(session.run, feeds))
    # One thread leaves no others spinning.
    rounds = interleaved(calls, seconds=CHANNEL_BLOCK.seconds, settle=lambda: None)
    return {width: [min(times[k]) for times in rounds] for k, width in enumerate(widths)}


def _stack(width: int) -> bytes:
    # The weights preserve the scale of activations, so that none become denormal.
    weight = np.full((width, width, 3, 3), 1 / (9 * width), np.float32)
    names = ["x", *(f"h{k}" for k in range(1, CHANNEL_BLOCK.layers)), "y"]
    nodes = [make_node("Conv", [a, "w"], [b], pads=[1, 1, 1, 1]) for a, b in zip(names, names[1:], strict=False)]
    edge = CHANNEL_BLOCK.edge
    ends = [make_tensor_value_info(n, TensorProto.FLOAT, [1, width, edge, edge]) for n in "xy"]
    graph = make_graph(nodes, "stack", ends[:1], ends[1:], [numpy_helper.from_array(weight, "w")])
    model = make_model(graph, opset_imports=[make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())
