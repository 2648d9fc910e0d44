"""Rewrites a generated model in forms found in files: functions, shared biases, odd names, other kinds of weights."""

import random

import numpy as np
import onnx
from onnx import helper, numpy_helper

ODD = ["?", "a b", "a/b.c:0", "größe", "x.1", "Conv", "layer/conv/Relu", "t0", "%12", "weight", "-", "p2o.Tensor.0"]
DIMS = ["?", "", "p2o.DynamicDimension.0", "batch size", "N", "None", "-1", "数", "height/2"]
FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)


def copy_of(model):
    return onnx.ModelProto.FromString(model.SerializeToString())


def float_weights(model):
    """Initializers that hold weights: not the written-down numbers and lists of sizes."""
    return [t for t in model.graph.initializer if t.data_type in FLOATS and not t.name.endswith("k")]


def planted_weights(model, rng):
    """The same channels are multiples of others, equal or zero in all weights of one width."""
    for size in {n for t in float_weights(model) for n in t.dims if n > 1}:
        pairs = []
        for _ in range(rng.randint(1, max(1, size // 2))):
            i, j = rng.sample(range(size), 2)
            pairs.append((i, j, rng.choice([0.0, 1.0, 1.0, 2.0, 0.5])))
        for tensor in float_weights(model):
            if size not in tensor.dims or not tensor.dims:
                continue
            array = numpy_helper.to_array(tensor).copy()
            for axis in (0, 1)[: array.ndim]:
                if array.shape[axis] != size or rng.random() > (0.7 if axis == 0 else 0.25):
                    continue
                rows = np.moveaxis(array, axis, 0)
                for i, j, factor in pairs:
                    if tensor.name.endswith(("var", "scale")):
                        rows[j] = rows[i]
                    else:
                        rows[j] = rows[i] * factor
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def shared_biases(model, rng):
    """One tensor of zeros for all biases of a width."""
    zeros = {}
    for tensor in list(model.graph.initializer):
        if tensor.data_type in FLOATS and len(tensor.dims) == 1 and tensor.name.endswith("b"):
            key = tensor.data_type, tensor.dims[0]
            if key not in zeros:
                zeros[key] = tensor.name
                dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
                tensor.CopyFrom(numpy_helper.from_array(np.zeros(tuple(tensor.dims), dtype), tensor.name))
                continue
            for node in model.graph.node:
                node.input[:] = [zeros[key] if n == tensor.name else n for n in node.input]
            if not any(captures(node, tensor.name) for node in model.graph.node):
                model.graph.initializer.remove(tensor)


def captures(node, name):
    """Whether a body of the node reads ``name``."""
    return any(
        name in inner.input or captures(inner, name)
        for a in node.attribute
        for g in ([a.g] if a.HasField("g") else [])
        for inner in g.node
    )


def overridable(model, rng):
    """One or two weights may be given by callers."""
    chosen = rng.sample(float_weights(model), min(len(float_weights(model)), rng.randint(1, 2)))
    for t in chosen:
        model.graph.input.append(helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)))


def all_inputs(model, rng):
    """Every initializer is an input too, an exporter's habit."""
    for t in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)))
    model.ir_version = 4


def sparse(model, rng):
    """One matrix is stored as what is not zero of it."""
    found = [t for t in float_weights(model) if len(t.dims) == 2 and t.data_type == onnx.TensorProto.FLOAT]
    if not found:
        return
    tensor = rng.choice(found)
    array = numpy_helper.to_array(tensor).copy()
    array[np.abs(array) < np.median(np.abs(array))] = 0
    index = np.flatnonzero(array)
    values = numpy_helper.from_array(array.ravel()[index], tensor.name)
    places = numpy_helper.from_array(index.astype(np.int64), tensor.name + "_at")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, list(array.shape)))
    model.graph.initializer.remove(tensor)


def half(model, rng):
    """All of it in float16."""
    single, small = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16

    def visit(graph):
        for t in graph.initializer:
            if t.data_type == single:
                t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(t).astype(np.float16), t.name))
        for v in (*graph.input, *graph.output):
            if v.type.tensor_type.elem_type == single:
                v.type.tensor_type.elem_type = small
        for node in graph.node:
            if node.op_type in ("Resize", "Upsample", "QuantizeLinear", "DequantizeLinear"):
                raise ValueError("takes float32 in places")
            if node.op_type in ("LSTM", "GRU", "RNN"):
                raise ValueError("onnxruntime's optimisations of it end the process")
            for a in node.attribute:
                if node.op_type == "Cast" and a.name == "to" and a.i == single:
                    a.i = small
                if a.HasField("t") and a.t.data_type == single:
                    a.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(a.t).astype(np.float16)))
                if a.HasField("g"):
                    visit(a.g)

    visit(model.graph)


def mid_output(model, rng):
    """A tensor in the middle is an output too."""
    inferred = onnx.shape_inference.infer_shapes(model)
    own = {v.name for v in model.graph.output}
    floats = [v for v in inferred.graph.value_info if v.type.tensor_type.elem_type in FLOATS and v.name not in own]
    floats = [v for v in floats if v.type.tensor_type.HasField("shape") and len(v.type.tensor_type.shape.dim) > 1]
    if floats:
        chosen = copy_value(rng.choice(floats))
        for dim in chosen.type.tensor_type.shape.dim:
            if dim.dim_param.startswith("unk"):
                dim.Clear()
        model.graph.output.insert(rng.randint(0, 1), chosen)


def copy_value(value):
    return onnx.ValueInfoProto.FromString(value.SerializeToString())


def outlined(model, rng):
    """Some nodes in a row become a local function, which may import another opset in which they mean the same."""
    nodes, opset = list(model.graph.node), model.opset_import[0].version
    for _ in range(8):
        start = rng.randrange(len(nodes))
        stop = min(len(nodes), start + rng.randint(1, 3))
        span = nodes[start:stop]
        if any(a.HasField("g") for n in span for a in n.attribute):
            continue
        made = [name for n in span for name in n.output if name]
        outside = [n for k, n in enumerate(nodes) if not start <= k < stop]
        read = {name for n in outside for name in n.input} | {v.name for v in model.graph.output}
        read |= {name for name in made for n in outside if captures(n, name)}
        outputs = [name for name in made if name in read]
        inputs = list(dict.fromkeys(name for n in span for name in n.input if name and name not in made))
        if len(outputs) != 1 or not inputs:
            continue
        others = [v for v in range(max(7, opset - 2), opset + 2) if v <= 23 and all(same(n, opset, v) for n in span)]
        rename = {name: f"f{k}" for k, name in enumerate([*inputs, *made])}
        body = []
        for n in span:
            inner = onnx.NodeProto.FromString(n.SerializeToString())
            inner.input[:] = [rename.get(i, "") for i in n.input]
            inner.output[:] = [rename.get(o, "") for o in n.output]
            body.append(inner)
        function = helper.make_function(
            "pkg", "Block", [rename[i] for i in inputs], [rename[outputs[0]]], body,
            [helper.make_opsetid("", rng.choice(others or [opset]))],
        )  # fmt: skip
        model.functions.append(function)
        model.opset_import.append(helper.make_opsetid("pkg", 1))
        call = helper.make_node("Block", inputs, outputs, domain="pkg")
        del model.graph.node[:]
        model.graph.node.extend([*nodes[:start], call, *nodes[stop:]])
        model.ir_version = max(model.ir_version, 9)
        return


def same(node, one, other):
    """Whether an op has the same definition in two opsets."""
    try:
        a, b = (onnx.defs.get_schema(node.op_type, max_inclusive_version=v) for v in (one, other))
    except onnx.defs.SchemaError:
        return False
    return a.since_version == b.since_version


def renamed(model, rng):
    """Odd names of tensors and nodes; nodes without one; names of nodes that are names of other things."""
    graph = model.graph
    tensors = list(
        dict.fromkeys([*(v.name for v in graph.input), *(n for node in graph.node for n in node.output if n)])
    )
    bodies = any(a.HasField("g") for node in graph.node for a in node.attribute)
    odd = rng.sample(ODD, len(ODD))
    names = {} if bodies else {name: odd.pop() for name in rng.sample(tensors, min(len(tensors), 6))}
    taken = set(tensors) | {t.name for t in graph.initializer}
    names = {old: new for old, new in names.items() if new not in taken}
    for node in graph.node:
        node.input[:] = [names.get(n, n) for n in node.input]
        node.output[:] = [names.get(n, n) for n in node.output]
    for value in (*graph.input, *graph.output):
        value.name = names.get(value.name, value.name)
    for t in (*graph.initializer, *(s.values for s in graph.sparse_initializer)):
        assert t.name not in names
    pool = [*ODD, *(n.output[0] for n in graph.node), ""]
    used = set()
    for node in graph.node:
        name = rng.choice(pool)
        if name not in used:  # onnxruntime takes a name twice, other tools do not
            node.name = name
            used |= {name} - {""}


def odd_dimensions(model, rng):
    """Names of dynamic dimensions that are no identifiers, or none at all."""
    dims = [d for v in (*model.graph.input, *model.graph.output) for d in v.type.tensor_type.shape.dim]
    found = list(dict.fromkeys(d.dim_param for d in dims if d.dim_param))
    new = dict(zip(found, rng.sample(DIMS, min(len(found), len(DIMS))), strict=False))
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in new:
                name = new[dim.dim_param]
                dim.Clear()
                if name:
                    dim.dim_param = name


def named_layers(model, rng):
    """A name for each node, as exporters give it."""
    for k, node in enumerate(model.graph.node):
        node.name = f"/net/{k}/{node.op_type}"


def exact_biases(model, rng):
    """No tie but by a constant: all of one width read one bias that is not zero."""
    shared_biases(model, rng)
    for tensor in model.graph.initializer:
        if tensor.name.endswith("b") and len(tensor.dims) == 1 and tensor.data_type in FLOATS:
            array = numpy_helper.to_array(tensor)
            filled = np.linspace(-0.4, 0.5, array.size).astype(array.dtype)
            tensor.CopyFrom(numpy_helper.from_array(filled, tensor.name))


TWISTS = {
    "planted": (planted_weights, 0.5), "shared biases": (shared_biases, 0.15), "one bias": (exact_biases, 0.05),
    "mid output": (mid_output, 0.1), "half": (half, 0.06), "sparse": (sparse, 0.06), "function": (outlined, 0.12),
    "odd names": (renamed, 0.12), "named": (named_layers, 0.3), "odd dimensions": (odd_dimensions, 0.15),
    "overridable": (overridable, 0.1), "all inputs": (all_inputs, 0.06),
}  # fmt: skip
"""Name -> (function that changes a model, how often it is used). In this order: later ones see earlier ones' work."""


def twisted(model, rng: random.Random, runs):
    """``model`` with some twists, each kept where ``runs`` says that the model runs; and their names."""
    names = []
    for name, (change, often) in TWISTS.items():
        seed = rng.random()
        if seed >= often or (name == "all inputs" and "overridable" in names):
            continue
        other = copy_of(model)
        try:
            change(other, random.Random(seed))
        except ValueError:
            continue
        if runs(other):
            model = other
            names.append(name)
    return model, tuple(names)
