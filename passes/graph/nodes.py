"""Lists the tensors and subgraphs of nodes, sorts nodes, and removes nodes and constants from a graph."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Set

import onnx


def replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    """Replace the nodes of ``graph`` by ``nodes``, a subset of them."""
    if len(nodes) < len(graph.node):
        set_nodes(graph, nodes)


def set_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    """Make ``nodes`` the nodes of ``graph``."""
    copies = [onnx.NodeProto() for _ in nodes]
    for copy, node in zip(copies, nodes, strict=True):
        copy.CopyFrom(node)
    del graph.node[:]
    graph.node.extend(copies)


def node_reads(node: onnx.NodeProto) -> set[str]:
    """Return every tensor name that a node and its subgraphs read."""
    read = set(node.input)
    for inner in subgraphs(node):
        read.update(v.name for v in inner.output)
        read.update(name for n in inner.node for name in node_reads(n))
    return read


def readers_of(nodes: Iterable[onnx.NodeProto]) -> dict[str, list[onnx.NodeProto]]:
    """Return tensor -> those of ``nodes`` that have it as an input, once for each such input, in order."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in nodes:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    return readers


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Put each node of ``graph`` behind those whose outputs it or its subgraphs read; else their order stays.

    Raises
    ------
    ValueError: the nodes read each other in a circle.
    """
    maker = {name: k for k, node in enumerate(graph.node) for name in node.output if name}
    reads = [{maker[name] for name in node_reads(node) if name in maker} for node in graph.node]
    readers: list[list[int]] = [[] for _ in reads]
    for k, before in enumerate(reads):
        for each in before:
            readers[each].append(k)
    missing = [len(before) for before in reads]
    ready = [k for k, count in enumerate(missing) if not count]
    order = list[int]()
    while ready:
        order.append(heapq.heappop(ready))
        for k in readers[order[-1]]:
            missing[k] -= 1
            if not missing[k]:
                heapq.heappush(ready, k)
    if len(order) < len(reads):
        raise ValueError("the nodes of the graph read each other in a circle")
    if order != sorted(order):
        set_nodes(graph, [graph.node[k] for k in order])


def drop_unused_initializers(graph: onnx.GraphProto, kept: Set[str] = frozenset()) -> None:
    """Remove initializers that no node reads, and graph inputs of the same name; those in ``kept`` stay."""
    read = {v.name for v in graph.output}.union(*(node_reads(node) for node in graph.node))
    unused = {t.name for t in graph.initializer if t.name not in read | kept}
    if unused:
        for items in (graph.initializer, graph.input):
            for index in reversed([i for i, item in enumerate(items) if item.name in unused]):
                del items[index]


def fresh(stem: str, taken: set[str]) -> str:
    """Return the first of ``stem``, ``stem_1``, ``stem_2``, ... that is not in ``taken``, and add it to ``taken``."""
    name, n = stem, 1
    while name in taken:
        name, n = f"{stem}_{n}", n + 1
    taken.add(name)
    return name


def subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """Return the graphs in a node's attributes."""
    return [g for a in node.attribute for g in (*((a.g,) if a.HasField("g") else ()), *a.graphs)]


def every_node(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Yield ``nodes``, each followed by those of its subgraphs."""
    for node in nodes:
        yield node
        for inner in subgraphs(node):
            yield from every_node(inner.node)


def names_in(graph: onnx.GraphProto) -> Iterator[str]:
    """Yield every tensor name that ``graph`` and its subgraphs read or define."""
    yield from (v.name for v in (*graph.input, *graph.output, *graph.initializer))
    yield from (t.values.name for t in graph.sparse_initializer)
    for node in graph.node:
        yield from (*node.input, *node.output)
        for inner in subgraphs(node):
            yield from names_in(inner)


def rename_tensors(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Rename the tensors of ``graph`` that are keys of ``names``, wherever it or its subgraphs name them."""
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = names.get(value.name, value.name)
    for sparse in graph.sparse_initializer:
        sparse.values.name = names.get(sparse.values.name, sparse.values.name)
    for node in graph.node:
        for side in (node.input, node.output):
            side[:] = [names.get(n, n) for n in side]
        for inner in subgraphs(node):
            rename_tensors(inner, names)
