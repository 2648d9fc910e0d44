"""Makes the helpers in `support`, the growers of the tests of `passes`, and the benchmarks importable."""

import gc
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SUPPORT = HERE.parent / "passes" / "support"
sys.path += map(
    str,
    [
        HERE,
        HERE / "support",
        SUPPORT,
        *(SUPPORT / room for room in ("generator", "networks", "rules")),
        HERE.parents[1] / "benchmarks",
    ],
)


@pytest.fixture(autouse=True)
def _garbage_collector_skips_modules():
    """Each graph has memory collected, which looks at all modules otherwise: a fifth of the time."""
    gc.freeze()
    yield
    gc.unfreeze()
