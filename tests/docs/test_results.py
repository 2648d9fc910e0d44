"""The table of docs/comparison.md is that of the committed results."""

import importlib.util
import json
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_table_is_that_of_the_results():
    spec = importlib.util.spec_from_file_location("draw_accuracy", ROOT / "benchmarks" / "draw_accuracy.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    results = json.loads((ROOT / "benchmarks" / "results" / "digits_cnn.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "comparison.md").read_text(encoding="utf-8")
    assert module.table(results["rows"]) == page.partition("<!-- results -->\n")[2].partition("<!-- end of results")[0]
    assert results["environment"]["onnxsim"] and f"{results['before']:.1f}%" in page
