"""Builds a model that outputs the shapes of its tensors and nothing else, which keeps the memory of a run small."""

from __future__ import annotations

import onnx
from onnx import helper

SEQUENCES = {"SequenceConstruct", "SequenceEmpty", "SequenceInsert", "SequenceErase", "SequenceMap", "SplitToSequence"}
"""Ops on sequences, whose outputs have no shape. `Optional`, `ZipMap` and control flow may have such outputs too."""
SHAPELESS = SEQUENCES | {"Optional", "ZipMap", "If", "Loop", "Scan", "SequenceAt"}


def with_shape_outputs(model: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    """Return a copy of ``model`` whose only outputs are the shapes of the tensors ``names``, named by `shape_name`.

    Declared shapes of inner tensors are left out: runtimes believe them, and they are false where a batch was made
    dynamic after the export.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.output[:]
    del result.graph.value_info[:]
    for name in names:
        result.graph.node.append(helper.make_node("Shape", [name], [shape_name(name)]))
        result.graph.output.append(onnx.ValueInfoProto(name=shape_name(name)))
    return result


def shape_name(name: str) -> str:
    """Return the name of the output that holds the shape of tensor ``name``."""
    return f"{name}.shape.probe"
