"""A model that tells the shapes of its tensors and gives nothing else, so that a run holds no more than it has to."""

from __future__ import annotations

import onnx
from onnx import helper

SEQUENCES = {"SequenceConstruct", "SequenceEmpty", "SequenceInsert", "SequenceErase", "SequenceMap", "SplitToSequence"}
"""Ops whose outputs have no shape; so have those of `Optional` and `ZipMap`, and control flow may."""
SHAPELESS = SEQUENCES | {"Optional", "ZipMap", "If", "Loop", "Scan", "SequenceAt"}


def telling_shapes(model: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    """A copy of ``model`` that gives the shapes of tensors ``names``, by `shape_name`, and nothing else."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.output[:]
    for name in names:
        result.graph.node.append(helper.make_node("Shape", [name], [shape_name(name)]))
        result.graph.output.append(onnx.ValueInfoProto(name=shape_name(name)))
    return result


def shape_name(name: str) -> str:
    """What the shape of tensor ``name`` is called."""
    return f"{name}.shape.told"
