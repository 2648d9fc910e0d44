"""Makes a batch of fixed size one dynamic, so that several samples run together.

Exports often fix the batch, though nothing in the network depends on it but the targets of its reshapes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from passes.graph.model import Array, Graph
from passes.interface.engine import Engine
from passes.interface.errors import RunError
from passes.numerics.arrays import has_rows

TOLERANCE = 1e-3
"""Largest difference between a sample that runs alone and in a batch, relative to the largest value. Not tuned: far
above rounding, and far below what another sample would change."""


def clear_batch(values: Iterable[onnx.ValueInfoProto]) -> None:
    """Leave the size of the first axis of inputs or outputs open."""
    for value in values:
        kind = value.type.tensor_type
        if kind.HasField("shape") and len(kind.shape.dim):
            kind.shape.dim[0].ClearField("dim_value")


def with_dynamic_batch(graph: Graph, feeds: Sequence[Mapping[str, Array]], engine: Engine) -> onnx.ModelProto | None:
    """The model of ``graph`` with a dynamic batch, None if its samples then depend on each other.

    ``feeds``: at least two batches of one sample each, on which that is tried.
    """
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    clear_batch(value for value in model.graph.input if value.name not in graph.initializers)
    clear_batch(model.graph.output)
    del model.graph.value_info[:]
    for index, node in enumerate(model.graph.node):
        if node.op_type == "Reshape" and node.domain == "" and len(node.input) > 1 and graph.knows(node.input[1]):
            target = np.array(graph.array(node.input[1]))
            zero_is_size = any(attribute.name == "allowzero" and attribute.i for attribute in node.attribute)
            if target.size and target[0] == 1 and not zero_is_size:
                target[0] = 0  # as many as the data has
                name = f"{node.input[1]}.dynamic.{index}"
                model.graph.initializer.append(numpy_helper.from_array(target, name))
                node.input[1] = name
    return model if _samples_are_apart(model, graph, feeds[:2], engine) else None


def _samples_are_apart(
    model: onnx.ModelProto, graph: Graph, feeds: Sequence[Mapping[str, Array]], engine: Engine
) -> bool:
    """Whether the two samples ``feeds`` answer together as each alone, at the outputs and the norms of ``graph``."""
    norms = [node.inputs[0] for node in graph.nodes if node.op == "BatchNormalization"]
    observed = onnx.ModelProto()
    observed.CopyFrom(model)
    del observed.graph.output[:]
    names = [*dict.fromkeys([*graph.outputs, *norms])]
    observed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in graph.inputs)
    both = {n: np.concatenate([feed[n] for feed in feeds]) if has_rows(a) else a for n, a in feeds[0].items()}
    try:
        run = engine(observed)
        together, alone = run(both), [run(feed) for feed in feeds]
    except RunError:
        return False
    for name, value in together.items():
        values, apart = np.asarray(value), [np.asarray(found[name]) for found in alone]
        if any(one.shape[:1] != (1,) for one in apart) or values.shape != (2, *apart[0].shape[1:]):
            return False
        largest = float(np.abs(values).max(initial=0))
        if not np.allclose(values, np.concatenate(apart), rtol=0, atol=TOLERANCE * largest):
            return False
    return True
