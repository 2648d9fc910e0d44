"""`python -m onnx_merge`."""

import sys

from onnx_merge.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
