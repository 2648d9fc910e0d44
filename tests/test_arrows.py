"""Imports run one way: onnx_merge -> passes -> passes.graph, passes.numerics."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [path for package in ("onnx_merge", "passes") for path in sorted((ROOT / package).rglob("*.py"))]


def imports(path):
    """Dotted names of the modules that a file imports, at the top or anywhere in it."""
    package = path.relative_to(ROOT).parent.parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
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


def test_numerics_do_not_know_onnx_or_graphs():
    barred = ("onnx", "onnx_graphsurgeon", "onnxruntime", "onnx_merge", "passes.graph")
    assert not offenders("passes/numerics", lambda path, m: is_in(m, *barred))


def test_numerics_import_no_pass():
    assert not offenders("passes/numerics", lambda path, m: is_pass(m) and not is_in(m, "passes.numerics"))


def test_the_graph_imports_no_pass():
    rooms = ("passes.graph", "passes.numerics")
    assert not offenders("passes/graph", lambda path, m: is_pass(m) and not is_in(m, *rooms))


@pytest.mark.parametrize("package", ["onnx_merge", "passes"])
def test_only_the_runtime_runs_models(package):
    def forbidden(path, module):
        allowed = path.parent == ROOT / "onnx_merge" and path.name.startswith("runtime")
        return is_in(module, "onnxruntime") and not allowed

    assert not offenders(package, forbidden)


def test_relative_imports_are_resolved(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    path = tmp_path / "passes" / "graph" / "a.py"
    path.parent.mkdir(parents=True)
    path.write_text("from . import b\nfrom .. import c\ndef f():\n    import onnxruntime.capi\n", encoding="utf-8")
    expected = {"passes.graph", "passes.graph.b", "passes", "passes.c", "onnxruntime.capi"}
    assert imports(path) == expected
