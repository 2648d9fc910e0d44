"""Restores the full width around a node whose filter slides along the channel axis.

The input is expanded to full width before the node, and the kept channels are selected behind it.

    Before:  y = Conv(x)                                  x, y: N 1 C
    After:   y = Gather(Conv(Gather(x, at) * mask), keep)  x, y: N 1 K;  removed channels are zero

Such nodes are gates that look at neighbouring channels (*ECA-Net*, Wang et al., CVPR 2020, eq. 5). Cutting their input
would give the filter other neighbours. Their tensors have one number for each channel, so the additional ops cost
almost nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx

from passes.axes import algebra
from passes.axes.algebra import Atom
from passes.axes.index_maps import Indices, kept_indices
from passes.axes.inference import Typing
from passes.graph.model import Node
from passes.graph.patch import Patch


def restore_width(typing: Typing, keep: Mapping[Atom, Indices], patch: Patch, twin: bool) -> None:
    """Restore the full width around every such node of which an axis shrinks. In the twin, only set zeros."""
    for flow in typing.flows:
        slid = {a for term in flow.record.slid for a in algebra.atoms(term)} & keep.keys()
        node = flow.record.node
        axes = typing.axes[node.inputs[0]] if slid else []
        for axis, term in enumerate(axes):
            if slid & {*algebra.atoms(term)}:
                kept = kept_indices(term, keep)
                if not twin:
                    _detour(patch, node, axis, kept, algebra.size(term))
                mask = np.zeros(algebra.size(term), _precision(typing, node))
                mask[kept] = 1
                patch.multiply_input(node, 0, mask.reshape([-1 if d == axis else 1 for d in range(len(axes))]))


def _detour(patch: Patch, node: Node, axis: int, kept: Indices, width: int) -> None:
    position = np.zeros(width, np.int64)
    position[kept] = np.arange(len(kept))
    (source, result), fresh = (node.inputs[0], node.outputs[0]), patch.graph.fresh_name
    wide, whole = fresh(f"{result}.wide"), fresh(f"{result}.whole")
    spread, pick = (
        patch.add_array(f"{result}.spread", position),
        patch.add_array(f"{result}.pick", kept.astype(np.int64)),
    )
    patch.insert_before(node, [onnx.helper.make_node("Gather", [source, spread], [wide], wide, axis=axis)])
    patch.reroute(node, 0, wide)
    patch.insert_after(node, [onnx.helper.make_node("Gather", [whole, pick], [result], whole, axis=axis)], whole)


def _precision(typing: Typing, node: Node) -> np.dtype[Any]:
    """The element type in which the node computes: that of its weights, whether constant or computed."""
    graph, name = typing.graph, node.inputs[1]
    while not graph.knows(name):
        maker = graph.producer.get(name)
        if maker is not None and maker.op == "Cast":
            return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(maker.attrs["to"]))
        if maker is None or not maker.inputs:
            return np.dtype(np.float32)
        name = maker.inputs[1 if maker.op == "DequantizeLinear" else 0]
    return graph.array(name).dtype
