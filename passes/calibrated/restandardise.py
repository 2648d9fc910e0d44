"""What BatchNormalization remembers of the training data, put to use on samples that are not like it.

Each norm recorded the mean and variance of its input over the training data. While synthetic samples go through, every
norm standardises by *their* mean and variance instead: its output then has the mean and spread that the data had,
whatever the samples (the same statistics that data-free distillation matches: Yin et al., DeepInversion, CVPR 2020).

`restandardised` gives the folded weights of that network. They differ from the model's own by an affine map of each
output channel, which `transfer` undoes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx
from onnx import helper, numpy_helper

from passes.calibrated.layers import solvable_layers
from passes.fold_batchnorm import fold_batchnorm
from passes.graph.engine import Engine
from passes.graph.errors import RunError
from passes.graph.infer import Typing
from passes.graph.model import Array, Graph
from passes.graph.shapes import Shape
from passes.numerics.arrays import has_rows
from passes.shrink import Solution

SAMPLES = 2
"""Samples below which a batch has no statistics."""


def restandardised(
    before: Graph, typing: Typing, feeds: Sequence[Mapping[str, Array]], engine: Engine, most: int = 256
) -> Typing | None:
    """``typing`` with the weights of the network that standardises by the samples; nothing where no norm can.

    ``before`` is the model with its BatchNormalization, ``typing`` that of the folded one; ``most``: samples that go
    through together.
    """
    norms = [n for n in before.nodes if n.op == "BatchNormalization" and not n.attrs.get("training_mode", 0)]
    norms = [n for n in norms if all(name in before.initializers for name in n.inputs[3:5])]
    used = feeds[: max(1, most // max(1, samples_in(feeds[0])))]
    joined = {
        name: np.concatenate([f[name] for f in used])[:most] if has_rows(feeds[0][name]) else feeds[0][name]
        for name in feeds[0]
    }
    if not norms or samples_in(joined) < SAMPLES:
        return None
    model = onnx.ModelProto()
    model.CopyFrom(before.model)
    taken: dict[int, list[onnx.NodeProto]] = {}
    for node in norms:
        rank = len(before.shape(node.inputs[0]) or ())
        if rank < 2 or before.shape(node.inputs[0]) is None:
            return None
        shape = before.shape(node.inputs[3]) or ()
        taken[node.index] = _standardising(before.model.graph.node[node.index], rank, before.opset, shape)
    nodes = [n for i, old in enumerate(before.model.graph.node) for n in taken.get(i, [old])]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    del model.graph.output[:]
    names = [f"{node.outputs[0]}.{what}" for node in norms for what in ("mean", "variance")]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    del model.graph.value_info[:]
    _free_batch(model)
    try:
        found = engine(model)(joined)
    except RunError:  # a Reshape that names the batch, say
        return None
    arrays: dict[str, Array] = {}
    for node in norms:
        for name, what in zip(node.inputs[3:5], ("mean", "variance"), strict=True):
            old = before.array(name)
            arrays[name] = found[f"{node.outputs[0]}.{what}"].reshape(old.shape).astype(old.dtype)
    folded = fold_batchnorm(before.with_arrays(arrays)).model
    return replace(
        typing, graph=typing.graph.with_arrays({t.name: numpy_helper.to_array(t) for t in folded.graph.initializer})
    )


def samples_in(feed: Mapping[str, Array]) -> int:
    """Samples of a batch."""
    return next((len(a) for a in feed.values() if has_rows(a)), 1)


def _free_batch(model: onnx.ModelProto) -> None:
    for value in (*model.graph.input,):
        kind = value.type.tensor_type
        if kind.HasField("shape") and len(kind.shape.dim):
            kind.shape.dim[0].ClearField("dim_value")


def _standardising(node: onnx.NodeProto, rank: int, opset: int, own: Shape) -> list[onnx.NodeProto]:
    """The norm as arithmetic on its batch; its statistics are `OUTPUT.mean` and `OUTPUT.variance`.

    ``own``: shape of its parameters: (C,), or with spatial=0 also the axes behind.
    """
    x, scale, bias, out = node.input[0], node.input[1], node.input[2], node.output[0]
    epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
    axes = [d for d in range(rank) if not 1 <= d <= len(own)]
    names = {
        k: f"{out}.{k}"
        for k in (
            "mean",
            "rest",
            "square",
            "variance",
            "epsilon",
            "sum",
            "std",
            "unit",
            "scale",
            "bias",
            "scaled",
            "shape",
            "axes",
        )
    }
    constant = [
        helper.make_node(
            "Constant", [], [names["epsilon"]], value=numpy_helper.from_array(np.array(epsilon, np.float32))
        ),
        helper.make_node(
            "Constant",
            [],
            [names["shape"]],
            value=numpy_helper.from_array(np.array([1, *own] + [1] * (rank - 1 - len(own)), np.int64)),
        ),
        helper.make_node("Constant", [], [names["axes"]], value=numpy_helper.from_array(np.array(axes, np.int64))),
    ]

    def mean(source: str, target: str) -> onnx.NodeProto:
        if opset >= 18:
            return helper.make_node("ReduceMean", [source, names["axes"]], [target], keepdims=1)
        return helper.make_node("ReduceMean", [source], [target], axes=axes, keepdims=1)

    return [
        *constant,
        mean(x, names["mean"]),
        helper.make_node("Sub", [x, names["mean"]], [names["rest"]]),
        helper.make_node("Mul", [names["rest"], names["rest"]], [names["square"]]),
        mean(names["square"], names["variance"]),
        helper.make_node("Add", [names["variance"], names["epsilon"]], [names["sum"]]),
        helper.make_node("Sqrt", [names["sum"]], [names["std"]]),
        helper.make_node("Div", [names["rest"], names["std"]], [names["unit"]]),
        helper.make_node("Reshape", [scale, names["shape"]], [names["scale"]]),
        helper.make_node("Reshape", [bias, names["shape"]], [names["bias"]]),
        helper.make_node("Mul", [names["unit"], names["scale"]], [names["scaled"]]),
        helper.make_node("Add", [names["scaled"], names["bias"]], [out]),
    ]


def transfer(solution: Solution, source: Typing, target: Typing) -> Solution:
    """A solution for the weights of ``source`` as one for those of ``target``, an affine map of them.

    With W_t = r W_s on each output channel, new weights become r W', a new bias b' becomes r b' + (b_t - r b_s).
    """
    weights, biases = dict(solution.weights), dict(solution.biases)
    for layer in solvable_layers(target).values():
        if layer.weight not in weights:
            continue
        out = layer.weight_axes[0]
        ours, theirs = (np.moveaxis(t.graph.array(layer.weight), out, 0).astype(np.float64) for t in (target, source))
        ours, theirs = (w.reshape(len(w), -1) for w in (ours, theirs))
        power = (theirs * theirs).sum(axis=1)
        ratio = np.divide((ours * theirs).sum(axis=1), power, out=np.ones(len(power)), where=power > 0)
        new = weights[layer.weight]
        weights[layer.weight] = (new * ratio.reshape([-1 if d == out else 1 for d in range(new.ndim)])).astype(
            new.dtype
        )
        if layer.shift is not None:
            node, k = layer.shift
            place = (node.outputs[0], k)
            given = node.inputs[k] if len(node.inputs) > k else ""
            b_t, b_s = ((t.graph.array(given).astype(np.float64) if given else 0.0) for t in (target, source))
            value = biases[place]
            biases[place] = (
                (ratio * value.ravel() + np.ravel(b_t) - ratio * np.ravel(b_s)).reshape(value.shape).astype(value.dtype)
            )
    return Solution(weights, biases, solution.errors, solution.widths, solution.unrefined)
