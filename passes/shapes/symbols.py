"""Finds dims that depend on a dynamic dim, by symbolic shape inference (onnx-shape-inference, SymPy expressions).

Runs at a few assignments show which dims differ between them. Only its expression shows that a dim never varies:
min(H, 48) is 48 at all tried sizes, if these are large.
"""

from __future__ import annotations

import functools
import itertools
import logging
import re
from collections.abc import Callable, Mapping
from typing import Any

import onnx

from passes.shapes.constants import STANDARD_DOMAINS

CUT = "cut"
"""Prefix of the symbols that stand for the lengths of slices; symbols of input dims have other names."""
RATIO = re.compile(r"/\([^()]*(\([^()]*\))*[^()]*[a-z]")
"""A division by an expression of symbols."""
_numbers = itertools.count()


Place = tuple[str, int]
"""(tensor, axis)."""

BATCHED = frozenset(
    ("Conv", "ConvTranspose", "Gemm", "Flatten", "BatchNormalization", "Dropout", "Identity", "Constant")
    + ("MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
    + ("Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Clip", "Softplus")
    + ("Softsign", "Gelu", "Erf", "Exp", "Sqrt", "Abs", "Neg", "Softmax", "LogSoftmax", "Add", "Sub", "Mul", "Div")
)
"""Ops whose outputs' sizes are multiples of the batch, or do not depend on it, where the batch is the only symbol."""


def runs_suffice(model: onnx.ModelProto, shapes: Mapping[str, tuple[int | str, ...]]) -> bool:
    """Whether runs at two batch sizes show every dim that varies, without symbolic inference: only first dims of inputs
    are dynamic, and no op cuts a size off."""
    if any(isinstance(dim, str) for dims in shapes.values() for dim in dims[1:]):
        return False
    return all(node.op_type in BATCHED and node.domain in STANDARD_DOMAINS for node in model.graph.node)


def symbolic_dims(
    skeleton: onnx.ModelProto, shapes: Mapping[str, tuple[int | str, ...]]
) -> tuple[set[Place], set[Place]]:
    """Return the dims in the main graph that depend on a symbol, and those that the library cannot determine.

    ``skeleton``: the model without large weights. ``shapes``: of its inputs, with symbols as dynamic dims. Both
    results are empty if the library fails.
    """
    model = onnx.ModelProto()
    model.CopyFrom(skeleton)
    symbols: dict[int | str, str] = {}
    for value in model.graph.input:
        dims = shapes.get(value.name)
        if dims is not None:
            del value.type.tensor_type.shape.dim[:]
            for dim in dims:
                if isinstance(dim, str):  # names in files need not be identifiers: "?", "p2o.DynamicDimension.0"
                    value.type.tensor_type.shape.dim.add(dim_param=symbols.setdefault(dim, f"s{len(symbols)}"))
                else:
                    value.type.tensor_type.shape.dim.add(dim_value=dim)
    known = set(symbols.values())
    found = [(name, axis, named) for name, dims in _library()(model).items() for axis, named in enumerate(dims)]
    depending = {(n, k) for n, k, named in found if any(s in known or s.startswith(CUT) for s in named)}
    return depending, {(n, k) for n, k, named in found if named} - depending


@functools.cache
def _library() -> Callable[[onnx.ModelProto], dict[str, list[frozenset[str]]]]:
    """Return a function: model -> the symbols in each dim of each tensor. The library is imported on first use, which
    takes half a second."""
    import onnx_ir as ir
    from onnx_shape_inference import infer_symbolic_shapes, registry

    registry.collect()
    whole = registry.get("", "Slice", version=13)

    def slice_that_may_end_early(context: Any, node: ir.Node) -> None:
        """Infer the length of a slice that may end early.

        The library infers 48 rows for a slice of the first 48 of H rows, whatever H is.
        """
        whole(context, node)
        before, after = node.inputs[0], node.outputs[0]
        if before is not None and before.shape is not None and after.shape is not None:
            after.shape = ir.Shape(
                ir.SymbolicDim(f"{CUT}{next(_numbers)}") if isinstance(new, int) and not isinstance(old, int) else new
                for old, new in zip(before.shape, after.shape, strict=True)
            )

    if whole is not None:
        registry.register("", "Slice", since_version=10)(slice_that_may_end_early)

    def infer(model: onnx.ModelProto) -> dict[str, list[frozenset[str]]]:
        logger = logging.getLogger("onnx_shape_inference")
        level = logger.level
        logger.setLevel(logging.CRITICAL)
        try:
            inferred = infer_symbolic_shapes(ir.from_proto(model), warn_on_missing=False, adopt_declared_symbols=False)
        except Exception:  # noqa: BLE001 - the library itself may fail; only the runs are used then
            return {}
        finally:
            logger.setLevel(level)

        def symbols_in(dim: Any) -> frozenset[str]:
            """The symbols in ``dim``. The size that a Reshape leaves open is a ratio, in which they may cancel."""
            if not isinstance(dim, ir.SymbolicDim):
                return frozenset()
            left = dim.simplify() if RATIO.search(str(dim)) else dim
            return left.free_symbols() if isinstance(left, ir.SymbolicDim) else frozenset()

        return {
            value.name: [symbols_in(dim) for dim in value.shape]
            for node in inferred.graph
            for value in node.outputs
            if value.name and value.shape is not None
        }

    return infer
