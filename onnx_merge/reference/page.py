"""The pages, and the part of the README that is made from the same definitions."""

from __future__ import annotations

from pathlib import Path

from onnx_merge.reference.key_tables import key_sections
from onnx_merge.reference.option_tables import most_used, option_sections
from onnx_merge.reference.remedies import remedies_page

BEGIN, END = "<!-- options: written by python -m onnx_merge.reference -->\n", "<!-- end of options -->\n"
HEAD = """\
# Reference

`python -m onnx_merge.reference` writes this page from the definitions of options (`onnx_merge/config/`) and from the
schema of the reports (`onnx_merge/report/report.schema.json`).

## Options

    onnx-merge IN OUT [options]

| | on the command line | in a file (`--config`) | from Python |
| --- | --- | --- | --- |
| name | `--exclude-inputs REGEX` | `exclude-inputs = "REGEX"` | `exclude_inputs="REGEX"` |
| option without a value | `--lossless` | `lossless = true` | `lossless=True` |
| option that turns something off | `--no-gate` | `no-gate = true` or `gate = false` | `gate=False` |
| repeatable option | `--exclude A --exclude B` | `exclude = ["A", "B"]` | `exclude=["A", "B"]` |
| pairs | `--keep-layer A=0.5` | `[keep-layer]` and below it `A = 0.5` | `keep_layer={"A": 0.5}` |

`--lambda` is `lambda_` in Python.

"""
REPORTS = """
## Keys of the JSON reports

`a.b` is a key of the object `a`, and `a[].b` a key of each object in the array `a`.

"""


def page() -> str:
    """docs/reference.md."""
    return f"{HEAD}{option_sections()}{REPORTS}{key_sections()}"


def written(root: Path) -> dict[Path, str]:
    """The files of a checkout that are made from definitions, whole, and what is to be in them.

    Raises
    ------
    FileNotFoundError, ValueError: there is no README.md, or it lacks the place for the list.
    """
    readme = root / "README.md"
    before, found, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not (found and ended):
        raise ValueError(f"{readme} has no lines {BEGIN.strip()} and {END.strip()}")
    pages = {"reference.md": page(), "left-alone.md": remedies_page()}
    made = {root / "docs" / name: text for name, text in pages.items()}
    return {**made, readme: f"{before}{BEGIN}{most_used()}{END}{after}"}
