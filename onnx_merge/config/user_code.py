"""Loads functions of the user from a file that an option names as ``FILE.py:FUNCTION``."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from onnx_merge.errors import InputError, OnnxMergeError, UserCodeError

_ours: dict[str, ModuleType] = {}
"""Modules loaded by this file, by their name in `sys.modules`."""


def split_function(source: str) -> tuple[Path, str] | None:
    """Split ``path/module.py:function`` into (file, function); None if ``source`` does not have that form."""
    path, _, name = source.rpartition(":")
    return (Path(path), name) if path.lower().endswith(".py") and name.isidentifier() else None


def load_user_function(path: Path, name: str) -> Callable[..., Any]:
    """Run the file ``path`` as a module in `sys.modules` and return its function ``name``.

    Dataclasses look their module up in `sys.modules`, and so does pickle for objects sent to worker processes.
    Exceptions of the file are passed on: see `reported`.

    Raises
    ------
    InputError: there is no such file or function.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist: check the name")
    with importable(path.parent):
        label = _module_name(path)
        spec = importlib.util.spec_from_file_location(label, path)
        assert spec is not None and spec.loader is not None  # a file with this suffix has both
        module = importlib.util.module_from_spec(spec)
        before = sys.modules.get(label)
        sys.modules[label] = _ours[label] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[label], _ours[label]
            if before is not None:
                sys.modules[label] = _ours[label] = before
            raise
    function: object = getattr(module, name, None)
    if not callable(function):
        raise InputError(f"{path} has no function {name!r}")
    return function


def _module_name(path: Path) -> str:
    """Return the file's own name, by which worker processes can import it, or another one if that is in use already."""
    name, file = path.stem, path.resolve()
    known = sys.modules.get(name)
    if name.isidentifier() and (known is None or known is _ours.get(name)):
        with contextlib.suppress(ImportError, ValueError):
            found = None if known is not None else importlib.util.find_spec(name)
            origin = getattr(known, "__file__", None) if found is None else found.origin
            if origin is not None and Path(origin).resolve() == file:
                return name
    return f"_onnx_merge_{hashlib.sha256(str(file).encode()).hexdigest()[:12]}"


@contextlib.contextmanager
def reported(where: str, every: bool = False) -> Iterator[None]:
    """Convert every exception of user code in the block, including SystemExit, to an error of one line.

    ``every``: errors of this package are converted too, because they do not say where they were called.

    Raises
    ------
    UserCodeError: the code raised an exception.
    """
    try:
        yield
    except OnnxMergeError as error:
        if every:
            raise UserCodeError(f"{where} failed: {error}") from error
        raise
    except (Exception, SystemExit) as error:
        raise UserCodeError(f"{where} failed: {type(error).__name__}: {error}") from error


@contextlib.contextmanager
def importable(folder: Path) -> Iterator[None]:
    """In the block, modules in ``folder`` can be imported. No bytecode is left there."""
    entry, before = str(folder.resolve()), sys.dont_write_bytecode
    sys.path.insert(0, entry)
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before
        with contextlib.suppress(ValueError):
            sys.path.remove(entry)
