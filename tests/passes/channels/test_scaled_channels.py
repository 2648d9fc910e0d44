"""A multiple of a channel is merged only where every op makes and passes it as one: shown for each op with a rule."""

import copy

import pytest
from families import ALL_DATA, FIRING, OF_ONNXRUNTIME, SCALE_CASES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from netgrow import networks
from netgrow_check import Tally, lossless_check, observer
from netkit import net
from scaledkit import MULTIPLE, merges_exactly, planted_everywhere, plantings, shrinks_losslessly

from passes.axes.registry import rules


def planted(model, observed):
    """Check every planting; whether a multiple in all constants went losslessly, by group."""
    found = {}
    for group, what, other in plantings(model, observed):
        gone = shrinks_losslessly(other, observed)
        if what == MULTIPLE:
            found[group.name] = gone
            merges_exactly(other, group.size, observed)
    assert found, "no channel of this case can go"
    return found


@pytest.mark.parametrize("case", FIRING, ids=lambda case: case.id)
def test_on_the_way(case):
    inputs, frame, weights = case.frame
    dims = ",".join("abcdef"[: len(case.typing().axes["y"])])
    body = f"net ({inputs}) => (float[{dims}] y) {{ {frame.format(case.nodes)} }}"
    planted(net(body, case.opset, 10, **{**weights, **case.weights}), case.observed)


@pytest.mark.parametrize("case", SCALE_CASES, ids=lambda case: case.id)
def test_where_they_are_made(case):
    assert any(planted(case.model(), {}).values()) == case.scales


SAME = st.sampled_from([1.0, 1.75]).map(lambda factor: [factor])
FACTORS = st.lists(SAME | st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.75]), min_size=2, max_size=4), min_size=1)


def test_in_random_networks():
    """In every group at once, whatever stands between those that make it and those that read it."""
    tally = Tally()

    @settings(deadline=None, derandomize=True, max_examples=25, suppress_health_check=list(HealthCheck))
    @given(networks(), FACTORS)
    def check(network, factors):
        other = copy.copy(network)
        object.__setattr__(other, "model", planted_everywhere(network.model, observer, factors))
        lossless_check(other, tally)

    check()
    assert tally.share >= 0.25


def test_every_rule_is_tested():
    """An op with a new rule needs an entry: what it makes of constants, or that it makes nothing of them."""
    scaled = {case.op for case in SCALE_CASES} - {"Cast"}
    assert not scaled & ALL_DATA
    assert scaled | ALL_DATA | {"Cast"} == {op for _, op in rules()}
    assert {op for _, op in rules()} - OF_ONNXRUNTIME <= {case.op for case in FIRING}
