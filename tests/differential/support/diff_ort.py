"""The judge's own way to run a model: onnxruntime without graph optimisations, one thread."""

import numpy as np
import onnx
import onnxruntime
from onnx import helper

FAILURES = tuple(
    getattr(onnxruntime.capi.onnxruntime_pybind11_state, name)
    for name in ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NotImplemented", "RuntimeException")
)
"""What onnxruntime raises for a model that it cannot load or run."""


def start(model):
    options = silent()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def silent():
    """Options of a session that prints nothing and has one thread."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return options


ENDING = {"RoiAlign", "LSTM", "GRU"}
"""Ops that end the process where there is nothing to go over."""


def ends_the_process(model, inputs):
    """Whether onnxruntime is not to be given the model: one of these ops has nothing to go over. What leads to each
    of them is run alone."""
    for name in dict.fromkeys(n.input[0] for n in model.graph.node if n.op_type in ENDING):
        try:
            if not _up_to(model, name).run([name], inputs)[0].size:
                return True
        except FAILURES:  # so does the model
            return False
    return False


def _up_to(model, name):
    """The nodes that lead to a tensor, which is the only output."""
    other, read, kept = copied(model), {name}, []
    for node in reversed(model.graph.node):
        if read & {*node.output}:
            read |= {*node.input, *(i for a in node.attribute for n in a.g.node for i in n.input)}
            kept.insert(0, node)
    del other.graph.node[:], other.graph.output[:]
    other.graph.node.extend(kept)
    other.graph.output.append(onnx.ValueInfoProto(name=name))
    return start(other)


def required(model):
    """The inputs that callers must give: protobufs."""
    defaults = {t.name for t in model.graph.initializer} | {t.values.name for t in model.graph.sparse_initializer}
    return [v for v in model.graph.input if v.name not in defaults]


def dynamic_dims(model):
    """(input, axis) -> name of the dimension, one's own where it has none."""
    return {
        (v.name, axis): d.dim_param or f"{v.name}#{axis}"
        for v in required(model)
        for axis, d in enumerate(v.type.tensor_type.shape.dim)
        if not d.HasField("dim_value")
    }


def feeds(model, sizes, seed=0):
    """Random inputs. ``sizes``: name of each dynamic dimension -> size."""
    rng, names, found = np.random.default_rng(seed), dynamic_dims(model), {}
    for v in required(model):
        dims = v.type.tensor_type.shape.dim
        shape = [d.dim_value if d.HasField("dim_value") else sizes[names[v.name, k]] for k, d in enumerate(dims)]
        dtype = helper.tensor_dtype_to_np_dtype(v.type.tensor_type.elem_type)
        draw = (
            rng.standard_normal(shape) if dtype.kind == "f" else rng.integers(0, 2 if dtype.kind == "b" else 7, shape)
        )
        found[v.name] = np.asarray(draw).astype(dtype)
    return found


def copied(model):
    return onnx.ModelProto.FromString(model.SerializeToString())
