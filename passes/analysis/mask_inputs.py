"""Find inputs that are masks in which ones leave places out, as PyTorch's ``key_padding_mask``.

A mask is followed through the ops that pass it on, or turn it round, to where very negative numbers take the place of
scores, or are added to them. The numbers show what a one means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx
from onnx import numpy_helper

from passes.axes.op_facts import Moves
from passes.axes.registry import facts_of
from passes.graph.nodes import every_node
from passes.shapes.constants import constant_tensor
from passes.shapes.tuning import SHAPES

Ones = dict[str, bool]
"""Input -> whether ones of a tensor stand for ones of the input, not for its zeros."""
PASSING = {*Moves} - {Moves.QUANTISED}
"""How ops pass masks and constants on."""
LEAVING_OUT = -100.0
"""Scores below this are those of places that a mask leaves out. Not tuned: exporters write -10,000 and less, or
infinity."""
CHOICE = 3
"""Number of inputs of Where: a condition, and values where it is true and where it is not."""


def masks_of_left_out(model: onnx.ModelProto) -> list[str]:
    """Masks among the inputs whose ones, or true values, say which places to leave out."""
    constants = {t.name for t in model.graph.initializer}
    masks = {v.name: {v.name: True} for v in model.graph.input if v.name not in constants and _may_be_mask(v)}
    if not masks:
        return []
    follower = _MaskFollower(masks, {t.name: top for t in model.graph.initializer if (top := _least(t)) is not None})
    for node in every_node(model.graph.node):
        follower.node(node)
    return [name for name in masks.copy() if follower.votes.get(name, 0) > 0]


def _may_be_mask(value: onnx.ValueInfoProto) -> bool:
    kind = value.type.tensor_type.elem_type
    integer = kind in (onnx.TensorProto.INT32, onnx.TensorProto.INT64)
    return kind == onnx.TensorProto.BOOL or (integer and "mask" in value.name.lower())


class _MaskFollower:
    """``masks``: the inputs that each tensor stands for. ``least``: minimum of each small constant. ``votes``: input ->
    number of places where ones leave something out, less those where zeros do."""

    def __init__(self, masks: Mapping[str, Ones], least: Mapping[str, float]) -> None:
        self.masks, self.least = dict(masks), dict(least)
        self.votes: dict[str, int] = {}

    def node(self, node: onnx.NodeProto) -> None:
        """Follow the masks through one node, or count what it does with them."""
        held = constant_tensor(node)
        given = [name for name in node.input if name in self.masks]
        values = [self.least[name] for name in node.input if name in self.least]
        first = node.input[0] if node.input else ""
        if held is not None:
            self._note(node.output[0], _least(held))
        elif node.op_type == "ConstantOfShape":
            self._note(node.output[0], next((_least(a.t) for a in node.attribute if a.name == "value"), 0.0))
        elif node.op_type == "Where" and first in self.masks and len(node.input) == CHOICE:
            self._choice(node)
        elif node.op_type in ("And", "Or", "Max", "Min"):
            for name in given:
                self._pass(name, node.output, True)
        elif node.op_type == "Mul" and given and values:
            if min(values) <= LEAVING_OUT:
                self._vote(given[0], 1)
            else:
                self._pass(given[0], node.output, True)
        elif given and (turned := _turned(node, given[0], values)) is not None:
            self._pass(given[0], node.output, not turned)
        elif facts_of(node.domain, node.op_type).moves in PASSING:
            if first in self.masks:
                self._pass(first, node.output, True)
            elif first in self.least:
                self._note(node.output[0], self.least[first])

    def _choice(self, node: onnx.NodeProto) -> None:
        """Count a choice between scores, or zeros to be added to them, and very negative numbers."""
        low = [self.least.get(name, 0.0) <= LEAVING_OUT for name in node.input[1:]]
        if low[0] != low[1]:
            self._vote(node.input[0], 1 if low[0] else -1)

    def _note(self, name: str, least: float | None) -> None:
        if least is not None:
            self.least[name] = least

    def _pass(self, name: str, outputs: Sequence[str], same: bool) -> None:
        ones = {source: positive == same for source, positive in self.masks[name].items()}
        for output in outputs:
            self.masks[output] = self.masks.get(output, {}) | ones

    def _vote(self, name: str, amount: int) -> None:
        for source, positive in self.masks[name].items():
            self.votes[source] = self.votes.get(source, 0) + (amount if positive else -amount)


def _turned(node: onnx.NodeProto, mask: str, values: Sequence[float]) -> bool | None:
    """Whether the node gives ones where the mask has zeros; None if it does neither that nor the contrary."""
    if node.op_type == "Not":
        return True
    if not values:
        return None
    if node.op_type == "Sub" and node.input[1] == mask:  # 1 - mask
        return True
    if node.op_type == "Equal":
        return values[0] == 0
    if node.op_type == "Greater" and node.input[0] == mask:
        return False
    return True if node.op_type == "Less" and node.input[0] == mask else None


def _least(tensor: onnx.TensorProto) -> float | None:
    """The minimum of a small constant; None if there is none."""
    size = 1
    for dim in tensor.dims:
        size *= dim
    held = tensor.data_location != onnx.TensorProto.EXTERNAL and tensor.data_type != onnx.TensorProto.STRING
    if not held or not 0 < size <= SHAPES.evaluated_elements:
        return None
    values = numpy_helper.to_array(tensor)
    return float(values.min()) if values.dtype.kind in "biuf" else float(values.astype("f4").min())
