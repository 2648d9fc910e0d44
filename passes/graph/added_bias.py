"""Finds the bias of a matrix product, which exporters write as an Add behind it."""

from __future__ import annotations

from passes.graph.model import Graph, Node


def added_bias(graph: Graph, name: str) -> tuple[Node, int] | None:
    """The Add that alone reads ``name`` and adds one constant for each entry of its last axis, and the index of that
    constant among its inputs. No other node reads the constant."""
    node = graph.only_user(name)
    if node is None or node.op != "Add":
        return None
    k = [*node.inputs].index(name)
    bias = node.inputs[1 - k]
    if bias not in graph.initializers or len(graph.users[bias]) > 1:
        return None
    shape, width = graph.shape(bias) or (), (graph.shape(name) or (0,))[-1]
    return (node, 1 - k) if shape and shape[-1] == width and all(n == 1 for n in shape[:-1]) else None
