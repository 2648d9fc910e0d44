"""Makes the helpers in `support` importable, and a folder to work in."""

import sys
from pathlib import Path

import onnx
import pytest

sys.path.append(str(Path(__file__).parent / "support"))
from smallnet import network  # noqa: E402


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder with a sound model ``in.onnx``, and the current one."""
    onnx.save(network(), tmp_path / "in.onnx")
    monkeypatch.chdir(tmp_path)
    return tmp_path
