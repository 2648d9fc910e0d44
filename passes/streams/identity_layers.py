"""Writes a linear layer with the identity as its weights where a residual stream begins or ends in fixed channels.

Before:  ... -> LayerNormalization -> y (graph output)
After:   ... -> LayerNormalization -> MatMul(I) -> y

Behind such a layer the stream can be rotated and cut. The layer then projects the channels, with K C weights (Ashkboos
et al., SliceGPT, ICLR 2024, sec. 3.2, puts such matrices between blocks). Linear layers that read the norm too still
read it directly. Layers that are still the identity in the end are taken out again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper
from onnx.helper import tensor_dtype_to_np_dtype

from passes.axes import algebra
from passes.axes.algebra import Atom
from passes.axes.inference import Typing
from passes.graph.kinds import inferred_types
from passes.graph.model import Graph
from passes.graph.nodes import fresh, replace_nodes
from passes.graph.patch import Patch
from passes.streams.residual_streams import Stream, residual_streams
from passes.transforms.cleanup import cleanup
from passes.weights.stored_tensors import array_of

LARGEST_SHARE = 1 / 5
"""Largest share of identity layers among the weights of a stream's layers (`Stream.weights`). Not tuned: the stream
must lose that share of its channels before it saves anything. It is 1/36 at the ends of six blocks, a fifth and a
seventh between the layers of a post-norm transformer, a fourth at the norm of a single MLP."""
TYPES = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
"""Element types of tensors that such a layer can read."""


@dataclass(frozen=True)
class IdentityLayers:
    """``model``: with the layers; ``places``: weights of each layer -> (tensor that it reads, tensor that it makes);
    ``like``: new tensor -> one of its shape."""

    model: onnx.ModelProto
    places: Mapping[str, tuple[str, str]]
    like: Mapping[str, str]


def with_identity_layers(graph: Graph, most: int, without: Collection[str] = ()) -> IdentityLayers:
    """The model of ``graph`` with identity layers at the ends of its streams, but for those of more than ``most``
    channels, and for ends at the tensors ``without``."""
    streams = residual_streams(graph)
    ends, to_layers = _ends(streams, most), {index for stream in streams for index in stream.to_layers}
    wanted = {name: size for name, size in ends.items() if name not in without and name not in graph.captured}
    types = inferred_types(graph.model) if wanted else {}
    patch, places, like = Patch(graph), dict[str, tuple[str, str]](), dict[str, str]()
    taken = {node.name for node in graph.model.graph.node}
    for name, (size, is_end) in wanted.items():
        if types.get(name) not in TYPES:
            continue
        maker = graph.producer.get(name)
        node = maker or min((user for user, _ in graph.users[name]), key=lambda user: user.index)
        weight = patch.add_array(f"{node.label}.projection", np.eye(size, dtype=tensor_dtype_to_np_dtype(types[name])))
        before = maker is not None and name in graph.outputs  # all tensors of the model keep their names but these
        new = graph.fresh_name(f"{name}.{'read' if before else 'written'}")
        read, made = (new, name) if before else (name, new)
        layer = helper.make_node("MatMul", [read, weight], [made], fresh(weight, taken))
        if maker is None:
            patch.insert_before(node, [layer])
        else:
            patch.insert_after(node, [layer], read, maker.outputs.index(name))
        for user, k in graph.users[name]:
            if (is_end or user.index in to_layers) is before:
                patch.reroute(user, k, new)
        places[weight], like[new] = (read, made), name
    return IdentityLayers(patch.apply() if places else graph.model, places, like)


def _ends(streams: Sequence[Stream], most: int) -> dict[str, tuple[int, bool]]:
    """Tensor at an end of a stream -> (channels, whether it is a graph output that the stream goes on behind)."""
    found = dict[str, tuple[int, bool]]()
    beside = Counter(name for stream in streams for name in stream.begins | stream.ends)
    for stream in streams:
        count = sum(1 / beside[name] for name in stream.begins | stream.ends)  # a layer between two streams is of both
        if stream.channels <= most and count * stream.channels**2 <= LARGEST_SHARE * stream.weights:
            found |= dict.fromkeys(sorted(stream.begins), (stream.channels, False))
            found |= dict.fromkeys(sorted(stream.ends), (stream.channels, True))
    return found


def stays_identity(typing: Typing, weight: str, cut: Collection[Atom]) -> bool:
    """Whether ``weight`` is that of an identity layer whose channels are not ``cut``. It is not solved for."""
    if weight not in typing.identities:
        return False
    return not any(atom in cut for term in typing.axes[weight] for atom in algebra.atoms(term))


def drop_identity_layers(model: onnx.ModelProto, weights: Collection[str]) -> None:
    """Remove the layers with ``weights`` that are the identity from ``model``, in place."""
    graph = model.graph
    added = (t for t in graph.initializer if t.name in weights and t.dims[0] == t.dims[1])
    same = {t.name for t in added if np.array_equal(array_of(t), np.eye(t.dims[0]))}
    if not same:
        return
    outputs, renamed = {value.name for value in graph.output}, dict[str, str]()
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in same:
            read, made = node.input[0], node.output[0]
            renamed |= {read: made} if made in outputs else {made: read}
    replace_nodes(graph, [node for node in graph.node if node.op_type != "MatMul" or node.input[1] not in same])
    for node in graph.node:
        for names in (node.input, node.output):
            for k, name in enumerate(names):
                names[k] = renamed.get(name, name)
    cleanup(model)
