"""Refuse a model whose inputs alone do not fit into memory, before anything of their size is allocated."""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx

from onnx_merge.errors import InputError
from onnx_merge.inputs.dimensions import symbol
from onnx_merge.inputs.feeds import Sizes

LIBRARIES = 500 * 10**6
"""Bytes that Python and the libraries take beside the memory limit. An input that fits into them does no harm."""


def check_input_memory(model: onnx.ModelProto, sizes: Sizes, memory: int, remedy: str = "") -> None:
    """Refuse the model if one of its inputs takes more than ``memory`` bytes at its declared and given sizes.

    Dimensions of which neither is known count as one. ``sizes``: those that the user gave, see `resolve_shapes`.
    ``remedy``: ends the message.

    Raises
    ------
    InputError: an input is too large; the message names it and its largest dimension.
    """
    defaults = {t.name for t in model.graph.initializer}
    for value in model.graph.input:
        kind = value.type.tensor_type
        if value.name in defaults or not kind.elem_type:
            continue
        try:
            width = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).itemsize
        except (KeyError, TypeError):  # texts, and types that NumPy does not have
            width = 1
        shape = _known(value.name, kind.shape.dim, sizes)
        taken = math.prod(shape) * width
        if taken > memory + LIBRARIES:
            axis = max(range(len(shape)), key=lambda a: shape[a])
            raise InputError(
                f"input {value.name!r} has size {shape[axis]} along axis {axis}: one run would take "
                f"{taken / 1e9:,.0f} GB for this input alone; check the file{remedy}"
            )


def _known(name: str, dims: Sequence[onnx.TensorShapeProto.Dimension], sizes: Sizes) -> list[int]:
    given = sizes.get(name)
    whole = given if isinstance(given, Sequence) and len(given) == len(dims) else [1] * len(dims)
    found = []
    for dim, size in zip(dims, whole, strict=True):
        named = sizes.get(symbol(dim.dim_param) or "", size)
        found.append(max(1, dim.dim_value) if dim.HasField("dim_value") else named if isinstance(named, int) else size)
    return found
