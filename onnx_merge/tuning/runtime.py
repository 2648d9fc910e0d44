"""Tunables of running models on a GPU: memory and time. Results depend on them in the last bits, as on batch sizes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DeviceTuning:
    """Sessions on a device (`onnx_merge.runtime.devices.device_runner`), and the choice of a provider."""

    most_sessions: int = 96
    """Sessions that are kept for models of the same structure: those of a network whose blocks are all unlike. Each
    holds some device memory. Not tuned."""
    batch_sizes: int = 4
    """Sizes of a batch for each of which such a session is kept: cuDNN plans for one at a time. Not tuned: whole
    batches, the last one, and parts of both."""
    small_bytes: int = 2**16
    """Results up to this size are copied to the host at once. Not tuned: copying them takes no longer than a call."""
    memory_share: float = 0.4
    """Share of a device's free memory that activations may take. The rest is for what sessions allocate. Not tuned."""
    timed_samples: int = 16
    """Samples in the batch that is timed to choose a provider: a GPU is busy with many, a large model takes long on the
    CPU. Not tuned."""
    loads: float = 6.0
    """Loads of the whole model, first runs included, that the sessions of a run add up to. Seen on two networks
    (original, compressed and gradient models in parts), not tuned; only the choice of a provider depends on it."""
    samples: float = 6400.0
    """Samples on which the runs of the model's parts add up to runs of the whole: a hundred passes over 64. Not
    tuned."""
    latency_batches: tuple[int, ...] = (1, 8, 64)
    """Batch sizes at which latency is measured on a GPU unless the user names some: one at a time, and in batches. Not
    tuned."""


DEVICE = DeviceTuning()
