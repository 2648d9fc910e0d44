"""Sorts the nodes of a model, as runtimes do that take them in any order."""

from __future__ import annotations

import onnx

from passes.graph.nodes import node_reads


def sort_main_graph(model: onnx.ModelProto) -> bool:
    """Put every node of the main graph behind those whose outputs it reads, in place; see `node_order`.

    Returns whether anything moved.
    """
    order = node_order(model)
    if order is None:
        return False
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(nodes[index] for index in order)
    return True


def node_order(model: onnx.ModelProto) -> list[int] | None:
    """The indices of the main graph's nodes, each behind those whose outputs it reads, and else as they are.

    None if they are in such an order, or if some read their own outputs in a circle, which the checker refuses.
    """
    nodes = list(model.graph.node)
    makers = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    before = [{makers[name] for name in node_reads(node) if name in makers} for node in nodes]
    if all(made < index for index, needed in enumerate(before) for made in needed):
        return None
    order: list[int] = []
    placed: set[int] = set()
    waiting: dict[int, list[int]] = {}
    for start in range(len(nodes)):
        ready = [start]
        while ready:
            index = ready.pop()
            missing = next((made for made in sorted(before[index]) if made not in placed), None)
            if missing is not None:
                waiting.setdefault(missing, []).append(index)
            elif index not in placed:
                order.append(index)
                placed.add(index)
                ready += reversed(waiting.pop(index, []))
    return order if len(order) == len(nodes) else None
