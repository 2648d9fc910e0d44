"""Makes the helpers in `support` importable: test modules cannot import each other under --import-mode=importlib."""

import sys
from pathlib import Path

SUPPORT = Path(__file__).parent / "support"
sys.path += map(str, [SUPPORT, *(SUPPORT / room for room in ("generator", "gradforms", "networks", "rules"))])
