"""Registers helper modules for pytest's assertion rewriting, wherever they are imported first."""

import pytest

pytest.register_assert_rewrite("netkit", "rulekit")
