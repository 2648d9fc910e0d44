"""Random networks, random widths: the shrunk model computes what its unshrunk twin does; lossless is lossless."""

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from netgrow import networks, networks_with_copies, text
from netkit import compressed, difference, twin_check

TOLERANCE = 1e-4

WIDTHS = st.sampled_from([0.25, 0.4, 0.5, 0.6, 0.75, 0.9])
CHOICES = st.fixed_dictionaries(
    {
        "keep": WIDTHS,
        "method": st.sampled_from(["merge", "prune"]),
        "select": st.sampled_from(["l1", "l2", "gm", "reprune"]),
        "coupled": st.sampled_from([True, True, False]),
    }
)
quiet = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), print_blob=False)


def check(model, choices):
    note(text(model))
    twin_check(model, TOLERANCE, **choices)


@settings(quiet, max_examples=100)
@given(networks(), CHOICES)
def test_random_networks(model, choices):
    check(model, choices)


@pytest.mark.slow
@settings(quiet, max_examples=2000)
@given(networks(most=20), CHOICES)
def test_many_random_networks(model, choices):
    check(model, choices)


@settings(quiet, max_examples=100)
@given(networks_with_copies())
def test_lossless_changes_no_output(model):
    note(text(model))
    assert difference(model, compressed(model, lossless=True).model) <= TOLERANCE


@pytest.mark.slow
@settings(quiet, max_examples=2000)
@given(networks_with_copies(most=20))
def test_lossless_changes_no_output_of_many(model):
    note(text(model))
    assert difference(model, compressed(model, lossless=True).model) <= TOLERANCE
