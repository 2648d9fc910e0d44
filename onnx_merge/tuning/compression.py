"""Tunables of searches for a size, of measuring latency, and of sweeps on a cluster. They trade accuracy for time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SizeSearchTuning:
    """Searches for a size (`onnx_merge.compression.size_search`, `onnx_merge.compression.promise_search`)."""

    trials: int = 10
    """Largest number of trials: exact size against time. Not tuned: bisection of the whole range to `resolution` takes
    seven."""
    resolution: float = 0.01
    """Difference in the share of the multiply-adds below which two sizes are the same. Not tuned: as near as the widths
    come to a target."""
    width_deviation: float = 0.05
    """Allowed deviation of the widths from a trial's size, relative to it. Less leaves sizes that no widths come near.
    Not tuned: small models have few widths."""
    latency_deviation: float = 0.01
    """Relative deviation from the latency at which the search ends: exact size against time. Not tuned: about the
    repeatability of a measurement."""
    seconds: float = 3.0
    """Seconds for measuring a trial's latency: exact latency against time. Not tuned: ten trials stay below a minute.
    """
    drop_points: float = 0.2
    """The search ends if the drop of accuracy or agreement is less than this far below the limit, in percentage points.
    Not tuned: a fifth of the default limit, one point."""
    drop_share: float = 0.2
    """The search ends if a drop of another measure is less than this share of the limit below it. Not tuned: the share
    that `drop_points` is of its limit."""


@dataclass(frozen=True)
class TimingTuning:
    """Latency of several models, in turn (`onnx_merge.latency.interleaved_timing`)."""

    seconds: float = 10.0
    """Default duration of a comparison, without the loading of the models: time against accuracy. Not tuned: thirty
    rounds of bursts of two models take three seconds."""
    fewest_rounds: int = 5
    """Minimum number of rounds, however long they take. Not tuned: a median of fewer says little."""
    most_rounds: int = 30
    """Maximum number of rounds: so many give a stable median. Not tuned: a standard error of about a fifth of the
    variation."""
    warm_up_runs: int = 3
    """Untimed runs of each model. The first allocates memory, the second still has cold caches; the last shows how long
    a run takes. Derived, not tuned."""
    burst_seconds: float = 0.05
    """In a round, each model has a burst of consecutive runs: as many as fit into this time, at least 1. A burst keeps
    the caches warm, and rounds short enough that all models see the same load of the machine. Not tuned: longer than
    onnxruntime's threads spin, 30 ms."""
    burst_runs: int = 10
    """Maximum number of runs in a burst. Not tuned: the first of them is not counted, nine are."""
    idle_seconds: float = 0.02
    """Seconds for which the process is watched to see whether it is idle: several ticks of a coarse clock (some systems
    count process time in steps of 4 or 10 ms). Derived, not tuned."""
    idle_share: float = 0.3
    """The process is idle if it uses less than this share of one core. Not tuned: a spinning thread uses all of a core.
    """
    settle_seconds: float = 0.2
    """Maximum wait for an idle process. Not tuned: several times what threads spin."""


@dataclass(frozen=True)
class ChannelBlockTuning:
    """How the block of channels is measured that a machine's kernels prefer (`onnx_merge.latency.channel_block`)."""

    blocks: tuple[int, ...] = (16, 8, 4)
    """Candidate block sizes, the largest first. If a CPU prefers none of them, its block is 1. Not tuned: the vector
    registers of CPUs hold so many float32 values."""
    width: int = 64
    """A multiple of all candidates. The width that tests a block b is `width` - b/2. Not tuned: a usual width."""
    layers: int = 3
    """Depth of the stack of convolutions that is timed: large enough that the convolutions dominate the overhead of the
    calls, small enough to be quick. Derived, not tuned."""
    edge: int = 28
    """Image edge of the stack, in pixels, for the same reason. Not tuned."""
    batch: int = 1
    """Images in a run of the stack. A GPU is only busy with many. Derived, not tuned."""
    seconds: float = 0.5
    """Duration of the measurement: certainty against time. Not tuned: short beside any run of the tool."""
    tolerance: float = 0.25
    """Maximum distance from one of the two hypotheses to accept it; see `onnx_merge.latency.channel_block.decide`.
    Doubt costs another measurement, a wrong block costs speed. Not tuned: a quarter of the way from one to the other.
    """


@dataclass(frozen=True)
class ClusterTuning:
    """Patience with a Dask cluster (`onnx_merge.sweeping.cluster`): time lost on a dead cluster against results lost on
    a slow one. Not tuned: ten seconds for a person who waits, two minutes for a scheduler that replaces workers."""

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
GPU_CHANNEL_BLOCK = ChannelBlockTuning(blocks=(64, 32, 16, 8), width=256, layers=4, batch=32, seconds=1.0)
CLUSTER = ClusterTuning()
