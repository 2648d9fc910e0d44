"""Assertions in helpers explain themselves wherever the helpers are imported first."""

import pytest

pytest.register_assert_rewrite("netkit", "rulekit")
