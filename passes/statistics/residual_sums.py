"""Finds the sums behind a Concat that a layer's output goes into, beside a tensor that was computed before.

In a residual block whose branch is a Concat of several layers' outputs, s = x + Concat(y1, y2, ...), the error of x can
be corrected by the layers that give y1, y2, ..., each in its own part of the channels.
"""

from __future__ import annotations

from dataclasses import dataclass

from passes.axes.op_facts import Joins
from passes.axes.registry import facts_of
from passes.graph.model import Graph, Node


@dataclass(frozen=True)
class ConcatenatedAddend:
    """``name``: the tensor that is added; ``before``: the tensors that stand before the layer's output on ``axis`` of
    the Concat, so that they say which part of the channels is the layer's."""

    name: str
    before: tuple[str, ...]
    axis: int


def concatenated_addends(graph: Graph, layer: Node, result: str, axis: int) -> tuple[ConcatenatedAddend, ...]:
    """The addends of the sum that alone reads a Concat along ``axis`` of ``result``, the output of ``layer`` or the sum
    that this output goes into.

    What else reads ``result`` has to be sums that later layers go into: these are solved with what ``result`` is then.
    """
    shape = graph.shape(result)
    if not shape or result in graph.outputs or result in graph.captured:
        return ()
    users = {user.index: user for user, _ in graph.users[result]}.values()
    joins = [user for user in users if facts_of(user.domain, user.op).joins is Joins.CONCATENATION]
    rest = [user for user in users if user not in joins]
    if len(joins) != 1 or not all(_is_later(graph, user, layer, result) for user in rest):
        return ()
    (joined,) = joins
    along = int(joined.attrs.get("axis", 1)) % len(shape)
    made = joined.outputs[0]
    if (
        along != axis % len(shape)
        or list(joined.inputs).count(result) != 1
        or made in (*graph.outputs, *graph.captured)
    ):
        return ()
    before = tuple(joined.inputs[: list(joined.inputs).index(result)])
    sums = graph.users[made]
    if len(sums) != 1 or facts_of(sums[0][0].domain, sums[0][0].op).joins is not Joins.SUM:
        return ()
    others = [name for name in sums[0][0].inputs if name != made]
    if any(name in graph.constants or graph.shape(name) != graph.shape(made) for name in others):
        return ()
    return tuple(ConcatenatedAddend(name, before, along) for name in others)


def _is_later(graph: Graph, user: Node, layer: Node, result: str) -> bool:
    """Whether ``user`` is a sum of ``result`` with tensors that are computed after ``layer``."""
    if facts_of(user.domain, user.op).joins is not Joins.SUM:
        return False
    makers = [graph.producer.get(name) for name in user.inputs if name != result]
    return all(maker is not None and maker.index > layer.index for maker in makers)
