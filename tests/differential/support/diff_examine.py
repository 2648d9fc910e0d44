"""Runs all checks on the graph of one seed."""

from dataclasses import dataclass

from diff_generate import Case, generate
from diff_inspect import inspected
from diff_judge import Fault, judge, shrunk_ops
from diff_run import WAYS, run, run_by_command

from onnx_merge.runtime.threads import limited

BY_COMMAND = 11
"""One graph in so many goes through the command line."""


@dataclass(frozen=True)
class Finding:
    """``ops``: op types on axes that shrank in some way; ``shrinks``: whether any channel went."""

    case: Case
    faults: tuple[Fault, ...]
    ops: frozenset[str]

    @property
    def shrinks(self):
        return bool(self.ops)


def examine(seed: int, ways=WAYS) -> Finding:
    """Generate the graph of ``seed`` and judge what becomes of it."""
    return examined(generate(seed), ways)


def examined(case: Case, ways=WAYS) -> Finding:
    """The same of a graph that is there; on one thread, since the graphs are small."""
    with limited(1):
        return _examined(case, ways)


def _examined(case, ways):
    outcomes, faults, ops = [], [], set()
    for way in ways:
        outcome = (run_by_command if case.seed % BY_COMMAND == 0 else run)(case.model, way, case.seed)
        outcomes.append(outcome)
        faults += judge(case, outcome)
        ops |= shrunk_ops(outcome)
    faults += inspected(case, outcomes)
    return Finding(case, tuple(faults), frozenset(ops))
