"""Makes the helpers in `support`, and the growers of the tests of `passes`, importable."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path += [str(HERE / "support"), str(HERE.parent / "passes" / "support")]
