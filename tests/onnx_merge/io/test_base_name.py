"""The last part of a path of any operating system."""

import pytest

from onnx_merge.io.base_name import base_name


@pytest.mark.parametrize(("path", "name"), [("a/b\\c.onnx", "c.onnx"), (None, ""), ("folder/m.py:f", "m.py:f")])
def test_the_folder_goes(path, name):
    assert base_name(path) == name
