"""The reference page and the README's list say what the definitions say, and nothing is left out."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from schema import SCHEMA

from onnx_merge.cli import compress
from onnx_merge.config.definition import options_of
from onnx_merge.config.options import Options
from onnx_merge.reference.key_tables import key_sections
from onnx_merge.reference.option_tables import MOST_USED, most_used, option_sections, table
from onnx_merge.reference.page import BEGIN, END, page, written

ROOT = Path(__file__).parents[3]


def test_the_files_are_up_to_date():
    for path, text in written(ROOT).items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run python -m onnx_merge.reference"


def test_the_command_writes_them(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text(f"before\n{BEGIN}old\n{END}after\n", encoding="utf-8")
    command = [sys.executable, "-W", "error", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{RUN}"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert (tmp_path / "docs" / "reference.md").read_text(encoding="utf-8") == page()
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == f"before\n{BEGIN}{most_used()}{END}after\n"


RUN = "import runpy; runpy.run_module('onnx_merge.reference', run_name='__main__')"


def test_a_readme_without_a_place_for_the_list(tmp_path):
    (tmp_path / "README.md").write_text("nothing", encoding="utf-8")
    with pytest.raises(ValueError, match="has no lines"):
        written(tmp_path)


def test_every_flag_of_the_command_line_is_in_it():
    flags = {flag for action in compress.parser()._actions for flag in action.option_strings}
    rows = option_sections()
    assert not [flag for flag in flags - {"-h", "--help", "--version"} if not re.search(rf"`{flag}\b", rows)]


def test_the_readme_lists_ten_options():
    assert len(MOST_USED) == 10 and set(MOST_USED) <= {option.field for option in options_of(Options)}
    assert most_used().count("\n") == 12


def test_every_key_of_the_schema_is_in_it():
    def keys(part, prefix=""):
        for key, value in part.get("properties", {}).items():
            yield f"{prefix}{key}"
            inner = value.get("anyOf", [value])[0]
            yield from keys(inner, f"{prefix}{key}.")
            yield from keys(inner.get("items", {}), f"{prefix}{key}[].")

    lines = set(re.findall(r"^\| `(\S+)` \|", key_sections(), re.MULTILINE))
    assert lines == {key for part in SCHEMA["$defs"].values() for key in keys(part)}


def test_types_of_keys_read_as_text():
    text = key_sections()
    assert "| `fidelity.verdict` |" not in text, "parts with a name have their own section"
    assert "| `verdict` | `good`, `bad`, `untested` or null |" in text
    assert "| `outputs` | array of [output](#output) | The worst first |" in text
    assert "| `shape` | array of integer or null |" in text
    assert "| `reasons[].status` | `free`, `prune-only`, `project-only`, `frozen` |" in text


def test_links_within_the_page_have_targets():
    text = page()
    titles = {
        re.sub(r"[^\w\- ]", "", title).lower().replace(" ", "-") for title in re.findall(r"^#+ (.*)$", text, re.M)
    }
    assert {link for link in re.findall(r"\(#([^)]*)\)", text)} <= titles


def test_bars_do_not_end_a_cell():
    assert table(("a",), [("b|c",)]) == "| a |\n| --- |\n| b\\|c |\n"
