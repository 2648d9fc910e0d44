"""Parses the nodes of a model with onnx-graphsurgeon: attributes, unique labels, and tensors that subgraphs capture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
import onnx_graphsurgeon as gs


@dataclass(frozen=True, eq=False, slots=True)
class Node:
    """A node of the main graph. ``index``: its position in the protobuf. Absent inputs and outputs are ``""``."""

    index: int
    op: str
    domain: str
    label: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Any]
    captures: frozenset[str]
    """Tensors of the main graph that the node's subgraphs read."""


def parse_nodes(model: onnx.ModelProto) -> list[Node]:
    """Parse the nodes of the main graph with onnx-graphsurgeon, from a copy without weights."""
    bare = onnx.ModelProto(ir_version=model.ir_version)
    bare.opset_import.extend(model.opset_import)
    bare.graph.name = model.graph.name
    bare.graph.node.extend(model.graph.node)
    for node in bare.graph.node:
        binary = [a for a in node.attribute if not _is_text(a)]
        for attribute in binary:  # binary attributes of custom ops, such as compiled engines
            node.attribute.remove(attribute)
    gs.logger.G_LOGGER.severity = gs.logger.G_LOGGER.CRITICAL
    parsed = gs.import_onnx(bare)
    labels = _labels(bare.graph.node)
    nodes: list[Node] = []
    for index, node in enumerate(parsed.nodes):
        inner = [a for a in node.attrs.values() if isinstance(a, gs.Graph)]
        nodes.append(
            Node(
                index=index,
                op=node.op,
                domain="" if node.domain in (None, "ai.onnx") else node.domain,  # both are names of the standard domain
                label=labels[index],
                inputs=tuple(t.name for t in node.inputs),
                outputs=tuple(t.name for t in node.outputs),
                attrs=node.attrs,
                captures=frozenset().union(*(_captures(g) for g in inner)),
            )
        )
    return nodes


def _labels(nodes: Sequence[onnx.NodeProto]) -> list[str]:
    """Return a unique label for each node: its name, or the name of its first output if it has none.

    Names need not be unique, and a node may be named like a tensor. If two nodes would have one label, nodes with a
    name add their first output in brackets, and nodes without a name add their operator.
    """
    firsts = [next((name for name in node.output if name), f"{node.op_type}_{k}") for k, node in enumerate(nodes)]
    names = Counter(node.name for node in nodes if node.name)
    found: list[str] = []
    for node, first in zip(nodes, firsts, strict=True):
        if node.name:
            found.append(node.name if names[node.name] == 1 else f"{node.name} ({first})")
        else:
            found.append(first if first not in names else f"{first} ({node.op_type})")
    return numbered(found)


def numbered(names: Iterable[str]) -> list[str]:
    """Return ``names`` made unique: repetitions get a number."""
    result: dict[str, None] = {}
    for name in names:
        new, n = name, 1
        while new in result:
            n += 1
            new = f"{name} #{n}"
        result[new] = None
    return list(result)


def read_lazy(value: object) -> None:
    """Read tensors in attributes. onnx-graphsurgeon keeps protobuf containers for them, which cannot be pickled."""
    if isinstance(value, gs.Constant):
        _ = value.values
    elif isinstance(value, gs.Graph):
        for tensor in value.tensors().values():
            read_lazy(tensor)
        for node in value.nodes:
            for inner in node.attrs.values():
                read_lazy(inner)


def _is_text(attribute: onnx.AttributeProto) -> bool:
    try:
        return all(isinstance(s.decode(), str) for s in (attribute.s, *attribute.strings))
    except UnicodeDecodeError:
        return False


def _captures(graph: gs.Graph) -> frozenset[str]:
    """Return the names that ``graph`` and its subgraphs read but do not define."""
    read: set[str] = {t.name for t in graph.outputs}
    for node in graph.nodes:
        read.update(t.name for t in node.inputs)
        for attribute in node.attrs.values():
            if isinstance(attribute, gs.Graph):
                read |= _captures(attribute)
    defined = {t.name for node in graph.nodes for t in node.outputs} | {t.name for t in graph.inputs}
    defined |= {name for name, t in graph.tensors().items() if isinstance(t, gs.Constant)}
    return frozenset(read - defined - {""})
