"""Find the custom operators of a model, and the libraries that implement them."""

from __future__ import annotations

import importlib
import os
import re
from pathlib import Path

import onnx

from onnx_merge.errors import InputError
from passes.graph.nodes import every_node

KNOWN = {
    *("", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview", "ai.onnx.preview.training"),
    *("com.microsoft", "com.microsoft.nchwc", "com.microsoft.experimental", "com.ms.internal.nhwc", "org.pytorch.aten"),
}
"""Domains whose operators onnxruntime implements."""


def library_path(library: str) -> str:
    """The file of an operator library.

    ``library`` is its path, or the name of a Python package with a function ``get_library_path``, such as
    onnxruntime-extensions.

    Raises
    ------
    InputError: there is no such file or package.
    """
    if Path(library).is_file():
        return os.path.abspath(library)  # without a folder, the loader would search the system's paths
    if not re.fullmatch(r"[A-Za-z_]\w*", library):
        raise InputError(f"the library of --custom-ops {library} does not exist: check the name")
    try:
        return str(importlib.import_module(library).get_library_path())
    except (ImportError, AttributeError, TypeError) as error:
        problem = f"--custom-ops {library} is neither a file nor a package with operators for onnxruntime"
        raise InputError(f"{problem}: {error}") from error


def foreign_operators(model: onnx.ModelProto) -> list[str]:
    """Operators that are neither implemented by onnxruntime nor local functions of the model, without duplicates,
    sorted."""
    functions = {(f.domain, f.name) for f in model.functions}
    found = {
        f"{node.domain}:{node.op_type}"
        for graph in (model.graph, *model.functions)
        for node in every_node(graph.node)
        if node.domain not in KNOWN and (node.domain, node.op_type) not in functions
    }
    return sorted(found)
