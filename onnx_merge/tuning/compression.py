"""Tunables of searches for a size, of measuring latency, and of sweeps on a cluster. They trade accuracy for time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SizeSearchTuning:
    """Searches for a size (`onnx_merge.compression.size_search`, `onnx_merge.compression.promise_search`)."""

    trials: int = 10
    """Largest number of trials: exact size against time."""
    resolution: float = 0.01
    """Difference in the share of the multiply-adds below which two sizes are the same."""
    width_deviation: float = 0.05
    """Allowed deviation of the widths from a trial's size, relative to it. Less leaves sizes that no widths come near.
    """
    latency_deviation: float = 0.01
    """Relative deviation from the latency at which the search ends: exact size against time."""
    seconds: float = 3.0
    """Seconds for measuring a trial's latency."""
    drop_points: float = 0.2
    """The search ends if the drop of accuracy or agreement is less than this far below the limit, in percentage points.
    """
    drop_share: float = 0.2
    """The same for other measures, as a share of the limit."""


@dataclass(frozen=True)
class TimingTuning:
    """Latency of several models, in turn (`onnx_merge.latency.interleaved_timing`)."""

    seconds: float = 10.0
    """Default duration of a comparison, without the loading of the models: time against accuracy."""
    fewest_rounds: int = 5
    """Minimum number of rounds, however long they take."""
    most_rounds: int = 30
    """Maximum number of rounds: so many give a stable median."""
    warm_up_runs: int = 3
    """Untimed runs of each model. The first allocates memory, the second still has cold caches; the last shows how long
    a run takes."""
    burst_seconds: float = 0.05
    """In a round, each model has a burst of consecutive runs: as many as fit into this time, at least 1. A burst keeps
    the caches warm, and rounds short enough that all models see the same load of the machine."""
    burst_runs: int = 10
    """Maximum number of runs in a burst."""
    idle_seconds: float = 0.02
    """Seconds for which the process is watched to see whether it is idle: several ticks of a coarse clock (some systems
    count process time in steps of 4 or 10 ms)."""
    idle_share: float = 0.3
    """The process is idle if it uses less than this share of one core."""
    settle_seconds: float = 0.2
    """Maximum wait for an idle process."""


@dataclass(frozen=True)
class ChannelBlockTuning:
    """How the block of channels is measured that a machine's kernels prefer (`onnx_merge.latency.channel_block`)."""

    blocks: tuple[int, ...] = (16, 8, 4)
    """Candidate block sizes, the largest first. If a CPU prefers none of them, its block is 1."""
    width: int = 64
    """A multiple of all candidates. The width that tests a block b is `width` - b/2."""
    layers: int = 3
    """Depth of the stack of convolutions that is timed: large enough that the convolutions dominate the overhead of the
    calls, small enough to be quick."""
    edge: int = 28
    """Image edge of the stack, in pixels, for the same reason."""
    seconds: float = 0.5
    """Duration of the measurement."""
    tolerance: float = 0.25
    """Maximum distance from one of the two hypotheses to accept it; see `onnx_merge.latency.channel_block.decide`.
    Doubt costs another measurement, a wrong block costs speed."""


@dataclass(frozen=True)
class ClusterTuning:
    """Patience with a Dask cluster (`onnx_merge.sweeping.cluster`): time lost on a dead cluster against results lost on
    a slow one."""

    seconds: float = 10
    """Timeout in seconds for the scheduler to answer, and for the first worker to be available."""
    return_seconds: float = 120
    """Timeout in seconds for a new worker after all have failed."""
    rounds: int = 5
    """How often the job is sent, if all workers that hold it have failed."""
    retries: int = 2
    """How often a candidate is retried that failed for an external reason."""


SIZE_SEARCH = SizeSearchTuning()
TIMING = TimingTuning()
CHANNEL_BLOCK = ChannelBlockTuning()
CLUSTER = ClusterTuning()
