"""Makes the helpers in `support` importable: test modules cannot import each other under --import-mode=importlib."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent / "support"))
pytest.register_assert_rewrite("netkit", "rulekit")
