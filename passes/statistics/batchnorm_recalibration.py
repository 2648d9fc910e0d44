"""Recalibrates BatchNormalization to samples that differ from the training data.

Each norm recorded the mean and variance of its input over the training data. On synthetic samples every norm
standardises by the mean and variance of *these samples* instead. Its output then has the mean and variance that it had
on the training data, whatever the samples are. Data-free distillation matches the same statistics (Yin et al.,
DeepInversion, CVPR 2020).

`restandardised` returns the folded weights of that network. They differ from the model's own weights by an affine map
of each output channel. `transfer_solution` inverts this map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx import helper, numpy_helper

from passes.axes.inference import Typing
from passes.graph.model import Array, Graph
from passes.interface.engine import Engine
from passes.interface.errors import RunError
from passes.numerics.arrays import rows_between, samples_in, samples_joined
from passes.settings.tuning import TUNING
from passes.shapes.inference import Shape
from passes.statistics.weighted_layers import weighted_layers
from passes.surgery.apply_plan import Solution
from passes.transforms.fold_batchnorm import fold_batchnorm
from passes.weights.stored_tensors import array_of

OTHERS = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE)
"""Types other than float32 that norms compute in."""
HALF_MAX = float(np.finfo(np.float16).max)
"""The largest float16 number. The variance of float16 numbers may exceed it."""


def restandardised(
    before: Graph, typing: Typing, feeds: Sequence[Mapping[str, Array]], engine: Engine, most: int = 256
) -> Typing | None:
    """``typing`` with the weights of the network that standardises by the samples. None where the model has no norm.

    ``before``: the model with its BatchNormalization; ``typing``: of the folded model; ``most``: the largest number of
    samples in one batch.

    Raises
    ------
    RunError: the norms cannot standardise by the samples; the message gives the reason.
    """
    norms = [n for n in before.nodes if n.op == "BatchNormalization" and not n.attrs.get("training_mode", 0)]
    norms = [n for n in norms if all(name in before.initializers for name in n.inputs[3:5])]
    if not norms:
        return None
    used = feeds[: max(1, most // max(1, samples_in(feeds[0])))]
    joined = rows_between(samples_joined(used), 0, most)
    if samples_in(joined) < TUNING.statistics.fewest_batch_samples:
        raise RunError("no two samples fit `memory` together")
    casts = _casts(before)
    model = onnx.ModelProto()
    model.CopyFrom(before.model)
    taken: dict[int, list[onnx.NodeProto]] = {}
    for node in norms:
        rank = len(before.shape(node.inputs[0]) or ())
        if rank < 2:
            raise RunError(f"the shape of what {node.label} reads is unknown")
        shape = before.shape(node.inputs[3]) or ()
        kind = before.initializers[node.inputs[1]].data_type if node.inputs[1] in before.initializers else 0
        types = _WorkingTypes(kind, before.opset) if casts else None
        taken[node.index] = _standardising(before.model.graph.node[node.index], rank, before.opset, shape, types)
    nodes = [n for i, old in enumerate(before.model.graph.node) for n in taken.get(i, [old])]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    del model.graph.output[:]
    names = [f"{node.outputs[0]}.{what}" for node in norms for what in ("mean", "variance")]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    del model.graph.value_info[:]
    _make_batch_dynamic(model)
    found = engine(model)(joined)  # may fail, for example at a Reshape with a fixed batch
    arrays: dict[str, Array] = {}
    for node in norms:
        for name, what in zip(node.inputs[3:5], ("mean", "variance"), strict=True):
            old = before.array(name)
            arrays[name] = found[f"{node.outputs[0]}.{what}"].reshape(old.shape)
            if old.dtype == np.float16:
                arrays[name] = arrays[name].clip(-HALF_MAX, HALF_MAX)
            arrays[name] = arrays[name].astype(old.dtype)
    folded = fold_batchnorm(before.with_arrays(arrays)).model
    return replace(typing, graph=typing.graph.with_arrays({t.name: array_of(t) for t in folded.graph.initializer}))


def _make_batch_dynamic(model: onnx.ModelProto) -> None:
    for value in (*model.graph.input,):
        kind = value.type.tensor_type
        if kind.HasField("shape") and len(kind.shape.dim):
            kind.shape.dim[0].ClearField("dim_value")


def _casts(graph: Graph) -> bool:
    """Whether types other than float32 occur. A norm's input may even have another type than its parameters."""
    return any(t.data_type in OTHERS for t in graph.initializers.values())


@dataclass(frozen=True)
class _WorkingTypes:
    """Types of a norm whose scale has type ``scale``. It computes in float32 or wider, whatever its input type."""

    scale: int
    opset: int

    @property
    def wide(self) -> int:
        """The type of the computation. Squares overflow in float16, and sums of squares lose small terms."""
        return onnx.TensorProto.DOUBLE if self.scale == onnx.TensorProto.DOUBLE else onnx.TensorProto.FLOAT

    def back(self, source: str, like: str, target: str) -> onnx.NodeProto:
        """``source`` cast to the type of the norm's input ``like``; before opset 15, to that of its parameters."""
        if self.opset >= 15:
            return helper.make_node("CastLike", [source, like], [target])
        return helper.make_node("Cast", [source], [target], to=self.scale)


def _standardising(
    node: onnx.NodeProto, rank: int, opset: int, own: Shape, types: _WorkingTypes | None
) -> list[onnx.NodeProto]:
    """The norm written as arithmetic on its batch. Its statistics are `OUTPUT.mean` and `OUTPUT.variance`.

    ``own``: shape of its parameters: (C,), with spatial=0 also the spatial axes; ``types``: None if all is float32.
    """
    x, scale, bias, out = node.input[0], node.input[1], node.input[2], node.output[0]
    if types is not None:
        wide = [f"{out}.wide_{name}" for name in ("x", "scale", "bias", "out")]
        given = zip((x, scale, bias), wide[:3], strict=True)
        inner = onnx.NodeProto()
        inner.CopyFrom(node)
        inner.input[:3], inner.output[0] = wide[:3], wide[3]
        return [
            *(helper.make_node("Cast", [one], [other], to=types.wide) for one, other in given),
            *_arithmetic(inner, out, rank, opset, own, types.wide),
            types.back(wide[3], x, out),
        ]
    return _arithmetic(node, out, rank, opset, own, onnx.TensorProto.FLOAT)


def _arithmetic(node: onnx.NodeProto, stem: str, rank: int, opset: int, own: Shape, elem: int) -> list[onnx.NodeProto]:
    """`_standardising` in one type ``elem``. Names of intermediate tensors begin with ``stem``."""
    x, scale, bias, out = node.input[0], node.input[1], node.input[2], node.output[0]
    epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
    axes = [d for d in range(rank) if not 1 <= d <= len(own)]
    names = {
        k: f"{stem}.{k}"
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
            "Constant",
            [],
            [names["epsilon"]],
            value=numpy_helper.from_array(np.array(epsilon, helper.tensor_dtype_to_np_dtype(elem))),
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


def transfer_solution(solution: Solution, source: Typing, target: Typing) -> Solution:
    """Map a solution for the weights of ``source`` to one for those of ``target``, an affine map of them.

    With W_t = r W_s on each output channel, new weights become r W', a new bias b' becomes r b' + (b_t - r b_s).
    """
    weights, biases = dict(solution.weights), dict(solution.biases)
    for layer in weighted_layers(target):
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
