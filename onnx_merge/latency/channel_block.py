"""The widths that convolution kernels like: multiples of a block of channels.

onnxruntime computes convolutions on x86 in a layout with the channels in blocks as wide as a vector register (NCHWc, in
MLAS): 16 for AVX-512, 8 otherwise. A width off the block is padded to it, or, where it is no multiple of 4 either, the
convolution falls back to a slower algorithm: 56 channels take as long as 64, and 62 take longer. What kernels do is
their business and changes, so it is measured here, and what is known of the CPU decides only where the measurement does
not tell.
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
from onnx_merge.runtime.session import ProviderChoice, Session

CUDA_BLOCK = 8
"""Tensor cores take 16 bytes of channels at a time: 8 of float16, and 4 of TF32, whose kernels like 8 too. cuBLAS and
cuDNN pad what does not fit, which costs a copy. (NVIDIA, Deep Learning Performance: Convolutional Layers User's Guide,
"Channels In And Out"; not measured here.)"""
BLOCKS = (16, 8, 4)
"""Those tried, the largest first; a CPU that likes none of them has 1."""
WIDTH = 64
"""A multiple of all of them. Off a block b is WIDTH - b/2."""
LAYERS, EDGE = 3, 28
"""Of the stack of convolutions that is timed: large enough that they, and not their calls, take the time."""
SECONDS = 0.5
DECIDED = 0.25
"""How near to one of the two hypotheses the time must be; see `decide`."""

Times = Mapping[int, Sequence[float]]
"""Width -> the shortest time of each round in seconds, the same rounds for all widths."""


@dataclass(frozen=True, slots=True)
class ChannelBlock:
    """Numbers of channels that are multiples of ``size`` are the fast ones."""

    size: int
    """Channels; 1 if all numbers are alike."""
    reason: str
    """For the report: how that is known."""


def preferred_block(provider: ProviderChoice, half: bool = False) -> ChannelBlock:
    """The block of channels that the convolutions of ``provider`` work in; ``half``: with float16 weights.

    On the CPU it is found by a measurement of about half a second, once in a process. There float16 changes nothing,
    since onnxruntime computes it in float32.
    """
    if provider.name == "cuda":
        kind = "float16" if half else "TF32 and float16"
        return ChannelBlock(CUDA_BLOCK, f"tensor cores work in blocks of {CUDA_BLOCK} channels ({kind})")
    return _cpu_block()


@functools.cache
def _cpu_block() -> ChannelBlock:
    return find_block(time_widths, cpu_features())


def find_block(measure: Callable[[Sequence[int]], Times], features: Iterable[str]) -> ChannelBlock:
    """The CPU's block by `decide`, or by its ``features`` where times do not tell. ``measure`` times widths."""
    times: Times = {}
    with contextlib.suppress(OnnxMergeError):  # then nothing runs here, and any block does
        times = measure([WIDTH, *(WIDTH - block // 2 for block in BLOCKS)])
    size = decide(times) if times else None
    if size is not None:
        what = f"in blocks of {size} channels" if size > 1 else "with any number of channels alike"
        return ChannelBlock(size, f"CPU kernels work {what} (probed)")
    size = block_of(features)
    return ChannelBlock(size, f"CPU kernels work in blocks of {size} channels (by the CPU's instruction set)")


def decide(times: Times) -> int | None:
    """The largest block b such that a width off the block, w = WIDTH - b/2, gains nothing over WIDTH; None in doubt.

    What decides is where the time of w lies between two hypotheses. If the kernels do not care for b, the time goes
    with the multiply-adds, (w / WIDTH)^2 of the time of WIDTH. If b is the block, w is padded to WIDTH, which takes as
    long, or falls back to another algorithm, which takes longer: then b/2 is no use, and neither is what is smaller. In
    between, and where the two halves of the rounds do not agree, there is doubt, which ends the search: of smaller
    blocks the times would tell even less.

    Of each width the shortest time counts, since noise only ever adds to it.
    """
    for block in BLOCKS:
        width = WIDTH - block // 2
        free = (width / WIDTH) ** 2
        halves = [min(times[width][k::2]) / min(times[WIDTH][k::2]) for k in (0, 1)]
        scores = [(ratio - free) / (1 - free) for ratio in halves]  # 0: goes with the multiply-adds, 1: gains nothing
        if min(scores) >= 1 - DECIDED:
            return block
        if max(scores) > DECIDED:
            return None
    return 1


def block_of(features: Iterable[str]) -> int:
    """MLAS's block for a CPU, by the names that NumPy has for instruction sets: 16 for AVX-512 and for ARM's NEON."""
    found = set(features)
    wide = any(name.startswith("AVX512") or name == "X86_V4" for name in found)
    return 16 if wide or found & {"NEON", "ASIMD"} else 8


def cpu_features() -> frozenset[str]:
    """Instruction sets that this CPU has, under NumPy's names."""
    with warnings.catch_warnings():  # where an optional package is missing, though not in this mode
        warnings.simplefilter("ignore")
        config = np.show_config(mode="dicts")
    simd = config.get("SIMD Extensions", {}) if isinstance(config, dict) else {}
    found = {*simd.get("baseline", ()), *simd.get("found", ())}
    return frozenset(found or ({"ASIMD"} if platform.machine().lower() in ("arm64", "aarch64") else ()))


def time_widths(widths: Sequence[int]) -> Times:
    """`Times` of a stack of 3x3 convolutions of each width, in turns, on one thread: a second one adds only noise.

    Raises
    ------
    OnnxMergeError: onnxruntime does not run it.
    """
    calls = []
    for width in widths:
        session = Session(_stack(width), threads=1)
        feeds = {"x": np.full((1, width, EDGE, EDGE), 0.5, np.float32)}
        calls.append(functools.partial(session.run, feeds))
    rounds = interleaved(calls, seconds=SECONDS, settle=lambda: None)  # one thread leaves nobody behind
    return {width: [min(turns[k]) for turns in rounds] for k, width in enumerate(widths)}


def _stack(width: int) -> bytes:
    weight = np.full((width, width, 3, 3), 1 / (9 * width), np.float32)  # no denormals after any number of layers
    names = ["x", *(f"h{k}" for k in range(1, LAYERS)), "y"]
    nodes = [make_node("Conv", [a, "w"], [b], pads=[1, 1, 1, 1]) for a, b in zip(names, names[1:], strict=False)]
    ends = [make_tensor_value_info(n, TensorProto.FLOAT, [1, width, EDGE, EDGE]) for n in "xy"]
    graph = make_graph(nodes, "stack", ends[:1], ends[1:], [numpy_helper.from_array(weight, "w")])
    model = make_model(graph, opset_imports=[make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())
