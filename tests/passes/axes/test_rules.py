"""What each op rule ties and what it freezes; the tables stand in `support/rules_*.py`, one for each family."""

import pytest
from families import CASES, FIRING, OF_ONNXRUNTIME
from rulekit import reasons, scaling_of, types

from passes.axes.registry import rules


@pytest.mark.parametrize("case", FIRING, ids=lambda c: c.id)
def test_fires(case):
    typing = case.typing()
    names = [part.split(":")[0] for part in case.expected.split("; ")]
    assert types(typing, names) == case.expected
    assert scaling_of(typing, case.op) == case.scaling


@pytest.mark.parametrize("case", [c for c in CASES if not c.fires], ids=lambda c: c.id)
def test_freezes(case):
    place, _, reason = case.expected.partition(": ")
    name, axis = place.split()
    found = reasons(case.typing(), name, int(axis))
    assert any(reason in (given or "") for given in found), found


def test_every_rule_is_tested():
    assert all(domain == "" for domain, _ in rules()), "the tables know the standard domain only"
    ops = {op for _, op in rules()} - OF_ONNXRUNTIME
    assert ops <= {case.op for case in FIRING}
    assert ops <= {case.op for case in CASES if not case.fires}
