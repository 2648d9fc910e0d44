"""Settings of new sessions in a block: threads, and the libraries of operators that they load."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any

from onnx_merge.errors import InputError
from onnx_merge.runtime.custom_operators import library_path
from onnx_merge.runtime.onnxruntime_import import onnxruntime, runtime_line

SILENT = 4
"""onnxruntime's log level "fatal": errors are raised, not printed."""

_limit: ContextVar[int | None] = ContextVar("threads", default=None)
_libraries: ContextVar[tuple[str, ...]] = ContextVar("libraries", default=())


@contextlib.contextmanager
def threads_limited(threads: int | None) -> Iterator[None]:
    """In the block, new sessions have this many threads within an operator, unless they are given another number."""
    token = _limit.set(threads)
    try:
        yield
    finally:
        _limit.reset(token)


def thread_limit() -> int | None:
    """Number of threads that the enclosing `threads_limited` sets; None without a limit."""
    return _limit.get()


@contextlib.contextmanager
def custom_operators(libraries: Sequence[str]) -> Iterator[None]:
    """In the block, new sessions load the operators of ``libraries``; see `library_path`.

    Raises
    ------
    InputError: one of them is not an operator library.
    """
    token = _libraries.set(tuple(map(library_path, libraries)))
    try:
        for path in _libraries.get():
            try:
                onnxruntime().SessionOptions().register_custom_ops_library(path)
            except Exception as error:
                problem = f"{path} of --custom-ops is no library of operators that onnxruntime can load"
                raise InputError(f"{problem}: {runtime_line(error)}") from error
        yield
    finally:
        _libraries.reset(token)


def session_options(threads: int | None) -> Any:
    """onnxruntime's options with the settings of the block, and ``threads`` within an operator if given."""
    options = onnxruntime().SessionOptions()
    options.log_severity_level = SILENT
    options.intra_op_num_threads = threads or _limit.get() or 0
    for library in _libraries.get():
        options.register_custom_ops_library(library)
    return options
