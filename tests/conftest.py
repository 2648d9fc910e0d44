"""Registers helper modules for pytest's assertion rewriting. Graphs are checked between passes in all tests."""

import pytest

from passes.interface.runner import checking_graphs

pytest.register_assert_rewrite("netkit", "rulekit")


@pytest.fixture(scope="session", autouse=True)
def graphs_are_checked():
    """A pass that makes an invalid graph of a valid one fails the test that runs it."""
    with checking_graphs():
        yield
