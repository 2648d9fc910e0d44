"""Makes the helpers in `support` importable: test modules cannot import each other under --import-mode=importlib."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent / "support"))
