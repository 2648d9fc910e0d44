"""Times a stack of convolutions at several widths, for `onnx_merge.latency.channel_block`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from onnx import numpy_helper
from onnx.helper import (
    make_graph,
    make_model,
    make_node,
    make_opsetid,
    make_tensor_value_info,
    np_dtype_to_tensor_dtype,
)

from onnx_merge.latency.interleaved_timing import interleaved
from onnx_merge.runtime.onnxruntime_import import onnxruntime
from onnx_merge.runtime.providers import CPU, ProviderChoice
from onnx_merge.runtime.session import Session
from onnx_merge.tuning.compression import CHANNEL_BLOCK, ChannelBlockTuning

Times = Mapping[int, Sequence[float]]
"""Width -> the shortest time of each round in seconds, with the same rounds for all widths."""


def time_widths(
    widths: Sequence[int],
    provider: ProviderChoice = CPU,
    half: bool = False,
    tuning: ChannelBlockTuning = CHANNEL_BLOCK,
) -> Times:
    """`Times` of a stack of 3x3 convolutions of each width, interleaved, on one thread; a second thread would only add
    noise. On a GPU, inputs and outputs stay there.

    Raises
    ------
    OnnxMergeError: onnxruntime cannot run the stack.
    """
    device, kind = ("cuda" if provider.on_device else "cpu"), np.float16 if half else np.float32
    calls = []
    for width in widths:
        session = Session(stack(width, kind, tuning), provider, threads=1, deployed=provider.on_device)
        x = np.full((tuning.batch, width, tuning.edge, tuning.edge), 0.5, kind)
        feeds = {"x": onnxruntime().OrtValue.ortvalue_from_numpy(x, device, 0)}
        calls.append(partial(session.run_on_device, feeds, device))
    # One thread leaves no others spinning.
    rounds = interleaved(calls, seconds=tuning.seconds, settle=lambda: None)
    return {width: [min(times[k]) for times in rounds] for k, width in enumerate(widths)}


def stack(width: int, kind: type[np.floating[Any]], tuning: ChannelBlockTuning) -> bytes:
    """A serialised model of `ChannelBlockTuning.layers` convolutions of ``width`` channels."""
    # The weights preserve the scale of activations, so that none become denormal.
    weight = np.full((width, width, 3, 3), 1 / (9 * width), kind)
    names = ["x", *(f"h{k}" for k in range(1, tuning.layers)), "y"]
    nodes = [make_node("Conv", [a, "w"], [b], pads=[1, 1, 1, 1]) for a, b in zip(names, names[1:], strict=False)]
    element = np_dtype_to_tensor_dtype(np.dtype(kind))
    ends = [make_tensor_value_info(n, element, [tuning.batch, width, tuning.edge, tuning.edge]) for n in "xy"]
    graph = make_graph(nodes, "stack", ends[:1], ends[1:], [numpy_helper.from_array(weight, "w")])
    model = make_model(graph, opset_imports=[make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())
