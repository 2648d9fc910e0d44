"""Weights that sessions read from files in place: they are not copied, and the operating system may take them back.

onnxruntime maps external data itself, but packs matrices into copies of its own. Where weights are stored, it does not
pack: the copies would be as large as the weights, and every session would have its own.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from onnx_merge.runtime.onnxruntime_import import onnxruntime
from passes.weights.stored_tensors import array_of, is_stored, place_of

FOLDER = "session.model_external_initializers_file_folder_path"
PLAIN = frozenset(map(np.dtype, ("float16", "float32", "float64", "int8", "uint8")))
"""Types that onnxruntime takes as arrays. It maps the others itself."""


@dataclass(frozen=True, eq=False)
class StoredWeights:
    """``content``: the bytes of a model that names its weights by paths below ``folder``. ``values``: their arrays;
    ``size``: their bytes."""

    content: bytes
    folder: str
    values: dict[str, Any]
    size: int

    def give_to(self, options: Any, on_cpu: bool) -> None:
        """Set the ``options`` of a session that runs the model. ``on_cpu``: whether the pages serve as they are."""
        options.add_session_config_entry(FOLDER, self.folder)
        options.add_session_config_entry("session.disable_prepacking", "1")
        if on_cpu:
            for name, value in self.values.items():
                options.add_initializer(name, value)


def stored_weights(model: onnx.ModelProto) -> StoredWeights | None:
    """The stored weights of ``model``; None if it has none."""
    stored = [tensor for tensor in model.graph.initializer if is_stored(tensor)]
    if not stored:
        return None
    folder = os.path.commonpath([os.path.dirname(place_of(tensor).path) for tensor in stored])
    named = onnx.ModelProto()
    named.CopyFrom(model)
    values: dict[str, Any] = {}
    for tensor in named.graph.initializer:
        if is_stored(tensor):
            place, array = place_of(tensor), array_of(tensor)
            if array.dtype in PLAIN:
                values[tensor.name] = onnxruntime().OrtValue.ortvalue_from_numpy(array)
            tensor.external_data[0].value = Path(place.path).relative_to(folder).as_posix()
    return StoredWeights(named.SerializeToString(), folder, values, sum(place_of(tensor).length for tensor in stored))
