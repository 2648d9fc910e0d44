"""Load the input model from a path or from memory."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import onnx

from onnx_merge.errors import InputError
from onnx_merge.io.checker import check_valid, checker_line
from onnx_merge.io.contents import check_tensors, check_text, check_types
from onnx_merge.io.hashes import sha256_of_files
from onnx_merge.io.load import external_tensors, load_model
from onnx_merge.io.node_order import node_order, sort_main_graph
from onnx_merge.io.sample_axis import SampleAxis
from onnx_merge.io.save import needs_external_data

Model = str | os.PathLike[str] | onnx.ModelProto


@dataclass(frozen=True, slots=True)
class FileInfo:
    """The path and hash of a model file; both are None if there is no file."""

    path: str | None
    sha256: str | None
    """SHA-256 of the .onnx file without external data; for a model in memory, of its serialised bytes."""


@dataclass(frozen=True, eq=False)
class Source:
    """The checked input model.

    ``size`` is its number of bytes on disk, None for a model in memory. ``files`` hold its external data.
    """

    model: onnx.ModelProto
    info: FileInfo
    size: int | None = None
    files: tuple[Path, ...] = ()
    data_sha256: str | None = None
    """SHA-256 of the concatenated bytes of ``files``, in the order of their names; None if there are none."""
    axis: SampleAxis | None = None
    """The axis of samples that ``model`` was given, if each run takes one sample; see `onnx_merge.whole_runs`."""

    def as_written(self, result: onnx.ModelProto) -> onnx.ModelProto:
        """``result`` of ``model`` in the form of the input."""
        return result if self.axis is None else self.axis.removed(result)

    def as_run(self, written: onnx.ModelProto) -> onnx.ModelProto:
        """``written``, in the form of the input, in that of ``model``."""
        return written if self.axis is None else self.axis.added(written)


def load_source(model: Model) -> Source:
    """Load and check a model.

    Raises
    ------
    InputError: the model cannot be read or is invalid.
    """
    if not isinstance(model, onnx.ModelProto):
        loaded = load_model(model)
        files = loaded.external_files
        data = sha256_of_files(files) if files else None
        return Source(loaded.model, FileInfo(str(loaded.path), loaded.sha256), loaded.size, files, data)
    try:
        check_text(model)
        if node_order(model) is not None:
            unsorted = model
            model = onnx.ModelProto()
            model.CopyFrom(unsorted)
            sort_main_graph(model)
        if external_tensors(model):
            raise InputError("the model's tensors are in other files: give the path of the model instead")
        check_types(model)
        check_tensors(model)
        if needs_external_data(model):  # too large to be serialised
            return Source(model, FileInfo(None, None))
        content = model.SerializeToString()
        check_valid(content)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise InputError(f"the model is not valid: {checker_line(error)}") from error
    return Source(model, FileInfo(None, hashlib.sha256(content).hexdigest()))
