"""The channel block, found from synthetic times."""

from functools import partial

import numpy as np
import onnx
import pytest

from onnx_merge.errors import OnnxMergeError
from onnx_merge.latency import channel_block, width_times
from onnx_merge.latency.channel_block import (
    ChannelBlock,
    block_of,
    cpu_features,
    decide,
    find_block,
    find_gpu_block,
    preferred_block,
    widths_to_time,
)
from onnx_merge.latency.interleaved_timing import interleaved
from onnx_merge.latency.width_times import stack, time_widths
from onnx_merge.runtime.providers import CPU, ProviderChoice
from onnx_merge.runtime.session import Session
from onnx_merge.tuning.compression import CHANNEL_BLOCK, GPU_CHANNEL_BLOCK

WIDTHS = [64, 56, 60, 62]
AVX512 = {"X86_V3", "X86_V4", "AVX512_ICL"}
AVX2 = {"X86_V2", "X86_V3", "AVX2"}


def padded(width, block):
    """Time in which all channels of the blocks are computed."""
    return (-(-width // block) * block / CHANNEL_BLOCK.width) ** 2


def times(of):
    """Ten rounds, with noise that only ever adds."""
    rng = np.random.default_rng(0)
    return {w: (of(w) * (1 + rng.exponential(0.3, 10) * (np.arange(10) > 1))).tolist() for w in WIDTHS}


@pytest.mark.parametrize("block", [16, 8, 4])
def test_widths_that_are_padded(block):
    assert decide(times(lambda width: padded(width, block))) == block


def test_widths_for_which_another_algorithm_is_slower():
    assert decide(times(lambda width: 1.0 if width % 16 == 0 else 1.5)) == 16
    assert decide(times(lambda width: (width / CHANNEL_BLOCK.width) ** 2 if width % 8 == 0 else 1.2)) == 8


def test_time_that_goes_with_the_multiply_adds():
    assert decide(times(lambda width: (width / CHANNEL_BLOCK.width) ** 2)) == 1


def test_what_lies_between_is_in_doubt():
    assert decide(times(lambda width: width / CHANNEL_BLOCK.width)) is None


def test_halves_that_disagree_are_in_doubt():
    found = times(lambda width: padded(width, 16))
    found[56] = [1.0 if k % 2 else 0.75 for k in range(10)]
    assert decide(found) is None


def test_in_doubt_the_cpu_decides():
    doubtful = times(lambda width: width / CHANNEL_BLOCK.width)
    wide, narrow = (find_block(lambda widths: doubtful, features) for features in (AVX512, AVX2))
    assert wide == ChannelBlock(16, "CPU kernels work in blocks of 16 channels (by the CPU's instruction set)")
    assert narrow.size == 8


def test_without_doubt_the_times_decide():
    asked = []

    def measure(widths):
        asked.extend(widths)
        return times(lambda width: padded(width, 8))

    assert find_block(measure, AVX512) == ChannelBlock(8, "CPU kernels work in blocks of 8 channels (probed)")
    assert asked == WIDTHS
    found = find_block(lambda widths: times(lambda width: (width / CHANNEL_BLOCK.width) ** 2), AVX512)
    assert found == ChannelBlock(1, "CPU kernels work with any number of channels alike (probed)")


def test_where_nothing_runs_the_cpu_decides():
    def measure(widths):
        raise OnnxMergeError("onnxruntime cannot be imported")

    assert find_block(measure, AVX2).size == 8


def test_instruction_sets():
    assert block_of(AVX512) == block_of({"AVX512F"}) == block_of({"NEON"}) == block_of({"ASIMD"}) == 16
    assert block_of(AVX2) == block_of(set()) == 8
    assert all(isinstance(name, str) for name in cpu_features()) and cpu_features()


GPU_WIDTHS = [256, 224, 240, 248, 252]


def gpu_times(of):
    return {width: [of(width)] * 10 for width in GPU_WIDTHS}


@pytest.mark.parametrize("block", [64, 32, 16])
def test_a_gpu_is_measured(block):
    found = find_gpu_block(lambda widths: gpu_times(lambda w: (-(-w // block) * block / 256) ** 2))
    assert found == ChannelBlock(block, f"GPU kernels work in blocks of {block} channels (probed, TF32)")


def test_times_as_on_a_gpu():
    """Microseconds seen with TF32 at batch 32: 224 lies between, 240 takes as long as 256."""
    seen = {256: 1146, 224: 1015, 240: 1154, 248: 1185, 252: 1428}
    assert find_gpu_block(lambda widths: gpu_times(seen.__getitem__)).size == 32


def test_where_a_gpu_shows_no_block():
    even = find_gpu_block(lambda widths: gpu_times(lambda w: (w / 256) ** 2), half=True)
    assert even == ChannelBlock(8, "tensor cores work in blocks of 8 channels (float16)")

    def fails(widths):
        raise OnnxMergeError("no memory")

    assert find_gpu_block(fails).size == 8
    assert widths_to_time(GPU_CHANNEL_BLOCK) == GPU_WIDTHS


def test_it_is_measured_once(monkeypatch):
    calls = []

    def measure(widths):
        calls.append(widths)
        return times(lambda width: padded(width, 16))

    monkeypatch.setattr(channel_block, "time_widths", measure)
    channel_block._cpu_block.cache_clear()
    try:
        assert preferred_block(CPU) == preferred_block(ProviderChoice("cpu", "no NVIDIA device"), half=True)
        assert preferred_block(CPU).size == 16 and len(calls) == 1
    finally:
        channel_block._cpu_block.cache_clear()


def test_the_stack_runs(monkeypatch):
    monkeypatch.setattr(width_times, "interleaved", partial(interleaved, max_rounds=5))
    found = time_widths([8, 6])
    assert list(found) == [8, 6] and all(len(v) == 5 and min(v) > 0 for v in found.values())
    content = stack(6, np.float32, CHANNEL_BLOCK)
    onnx.checker.check_model(onnx.ModelProto.FromString(content), full_check=True)
    values = Session(content).run({"x": np.ones((1, 6, 28, 28), np.float32)})["y"]
    np.testing.assert_allclose(values[..., 4:-4, 4:-4], 1, rtol=1e-5)
