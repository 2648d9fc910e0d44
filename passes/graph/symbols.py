"""Which dims depend on a dynamic one, by symbolic shape inference (onnx-shape-inference, expressions of SymPy).

Runs at a few assignments of sizes show which dims differ between them; that one which does not differ never will is
shown by its expression only: min(H, 48) is 48 at all sizes tried, if these were large.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping
from typing import Any

import onnx
import onnx_ir as ir
from onnx_shape_inference import infer_symbolic_shapes, registry

_slice = registry.get("", "Slice", version=13)
CUT = "cut"
"""First letters of the symbols that stand for the lengths of slices; those of inputs' dims are others."""
_numbers = itertools.count()


@registry.register("", "Slice", since_version=10)
def _slice_that_may_end_early(context: Any, node: ir.Node) -> None:
    """The library takes a slice of the first 48 of H rows for 48 rows, whatever H is."""
    assert _slice is not None  # it has been registered with the library's import
    _slice(context, node)
    before, after = node.inputs[0], node.outputs[0]
    if before is None or before.shape is None or after.shape is None:
        return
    dims = [
        ir.SymbolicDim(f"{CUT}{next(_numbers)}") if isinstance(new, int) and not isinstance(old, int) else new
        for old, new in zip(before.shape, after.shape, strict=True)
    ]
    after.shape = ir.Shape(dims)


def symbolic_dims(skeleton: onnx.ModelProto, shapes: Mapping[str, tuple[int | str, ...]]) -> set[tuple[str, int]]:
    """(tensor, axis) of each dim in the main graph that depends on a symbol.

    ``skeleton``: the model without large weights; ``shapes``: of its inputs, dynamic dims as a symbol. Dims that the
    library does not find are not among the results; nor is any where it fails.
    """
    model = onnx.ModelProto()
    model.CopyFrom(skeleton)
    symbols: dict[int | str, str] = {}
    for value in model.graph.input:
        dims = shapes.get(value.name)
        if dims is not None:
            del value.type.tensor_type.shape.dim[:]
            for dim in dims:
                if isinstance(dim, str):  # names of files are no identifiers: "?", "p2o.DynamicDimension.0"
                    value.type.tensor_type.shape.dim.add(dim_param=symbols.setdefault(dim, f"s{len(symbols)}"))
                else:
                    value.type.tensor_type.shape.dim.add(dim_value=dim)
    logger = logging.getLogger("onnx_shape_inference")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        inferred = infer_symbolic_shapes(ir.from_proto(model), warn_on_missing=False, adopt_declared_symbols=False)
    except Exception:  # noqa: BLE001 - the library's own failures: the runs stand alone then
        return set()
    finally:
        logger.setLevel(level)
    known = set(symbols.values())
    values = [output for node in inferred.graph for output in node.outputs]
    return {
        (value.name, axis)
        for value in values
        if value.name and value.shape is not None
        for axis, dim in enumerate(value.shape)
        if isinstance(dim, ir.SymbolicDim) and any(s in known or s.startswith(CUT) for s in dim.free_symbols())
    }
