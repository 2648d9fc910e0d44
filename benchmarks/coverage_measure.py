"""Our result on one model: judged against the original and its unshrunk twin, and what froze of it and why.

The columns are documented in `coverage.py`. The peer's result is judged as ours is, by `Original.judge`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import onnx
from exactness import Arrays, float64_error, relative_error, run_checked, run_original, vary_equal_weights

from onnx_merge.errors import InputError
from onnx_merge.inputs.assignments import find_assignments
from onnx_merge.inputs.shape_observer import RunObserver
from onnx_merge.io.load import PROTOBUF_LIMIT, load_model
from onnx_merge.runtime.segment_runner import FOLDING
from onnx_merge.runtime.session import Session
from passes.axes.channel_groups import ChannelGroup
from passes.axes.inference import Typing
from passes.cost.cost import Cost, cost
from passes.cost.footprint import Holdings
from passes.graph.model import Graph
from passes.pipeline import Compressed, compress
from passes.settings.compress import CompressSettings
from passes.transforms.canonicalize import canonicalize

EXACT = 1e-4
"""The largest distance from the twin that is rounding."""
SEEN = 1e-2
"""How far the outputs must move when channels go for the comparison with the twin to tell anything."""
VERDICTS = ("valid", "untouched", "invalid", "timeout", "crash")


@dataclass
class Outcome:
    """``verdict``: one of VERDICTS, ``detail`` says more. ``params``, ``macs``: shares left, also if invalid."""

    verdict: str
    detail: str = ""
    params: float | None = None
    macs: float | None = None
    seconds: float | None = None

    @property
    def valid(self) -> bool:
        return self.verdict in ("valid", "untouched")


@dataclass
class Reason:
    """``share`` of the parameters stands on the axes of ``groups`` frozen groups; ``example`` is the first of them."""

    text: str
    groups: int
    share: float
    example: str


@dataclass
class Ours(Outcome):
    """``seconds``: of inference and planning, ``rest_seconds``: of the other ``stages``; errors as the module says;
    ``moved``: distance of the twin from the original; ``varied``: whether they are of the model with varied weights."""

    error: float | None = None
    error64: float | None = None
    computed64: str = ""
    moved: float | None = None
    varied: bool = False
    found: int = 0
    shrunk: int = 0
    frozen: int = 0
    rest_seconds: float | None = None
    stages: dict[str, float] = field(default_factory=dict)
    reasons: list[Reason] = field(default_factory=list)

    @property
    def exact(self) -> bool:
        return self.valid and any(e is not None and e <= EXACT for e in (self.error, self.error64))

    @property
    def blind(self) -> bool:
        """Whether the comparison with the twin could not have seen much."""
        return self.shrunk > 0 and self.moved is not None and self.moved < SEEN


@dataclass(frozen=True)
class Original:
    """What our result and the peer's are held against."""

    path: Path
    model: onnx.ModelProto
    feeds: Arrays
    outputs: Arrays
    cost: Cost

    def judge(self, model: onnx.ModelProto, outcome: Outcome) -> Arrays:
        """Fill in all of ``outcome`` but the seconds; returns the outputs of ``model``."""
        outputs, problem = run_checked(model, self.model, self.feeds, self.outputs)
        outcome.verdict, outcome.detail = ("invalid", problem) if problem else ("valid", "")
        if outputs:
            left = _cost(model)
            outcome.params = left.params / max(self.cost.params, 1)
            outcome.macs = left.macs / self.cost.macs if self.cost.macs else None
        return outputs


def _cost(model: onnx.ModelProto) -> Cost:
    return cost(Graph(canonicalize(model, FOLDING), (), RunObserver()))


def load(path: Path) -> Original:
    """Read a model and run it. Raises OnnxMergeError with the line to print if that cannot be done."""
    loaded = load_model(path)
    if loaded.size > PROTOBUF_LIMIT:
        raise InputError(f"{path} has over 2 GB, which this benchmark does not read")
    feeds, outputs = run_original(loaded.model)
    return Original(path, loaded.model, feeds, outputs, _cost(loaded.model))


def measure(original: Original, keep: float) -> Ours:
    """Our result, and how it came about."""
    found = find_assignments(Session(original.model), model=original.model).witnesses
    settings = CompressSettings(keep=keep, method="merge", assignments=found)
    compressed = compress(original.model, settings, RunObserver(), engine=FOLDING)
    groups = [plan.group for plan in compressed.plans]
    shrunk, frozen = sum(plan.shrinks for plan in compressed.plans), sum(group.frozen is not None for group in groups)
    ours = Ours("valid", found=len(groups), shrunk=shrunk, frozen=frozen)
    outputs = original.judge(compressed.model, ours)
    if ours.valid:
        _compare_with_twin(original, compressed, outputs, ours)
        if ours.exact and ours.blind:
            varied = vary_equal_weights(original.model)
            awake = replace(original, model=varied, outputs=Session(varied).run(original.feeds))
            again = compress(varied, settings, RunObserver(), engine=FOLDING)
            ours.varied = True
            _compare_with_twin(awake, again, Session(again.model).run(awake.feeds), ours)
    ours.stages = compressed.seconds
    ours.seconds = compressed.seconds["infer"] + compressed.seconds["plan"]
    ours.rest_seconds = sum(compressed.seconds.values()) - ours.seconds
    ours.reasons = reasons(compressed.typing, groups)
    return ours


def _compare_with_twin(original: Original, compressed: Compressed, outputs: Arrays, ours: Ours) -> None:
    ours.error, ours.error64, ours.computed64 = None, None, ""
    twin = compressed.twin()
    expected, problem = run_checked(twin, original.model, original.feeds, original.outputs)
    if problem is not None:
        ours.detail = f"the twin is not valid: {problem}"
        return
    ours.moved = relative_error(expected, original.outputs)
    ours.error = relative_error(outputs, expected)
    if ours.error is None or ours.error > EXACT:
        ours.error64, ours.computed64 = float64_error(compressed.model, twin, original.feeds)


def reasons(typing: Typing, groups: Sequence[ChannelGroup]) -> list[Reason]:
    """Why groups are frozen, the most costly reason first."""
    by_text: dict[str, list[ChannelGroup]] = defaultdict(list)
    for group in groups:
        if group.frozen is not None:
            by_text[str(group.frozen.general)].append(group)
    holdings = Holdings(typing)
    found: list[Reason] = []
    for text, held in by_text.items():
        share = holdings.of(group.atom for group in held).params_share
        found.append(Reason(text, len(held), share, f"{held[0].name}: {held[0].frozen}"))
    return sorted(found, key=lambda reason: -reason.share)
