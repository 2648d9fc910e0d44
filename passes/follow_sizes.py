"""Integers that name the size of an axis follow it: Reshape targets, Split sizes, Slice bounds, `group`, ...

Constant targets change only where they name a size that changed; `-1` and `0` already follow. Computed targets become
constants, or keep their computed value at dynamic positions. A number that the graph computes from a shape for any
other purpose (the square root of a width, say) is pinned to what it was.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from passes.graph import terms
from passes.graph.infer import Typing, shape_reads
from passes.graph.model import Graph, Node
from passes.graph.op import Resize
from passes.graph.patch import Patch
from passes.graph.terms import Atom
from passes.project import Indices, kept_indices, kept_size

FOLLOWING = {"Reshape": (0, -1), "Expand": (1,)}
"""Entries of a constant target that take their size from elsewhere, by op."""


def follow_sizes(typing: Typing, keep: Mapping[Atom, Indices], patch: Patch) -> None:
    """Record in ``patch`` every integer that must change when each atom keeps the given indices."""
    resized: set[tuple[int, int]] = set()
    for flow, resize in typing.resizes:
        old = [e if isinstance(e, int) else terms.size(e) for e in resize.entries]
        new = [e if isinstance(e, int) else kept_size(e, keep) for e in resize.entries]
        node = flow.record.node
        if (
            new == old and node.op != "Slice" and not _moved(typing, keep, node, resize)
        ):  # a bound that counts from the end moves with what is behind it
            continue
        if isinstance(resize.target, str) and resize.pinned is not None:
            patch.set_attribute(node, resize.target, resize.pinned)
        elif isinstance(resize.target, str):
            patch.set_attribute(node, resize.target, new[0] if resize.scalar else new)
        else:
            resized.add((node.index, resize.target))
            _resize_input(typing.graph, node, resize, new, patch)
    _pin(typing, keep, resized, patch)


def _moved(typing: Typing, keep: Mapping[Atom, Indices], node: Node, resize: Resize) -> bool:
    """Whether the target is computed from sizes that change."""
    if isinstance(resize.target, str) or resize.target >= len(node.inputs):
        return False
    origins = typing.graph.info.origins.get(node.inputs[resize.target], ())
    return any(a in keep for origin in origins for term in typing.axes[origin] for a in terms.atoms(term))


def _resize_input(graph: Graph, node: Node, resize: Resize, new: list[int], patch: Patch) -> None:
    k = int(resize.target)
    name = node.inputs[k] if k < len(node.inputs) else ""
    target = np.array(new, np.int64)
    if name in graph.initializers:
        given = graph.array(name).ravel()
        target = np.where(np.isin(given, FOLLOWING.get(node.op, ())), given, target).astype(given.dtype)
        patch.set_input_array(node, k, target.reshape(graph.array(name).shape))
    elif not resize.dynamic:
        patch.set_input_array(node, k, target)
    elif len(resize.dynamic) == 1 and node.op == "Reshape":
        target[next(iter(resize.dynamic))] = -1
        patch.set_input_array(node, k, target)
    else:
        mask = np.array([i in resize.dynamic for i in range(len(new))])
        stem = f"{node.label}.target"
        mask_name, target_name = patch.add_array(f"{stem}_mask", mask), patch.add_array(f"{stem}_fixed", target)
        mixed = graph.fresh_name(stem)
        patch.insert_before(node, [onnx.helper.make_node("Where", [mask_name, name, target_name], [mixed], mixed)])
        patch.reroute(node, k, mixed)
    if node.op == "Split":
        patch.set_attribute(node, "num_outputs", None)


def _pin(typing: Typing, keep: Mapping[Atom, Indices], resized: set[tuple[int, int]], patch: Patch) -> None:
    for node, k, name in shape_reads(typing, resized):
        origins = typing.graph.info.origins[name]
        if any(a in keep for origin in origins for term in typing.axes[origin] for a in terms.atoms(term)):
            value = typing.graph.info.values[name]
            for axis, term in enumerate(typing.axes[name]):
                value = np.take(value, kept_indices(term, keep), axis)
            patch.set_input_array(node, k, value)
