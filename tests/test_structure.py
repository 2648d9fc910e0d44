"""Imports run one way, onnx_merge -> passes, and folders form no cycle; folders stay small, names name one thing."""

import ast
import functools
import graphlib
import re
from collections import Counter
from dataclasses import fields
from pathlib import Path

import pytest

from onnx_merge.config.definition import options_of
from onnx_merge.config.options import Options
from onnx_merge.errors.option_names import OPTION_NAMES
from passes.samples.calibration_samples import CalibrationSamples
from passes.settings.compress import CompressSettings

ROOT = Path(__file__).parents[1]
FILES = [path for package in ("onnx_merge", "passes") for path in sorted((ROOT / package).rglob("*.py"))]


@functools.cache
def syntax_tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def imports(path):
    """Dotted names of the modules that a file imports, at the top or anywhere in it."""
    package = path.relative_to(ROOT).parent.parts
    found = set()
    for node in ast.walk(syntax_tree(path)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            found.update([module, *(f"{module}.{alias.name}" for alias in node.names)])
    return found


def is_in(module, *packages):
    return any(module == p or module.startswith(f"{p}.") for p in packages)


def is_pass(module):
    return module != "passes" and is_in(module, "passes")


def offenders(under, forbidden):
    files = [path for path in FILES if path.is_relative_to(ROOT / under)]
    assert files, f"no file under {under}"
    return [f"{path.relative_to(ROOT)}: {m}" for path in files for m in sorted(imports(path)) if forbidden(path, m)]


def test_passes_do_not_know_the_application():
    assert not offenders("passes", lambda path, m: is_in(m, "onnx_merge"))


def test_numerics_import_no_pass():
    assert not offenders("passes/numerics", lambda path, m: is_pass(m) and not is_in(m, "passes.numerics"))


def test_numerics_do_not_know_onnx():
    assert not offenders("passes/numerics", lambda path, m: is_in(m, "onnx", "onnx_graphsurgeon", "onnxruntime"))


@pytest.mark.parametrize("package", ["onnx_merge", "passes"])
def test_only_the_runtime_runs_models(package):
    def forbidden(path, module):
        return is_in(module, "onnxruntime") and path.parent != ROOT / "onnx_merge" / "runtime"

    assert not offenders(package, forbidden)


def folder_of(module):
    """The folder of a module, or of a folder itself; None where it is neither."""
    path = ROOT.joinpath(*module.split("."))
    if path.is_dir():
        return module
    return module.rpartition(".")[0] if path.with_suffix(".py").is_file() else None


def test_folders_form_no_cycle():
    edges = {}
    for path in FILES:
        own = ".".join(path.relative_to(ROOT).parent.parts)
        edges.setdefault(own, set()).update(
            folder for m in imports(path) if (folder := folder_of(m)) and folder != own and "." in folder
        )
    graphlib.TopologicalSorter(edges).prepare()


def test_the_architecture_page_lists_every_folder():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    listed, package = set(), ""
    for indent, name in re.findall(r"^( {4,6})([\w/]+/)(?= |$)", text, re.MULTILINE):
        package = name if len(indent) == 4 else package
        listed.add(package if len(indent) == 4 else package + name)
    folders = {path.parent for path in FILES}
    assert listed == {f"{folder.relative_to(ROOT)}/" for folder in folders}


def test_no_folder_holds_more_than_18_files():
    folders = {path.parent for package in ("onnx_merge", "passes", "tests") for path in (ROOT / package).rglob("*.py")}
    counts = {str(folder.relative_to(ROOT)): len(list(folder.glob("*.py"))) for folder in folders}
    assert not {folder: count for folder, count in counts.items() if count > 18}


def test_no_two_classes_share_a_name():
    names = Counter(
        node.name for path in FILES for node in ast.walk(syntax_tree(path)) if isinstance(node, ast.ClassDef)
    )
    assert not [name for name, count in names.items() if count > 1]


COMMANDS = {"main", "run", "render"}
"""What the module of each command calls its entry points alike."""


def test_no_two_public_functions_share_a_name():
    """Those of modules. Methods are told apart by their class."""
    names = Counter(
        node.name
        for path in FILES
        for node in syntax_tree(path).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    )
    assert {name for name, count in names.items() if count > 1} == COMMANDS


def messages_of(path):
    """The string literals of a file, and the literal parts of its f-strings, without docstrings and remarks."""
    tree = syntax_tree(path)
    remarks = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in remarks]
    return [node.value for node in constants if isinstance(node.value, str)]


@functools.cache
def messages_of_passes():
    """(file, literal), read by the first test that asks: where tests are shared out, one process runs them."""
    return [(path, text) for path in FILES if path.is_relative_to(ROOT / "passes") for text in messages_of(path)]


def test_passes_do_not_know_the_command_line():
    assert not [(path, text) for path, text in messages_of_passes() if re.search("--[a-z]", text)]


def test_each_setting_that_a_message_names_has_an_option():
    named = {name for _, text in messages_of_passes() for name in re.findall(r"`(\w+)`", text)}
    settings = {field.name for owner in (CompressSettings, CalibrationSamples) for field in fields(owner)}
    assert named == set(OPTION_NAMES) and named <= settings
    assert set(OPTION_NAMES.values()) <= {flag for option in options_of(Options) for flag in option.flags}


def test_every_module_says_what_it_is_for():
    assert not [path for path in FILES if not ast.get_docstring(syntax_tree(path))]


WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
VAGUE = re.compile(
    "absorb(ed)?|astray|bent|dear|enough|free|further|knowledge|nothing|pieces?|slow|spent|told|turns?|views?|widen(ed)?"
)
"""Words that say too little to name anything."""


def test_names_are_standard_terms():
    """Those of modules, classes, functions and constants."""
    names = [(path, path.stem) for path in FILES]
    for path in FILES:
        for node in ast.walk(syntax_tree(path)):
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                names.append((path, node.name))
            elif isinstance(node, ast.Name) and node.id.isupper():
                names.append((path, node.id))
    vague = [(path, name) for path, name in names if any(VAGUE.fullmatch(w.lower()) for w in WORD.findall(name))]
    assert not vague


def test_relative_imports_are_resolved(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    path = tmp_path / "passes" / "graph" / "a.py"
    path.parent.mkdir(parents=True)
    path.write_text("from . import b\nfrom .. import c\ndef f():\n    import onnxruntime.capi\n", encoding="utf-8")
    expected = {"passes.graph", "passes.graph.b", "passes", "passes.c", "onnxruntime.capi"}
    assert imports(path) == expected
