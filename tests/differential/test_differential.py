"""A second opinion on every result: generated graphs through the public interfaces, judged by code of their own.

`diff_generate` grows a graph from a seed, `diff_run` compresses it, `diff_judge` and `diff_inspect` say what is wrong.
To look at a seed: ``python tests/differential/run_many.py --show SEED``.
"""

import os
from collections import Counter
from pathlib import Path

import pytest
from diff_deal import hand
from diff_examine import Finding, examine
from diff_generate import SUITE
from diff_known import KNOWN, REGRESSIONS, known
from diff_run import WAYS, ways_of
from diff_smaller import story
from run_many import judged

from passes.axes.registry import rules

PART, MANY = 10, 1000
"""Graphs of one test of the suite, and of the slow test."""
SHRINK = 0.7
"""Share of graphs that lose channels in some way, at least."""
OFTEN = 20
"""Graphs of the slow test in which an op stands on an axis that shrinks, at least."""
NEVER = {
    "Constant": "becomes an initializer before axes are looked at",
    "SimplifiedLayerNormalization": "is not generated: onnx has none, and RMSNormalization has the same rule",
    **dict.fromkeys(("GatherND", "ScatterND", "ScatterElements"), "is not generated: `test_lists_of_places.py` has it"),
}
"""Op types with a rule that stand on no axis that shrinks, with the reason."""


def failing(findings: list[Finding]):
    """Text for each fault that is not known; of the first the graph too, as small as it gets."""
    bad = [f for f in findings if f.faults and f.case.seed not in known()]
    lines = [f"seed {f.case.seed}: {fault}" for f in bad for fault in f.faults]
    return "\n".join([*lines, story(bad[0].case.seed)]) if bad else ""


@pytest.mark.parametrize("first", range(0, SUITE, PART))
def test_generated_graphs(first):
    findings = [examine(seed, ways_of(seed)) for seed in range(first, first + PART)]
    assert sum(f.shrinks for f in findings) >= SHRINK * PART
    assert not (said := failing(findings)), said


@pytest.mark.parametrize(("seed", "kind"), REGRESSIONS)
def test_what_failed_once(seed, kind):
    assert not (said := failing([examine(seed)])), f"{kind}\n{said}"


@pytest.mark.slow
def test_many_generated_graphs():
    """By processes that are replaced now and then: one would keep what it has compiled and loaded, 11 GB of it."""
    lines = [*judged([(seed, WAYS) for seed in range(MANY)], Path(__file__).parents[2], os.cpu_count() or 1)]
    counts = Counter(op for line in lines for op in line["ops"])
    for op in sorted({op for _, op in rules()}, key=lambda op: counts[op]):
        print(f"{op:30} {counts[op]}")
    assert sum(line["shrinks"] for line in lines) >= SHRINK * MANY
    bad = [line for line in lines if line["faults"] and line["seed"] not in known()]
    assert not bad, "\n".join(f"seed {line['seed']}: {fault}" for line in bad for fault in line["faults"])
    rare = {op: counts[op] for _, op in rules() if op not in NEVER and counts[op] < OFTEN}
    assert not rare, f"on an axis that shrinks in fewer than {OFTEN} graphs: {rare}"


def test_cards_come_up_evenly():
    """All of 7 in 70 hands of 3, but for the few that a hand would hold twice."""
    counts = Counter(card for seed in range(70) for card in hand(seed, tuple("abcdefg"), 3))
    assert set(counts) == {*"abcdefg"} and max(counts.values()) <= 30 and min(counts.values()) >= 24
    assert hand(5, tuple("abcdefg"), 3) == hand(5, tuple("abcdefg"), 3) != hand(6, tuple("abcdefg"), 3)


def test_known_faults_are_of_graphs_that_are_tried():
    seeds = [seed for seeds in KNOWN.values() for seed in seeds]
    assert len(seeds) == len({*seeds}), "a seed stands under one kind"
    assert {*seeds} <= {*range(MANY), *(seed for seed, _ in REGRESSIONS)}
