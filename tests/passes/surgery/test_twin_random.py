"""Random networks, random widths: the shrunk model computes what its unshrunk twin does; lossless is lossless."""

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from netgrow import OPS, networks, networks_with_copies
from netgrow_check import Tally, lossless_check, twin_check
from netgrow_table import GROWERS

from passes.axes.registry import rules

LISTS = "reads lists of places; `test_lists_of_places.py` has networks with it"
NOT_GROWN = {
    "SimplifiedLayerNormalization": "onnx does not define it; RMSNormalization has the same rule",
    **dict.fromkeys(("GatherND", "ScatterND", "ScatterElements"), LISTS),
}
"""Op types with a rule that no random network has, with the reason."""
SHRINK = 0.8
"""Share of networks that lose channels, at least."""
LOSSLESS = 0.25
"""The same for lossless compression of networks with copies."""
BESIDE = 0.02
"""Share of networks, at most, whose outputs are too steep or too large to be compared."""

CHOICES = st.fixed_dictionaries(
    {
        "keep": st.sampled_from([0.25, 0.4, 0.5, 0.6, 0.75]),
        "method": st.sampled_from(["merge", "prune"]),
        "select": st.sampled_from(["l1", "l2", "gm", "reprune"]),
        "coupled": st.integers(0, 11).map(bool),
        "leave": st.one_of(st.just([]), st.just([]), st.lists(st.integers(0, 9), min_size=1, max_size=2)),
    }
)
PLAIN = st.fixed_dictionaries({"keep": st.sampled_from([0.4, 0.6]), "method": st.sampled_from(["merge", "prune"])})
quiet = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
anew = settings(deadline=None, print_blob=True, suppress_health_check=list(HealthCheck))


@pytest.fixture
def tally():
    """What the networks of a test were like; printed, to be seen with ``-rA``."""
    seen = Tally()
    yield seen
    print(seen.summary())


@pytest.fixture
def shrinking(tally):
    yield tally
    assert tally.share >= SHRINK and tally.beside <= BESIDE


@pytest.fixture
def reaching(shrinking):
    yield shrinking
    assert len(shrinking.ops.keys() & OPS) >= 0.95 * len(OPS)


@pytest.fixture
def freeing(tally):
    yield tally
    assert tally.share >= LOSSLESS and tally.beside <= BESIDE


def test_every_op_with_a_rule_is_grown():
    types = {op for domain, op in rules() if domain == ""}
    assert types <= GROWERS.keys() | NOT_GROWN.keys(), "write a grower, or say in NOT_GROWN why there is none"
    assert not GROWERS.keys() & NOT_GROWN.keys()


@pytest.mark.parametrize("op", OPS)
def test_each_op(op, tally):
    @settings(quiet, max_examples=6)
    @given(networks(ops=[op], most=2), PLAIN)
    def check(network, choices):
        assert op in network.ops
        twin_check(network, tally, **choices)

    check()


@pytest.mark.parametrize("part", range(2))
def test_random_networks(shrinking, part):
    """In parts, so that processes share them."""

    @seed(part)
    @settings(quiet, max_examples=50)
    @given(networks(), CHOICES)
    def check(network, choices):
        twin_check(network, shrinking, **choices)

    check()


@pytest.mark.slow
@settings(anew, max_examples=3000)
@given(networks(most=12), CHOICES)
def test_many_random_networks(reaching, network, choices):
    twin_check(network, reaching, **choices)


@settings(quiet, max_examples=100)
@given(networks_with_copies())
def test_lossless_changes_no_output(freeing, network):
    lossless_check(network, freeing)


@pytest.mark.slow
@settings(anew, max_examples=2000)
@given(networks_with_copies(most=12))
def test_lossless_changes_no_output_of_many(freeing, network):
    lossless_check(network, freeing)
