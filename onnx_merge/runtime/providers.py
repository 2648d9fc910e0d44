"""Names the execution providers that models run on, and sets them up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

ProviderName = Literal["cpu", "cuda", "tensorrt"]


@dataclass(frozen=True, slots=True)
class ProviderChoice:
    """The execution provider that models run on. With ``tensorrt``, latency is measured there; numbers are computed on
    CUDA, because TensorRT takes minutes to build each model."""

    name: ProviderName
    reason: str
    """Why this provider was chosen, for the report."""

    @property
    def on_device(self) -> bool:
        """Whether models run on a device with memory of its own."""
        return self.name != "cpu"


CPU = ProviderChoice("cpu", "asked for")

NUMBERS = {
    "use_tf32": "0",  # its 10-bit mantissa has larger errors than the differences that we measure
    "cudnn_conv_algo_search": "HEURISTIC",  # the default times every algorithm at every new shape
}
"""CUDA's options where numbers are compared. Latency is measured with its defaults, as users run models."""


def execution_providers(choice: ProviderChoice, deployed: bool) -> list[Any]:
    """onnxruntime's providers in the order of preference. ``deployed``: set up as users run models."""
    found: list[Any] = ["CPUExecutionProvider"]
    if choice.on_device:
        found.insert(0, "CUDAExecutionProvider" if deployed else ("CUDAExecutionProvider", NUMBERS))
    if choice.name == "tensorrt" and deployed:
        found.insert(0, "TensorrtExecutionProvider")
    return found
