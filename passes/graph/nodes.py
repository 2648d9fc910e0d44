"""What nodes of a graph read, and leaving nodes and constants out."""

from __future__ import annotations

from collections.abc import Set

import onnx


def replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    """Let ``graph`` have only ``nodes``, some of its own."""
    if len(nodes) < len(graph.node):
        copies = [onnx.NodeProto() for _ in nodes]
        for copy, node in zip(copies, nodes, strict=True):
            copy.CopyFrom(node)
        del graph.node[:]
        graph.node.extend(copies)


def node_reads(node: onnx.NodeProto) -> set[str]:
    """Every tensor name that a node or a graph inside it reads."""
    read = set(node.input)
    for attribute in node.attribute:
        for inner in (attribute.g, *attribute.graphs) if attribute.HasField("g") or attribute.graphs else ():
            read.update(v.name for v in inner.output)
            read.update(name for n in inner.node for name in node_reads(n))
    return read


def drop_unused_initializers(graph: onnx.GraphProto, kept: Set[str] = frozenset()) -> None:
    """Remove initializers that nothing reads, and the graph inputs that stood for them; those ``kept`` stay."""
    read = {v.name for v in graph.output}.union(*(node_reads(node) for node in graph.node))
    unused = {t.name for t in graph.initializer if t.name not in read | kept}
    if unused:
        for items in (graph.initializer, graph.input):
            for index in reversed([i for i, item in enumerate(items) if item.name in unused]):
                del items[index]


def fresh(stem: str, taken: set[str]) -> str:
    """``stem``, or the first of ``stem_1``, ``stem_2``, ... that is not ``taken``; it is from now on."""
    name, n = stem, 1
    while name in taken:
        name, n = f"{stem}_{n}", n + 1
    taken.add(name)
    return name
