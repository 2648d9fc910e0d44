"""Gradients of small models in float64, beside central differences of what the models compute.

onnxruntime computes what it can in float64, onnx's reference the rest.
"""

from dataclasses import dataclass, field

import numpy as np
import onnx
from netkit import engine, feeds, net, session
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from passes.gradients.differentiate import gradient_model
from passes.graph.model import Graph

STEP = 1e-5
SINGLE = {"Resize": (1, 2), "Upsample": (1,)}
"""Inputs that are float32 whatever the type of the data."""


def start(model):
    """A function from inputs by name to outputs by name."""
    try:
        loaded = session(model)
        given, made = ([v.name for v in values] for values in (loaded.get_inputs(), loaded.get_outputs()))
    except Exception:
        loaded = ReferenceEvaluator(model)
        given, made = loaded.input_names, loaded.output_names
    return lambda values: dict(zip(made, loaded.run(None, {n: values[n] for n in given}), strict=True))


def doubled(model):
    """The model in float64."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    single = {node.input[k] for node in copy.graph.node for k in SINGLE.get(node.op_type, ()) if k < len(node.input)}
    for value in (*copy.graph.input, *copy.graph.output):
        kind = value.type.tensor_type
        if kind.elem_type == TensorProto.FLOAT and value.name not in single:
            kind.elem_type = TensorProto.DOUBLE
    for tensor in copy.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in single:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
    for node in copy.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.DOUBLE
    return copy


def fed(model, names):
    """The model with the initializers ``names`` as inputs."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    stored = {t.name: t for t in model.graph.initializer if t.name in names}
    own = {v.name for v in model.graph.input}
    copy.graph.input.extend(
        onnx.helper.make_tensor_value_info(n, t.data_type, t.dims) for n, t in stored.items() if n not in own
    )
    del copy.graph.initializer[:]
    copy.graph.initializer.extend(t for t in model.graph.initializer if t.name not in names)
    return copy


def arrays_of(model):
    """Values of the initializers."""
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def observed(model, sizes, names):
    """Shapes of tensors, from a run at random inputs."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    own = {v.name for v in model.graph.output}
    copy.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in own)
    found = start(copy)(feeds(copy))
    return {n: np.shape(v) for n, v in found.items() if n in names}


def gradients(model, wrt, seeds, values, observer=None, opened=start, **more):
    """Gradients of sum <seed, tensor> with respect to ``wrt``; ``values`` has the initializers among these too."""
    made = gradient_model(Graph(model, engine=engine, observer=observer or observed), wrt, seeded=list(seeds), **more)
    if not any(node.op_type == "GroupNormalization" for node in model.graph.node):  # which the checker deprecates
        onnx.checker.check_model(made.model)
    found = opened(made.model)({**values, **{made.seeds[n]: v for n, v in seeds.items()}})
    return {name: found[made.gradients[name]] for name in wrt}


def assert_are_slopes(found, value, values, tolerance, step=STEP, seed=0):
    """The gradients ``found`` give the central differences of ``value``, a function of the feeds, on the way of random
    directions."""
    rng = np.random.default_rng(seed)
    for _ in range(2):
        ways = {n: rng.standard_normal(np.shape(values[n])) for n in found}
        moved = [
            {n: np.asarray(values[n] + s * step * way, values[n].dtype) for n, way in ways.items()} for s in (1, -1)
        ]
        ends = [value({**values, **changed}) for changed in moved]
        expected = (ends[0] - ends[1]) / (2 * step)
        along = sum(float(np.sum(found[n] * way)) for n, way in ways.items())
        size = np.sqrt(sum(float(np.sum(np.square(g))) for g in found.values()))
        assert abs(along - expected) <= tolerance * max(size, 1e-6)


@dataclass(frozen=True)
class Form:
    """Nodes that compute y from x and from weights; ``torch``: (torch, **tensors) -> y, if PyTorch has it."""

    id: str
    inputs: str
    nodes: str
    weights: dict = field(default_factory=dict)
    torch: object = None
    opset: int = 17
    fixed: str = ""
    """Inputs and weights that no gradient is asked for."""
    step: float | None = None
    """Where onnx's reference cannot compute it, or not in float64: the step of differences by onnxruntime."""

    def model(self, opset=None):
        """In float32."""
        nodes = self.nodes.replace("<>", "")
        return net(f"net ({self.inputs}) => (float[] y) {{ {nodes} }}", opset or self.opset, 10, **self.weights)


def two(name, nodes, function, a="2,3,4", b=(3, 4), opset=17):
    return Form(name, f"float[{a}] x", nodes, {"k": b}, function, opset)
