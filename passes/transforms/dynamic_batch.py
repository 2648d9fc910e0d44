"""Frees a batch of fixed size one, so that several samples run together.

Exports often fix the batch, though nothing in the network depends on it but the targets of its reshapes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from passes.graph.model import Array, Graph
from passes.interface.engine import Engine
from passes.interface.errors import RunError
from passes.numerics.arrays import has_rows

TOLERANCE = 1e-3
"""Largest difference between a sample that runs alone and in a batch, relative to the largest value."""


def with_dynamic_batch(graph: Graph, feeds: Sequence[Mapping[str, Array]], engine: Engine) -> onnx.ModelProto | None:
    """The model of ``graph`` with a dynamic batch, None if its samples then depend on each other.

    ``feeds``: at least two batches of one sample each, on which that is tried.
    """
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    for value in (*model.graph.input, *model.graph.output):
        kind = value.type.tensor_type
        if kind.HasField("shape") and len(kind.shape.dim) and value.name not in graph.initializers:
            kind.shape.dim[0].Clear()
    del model.graph.value_info[:]
    for index, node in enumerate(model.graph.node):
        if node.op_type == "Reshape" and node.domain == "" and len(node.input) > 1 and graph.knows(node.input[1]):
            target = np.array(graph.array(node.input[1]))
            kept = any(attribute.name == "allowzero" and attribute.i for attribute in node.attribute)
            if target.size and target[0] == 1 and not kept:
                target[0] = 0  # as many as there are
                name = f"{node.input[1]}.free.{index}"
                model.graph.initializer.append(numpy_helper.from_array(target, name))
                node.input[1] = name
    outputs = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in model.graph.output]
    norms = [node.inputs[0] for node in graph.nodes if node.op == "BatchNormalization"]
    del model.graph.output[:]
    names = [*dict.fromkeys([*graph.outputs, *norms])]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in graph.inputs)
    try:
        run = engine(model)
        together = run(
            {n: np.concatenate([f[n] for f in feeds[:2]]) if has_rows(a) else a for n, a in feeds[0].items()}
        )
        alone = [run(feed) for feed in feeds[:2]]
    except RunError:
        return None
    for name, values in together.items():
        apart = [np.asarray(found[name]) for found in alone]
        values = np.asarray(values)
        if any(one.shape[:1] != (1,) for one in apart) or values.shape != (2, *apart[0].shape[1:]):
            return None
        if not np.allclose(
            values, np.concatenate(apart), rtol=0, atol=TOLERANCE * float(np.abs(values).max(initial=0))
        ):
            return None
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    return model
