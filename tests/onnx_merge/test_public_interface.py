"""Every public name is there, and stands in the program that mypy checks."""

import ast
import configparser
from pathlib import Path

import onnx_merge

ROOT = Path(__file__).parents[2]
PROGRAM = Path("tests/onnx_merge/support/typed_user.py")


def test_all_names_resolve():
    assert all(getattr(onnx_merge, name) is not None for name in onnx_merge.__all__)
    assert set(onnx_merge.__all__) <= set(dir(onnx_merge))


def test_the_typed_program_uses_all():
    tree = ast.parse((ROOT / PROGRAM).read_text(encoding="utf-8"))
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert set(onnx_merge.__all__) <= used


def test_mypy_checks_it_and_the_examples():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    files = [name.strip() for name in setup["mypy"]["files"].split(",")]
    assert str(PROGRAM) in files and "examples/compress.py" in files and all((ROOT / name).exists() for name in files)
