"""Assertions in helpers explain themselves wherever helpers are imported first; passes have their graphs checked."""

import pytest

from passes.interface.runner import checking_graphs

pytest.register_assert_rewrite("netkit", "rulekit")


@pytest.fixture(scope="session", autouse=True)
def graphs_are_checked():
    """A pass that makes an invalid graph of a valid one fails the test that runs it."""
    with checking_graphs():
        yield
