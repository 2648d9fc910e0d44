"""Find inputs whose values decide the sizes of tensors, such as the height and width that a Resize makes.

Values that are made up for them seldom fit, at any size of the other inputs.
"""

from __future__ import annotations

import onnx

from passes.axes.registry import facts_of
from passes.shapes.arithmetic import PLAIN
from passes.shapes.constants import STANDARD_DOMAINS


def size_inputs(model: onnx.ModelProto) -> list[str]:
    """Numbers and lists of a fixed length among the inputs of which an operator of the main graph takes a size,
    directly or behind the arithmetic that exporters use."""
    constants = {t.name for t in model.graph.initializer}
    given = [v.name for v in model.graph.input if v.name not in constants and _is_list(v)]
    behind: dict[str, frozenset[str]] = {name: frozenset([name]) for name in given}
    found: set[str] = set()
    for node in model.graph.node:
        if node.domain not in STANDARD_DOMAINS:
            continue
        read = [behind.get(name, frozenset()) for name in node.input]
        found.update(*(read[k] for k in facts_of(node.domain, node.op_type).sizing if k < len(read)))
        if node.op_type in PLAIN and any(read):
            behind |= dict.fromkeys(node.output, frozenset().union(*read))
    return [name for name in given if name in found]


def fixing(model: onnx.ModelProto) -> str:
    """The remedy where made-up values of such inputs do not fit; empty if the model has none."""
    names = size_inputs(model)
    if not names:
        return ""
    options = " ".join(f"--fix-input {name}=..." for name in names)
    return f"the values of {', '.join(names)} decide sizes, and made-up ones may not fit: give them with {options}"


def _is_list(value: onnx.ValueInfoProto) -> bool:
    kind = value.type.tensor_type
    dims = kind.shape.dim
    return kind.HasField("shape") and len(dims) < 2 and all(d.HasField("dim_value") for d in dims)
