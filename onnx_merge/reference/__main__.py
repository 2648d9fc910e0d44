"""`python -m onnx_merge.reference`, run in a checkout: writes docs/reference.md, docs/left-alone.md
and the README's list of options."""

from pathlib import Path

from onnx_merge.reference.page import written

if __name__ == "__main__":
    for path, text in written(Path()).items():
        path.write_text(text, encoding="utf-8", newline="\n")
