"""Functions in files that the user names: run as modules that Python knows, whose faults become one line."""

import multiprocessing
import pickle
import sys

import numpy as np
import pytest

from onnx_merge.calibration.load import load_calibration
from onnx_merge.config.user_code import importable, load_user_function, split_function
from onnx_merge.errors import InputError
from onnx_merge.runtime.tensor_info import TensorInfo

pytestmark = pytest.mark.usefixtures("forgets_modules")
VECTOR = [TensorInfo("x", np.dtype(np.float32), ("N", 4))]


def write(path, text):
    path.write_text(text)
    return path


def test_a_dataclass_with_annotations_that_are_strings(tmp_path):
    path = write(
        tmp_path / "annotated.py",
        "from __future__ import annotations\nfrom dataclasses import dataclass\nimport numpy as np\n"
        "@dataclass\nclass Rows:\n    count: int\n"
        "def samples():\n    return np.ones((Rows(5).count, 4), np.float32)\n",
    )
    assert len(load_calibration(f"{path}:samples", VECTOR)) == 5


def test_no_bytecode_is_left_beside_the_file(tmp_path, monkeypatch):
    """Neither of the file nor of what it imports."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    write(tmp_path / "beside.py", "COUNT = 5\n")
    path = write(
        tmp_path / "importing.py",
        "import numpy as np\nfrom beside import COUNT\ndef samples():\n    return np.ones((COUNT, 4), np.float32)\n",
    )
    assert len(load_calibration(f"{path}:samples", VECTOR)) == 5
    assert sorted(file.name for file in tmp_path.iterdir()) == ["beside.py", "importing.py"]
    assert not sys.dont_write_bytecode


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_find_the_module(tmp_path, method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    path = write(
        tmp_path / "with_workers.py",
        "import multiprocessing\nimport numpy as np\n"
        "def row(k):\n    return np.full((1, 4), k, np.float32)\n"
        "def samples():\n"
        f"    with multiprocessing.get_context({method!r}).Pool(1) as pool:\n"
        "        return np.concatenate(pool.map(row, range(3)))\n",
    )
    found = load_calibration(f"{path}:samples", VECTOR)
    assert found.feeds["x"][:, 0].tolist() == [0, 1, 2]


def test_what_a_function_makes_can_be_pickled(tmp_path):
    path = write(tmp_path / "pickled.py", "class Box:\n    pass\ndef make():\n    return Box()\n")
    box = load_user_function(path, "make")()
    assert type(pickle.loads(pickle.dumps(box))) is type(box)


def test_a_module_of_the_same_name_is_left_alone(tmp_path):
    path = write(tmp_path / "pickle.py", "import json\ndef name():\n    return __name__\n")
    assert load_user_function(path, "name")() not in ("pickle", "__main__")
    assert sys.modules["pickle"] is pickle


def test_a_name_that_is_no_identifier(tmp_path):
    path = write(tmp_path / "my metric-2.py", "import sys\ndef known():\n    return sys.modules[__name__].__file__\n")
    assert load_user_function(path, "known")() == str(path)


def test_files_of_one_name_in_two_folders(tmp_path):
    for k in (1, 2):
        (tmp_path / f"{k}").mkdir()
        write(tmp_path / f"{k}" / "same.py", f"def f():\n    return {k}\n")
    assert [load_user_function(tmp_path / f"{k}" / "same.py", "f")() for k in (1, 2, 1)] == [1, 2, 1]


def test_a_file_that_changed_is_run_again(tmp_path):
    path = tmp_path / "changing.py"
    for k in (1, 2):
        write(path, f"def f():\n    return {k}\n" + "#" * k)  # of another size: compiled files are told apart by it
        assert load_user_function(path, "f")() == k


def test_a_file_that_fails_leaves_nothing_behind(tmp_path):
    path = write(tmp_path / "failing.py", "1 / 0\n")
    before = set(sys.modules)
    with pytest.raises(ZeroDivisionError):
        load_user_function(path, "f")
    assert set(sys.modules) == before


def test_the_folder_is_on_the_path_in_the_block_only(tmp_path):
    before = list(sys.path)
    with importable(tmp_path):
        assert sys.path[0] == str(tmp_path)
    assert sys.path == before


def test_what_is_no_function(tmp_path):
    path = write(tmp_path / "empty.py", "x = 1\n")
    with pytest.raises(InputError, match="has no function 'x'"):
        load_user_function(path, "x")
    with pytest.raises(InputError, match="none.py does not exist: check the name"):
        load_user_function(tmp_path / "none.py", "x")


def test_leaving_python_is_a_fault_too(tmp_path):
    """Otherwise a run would end there, with an exit code that says it was done."""
    path = write(tmp_path / "leaves.py", "import sys\ndef samples():\n    sys.exit(0)\n")
    with pytest.raises(InputError, match="samples failed: SystemExit: 0"):
        load_calibration(f"{path}:samples", VECTOR)


def test_how_functions_are_named():
    assert split_function("a/b.py:f") == (split_function("a/b.py:f")[0], "f")
    assert split_function("a/b.py:1") is split_function("a.npz") is split_function("accuracy") is None
