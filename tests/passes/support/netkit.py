"""Small networks as ONNX text with random weights, run by onnxruntime, and the twin oracle."""

import zlib

import numpy as np
import onnx
import onnx.parser
import onnxruntime
from onnx import numpy_helper

from passes.interface.errors import RunError
from passes.pipeline import compress
from passes.settings.compress import CompressSettings

TOLERANCE = 1e-5
"""Relative to the largest output: float32 sums in another order."""


def net(body, opset=17, ir_version=8, seed=0, **weights):
    """A model from the text after its header; each weight is an array, or the shape of a random one.

    Random weights are scaled to keep the spread of activations, and never constant: names ending in ``var`` are
    positive, those ending in ``scale`` lie about one and have both signs.
    """
    model = onnx.parser.parse_model(f'<ir_version: {ir_version}, opset_import: ["" : {opset}, "custom" : 1]> {body}')
    return filled(model, weights, seed)


def filled(model, weights, seed=0):
    """``model`` with the weights added, as in `net`."""
    for name, value in weights.items():
        array = value if isinstance(value, np.ndarray) else random_weight(name, value, seed)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    return model


def random_weight(name, shape, seed=0):
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    if name.endswith("var"):
        return rng.uniform(0.3, 2.0, shape).astype(np.float32)
    if name.endswith("scale"):
        return (rng.uniform(0.3, 2.0, shape) * rng.choice([-1, 1, 1, 1], shape)).astype(np.float32)
    fan_in = max(int(np.prod(shape[1:])), 1) if len(shape) > 1 else 1
    return (rng.standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32)


def ints(*values):
    return np.array(values, np.int64)


def session(model):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def feeds(model, batch=2, seed=1):
    """Random inputs; a dynamic first axis has ``batch`` entries, any other dynamic one eight."""
    rng = np.random.default_rng(seed)
    constants = {t.name for t in model.graph.initializer}  # or defaults
    found = {}
    for value in model.graph.input:
        if value.name not in constants:
            kind = value.type.tensor_type
            sizes = [d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim]
            dims = [n if n >= 0 else (8 if axis else batch) for axis, n in enumerate(sizes)]
            dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
            draw = rng.standard_normal(dims) if dtype.kind == "f" else rng.integers(0, 2, dims)
            found[value.name] = draw.astype(dtype)
    return found


def run(model, inputs=None):
    return session(model).run(None, feeds(model) if inputs is None else inputs)


def engine(model):
    """What computes constants and runs pieces of models: `onnx_merge.runtime.segment_runner` in its shortest form."""
    try:
        loaded = session(model)
    except Exception as error:
        raise RunError(str(error)) from error
    outputs = [o.name for o in loaded.get_outputs()]

    def run(feeds):
        given = {i.name: feeds[i.name] for i in loaded.get_inputs()}
        try:
            return dict(zip(outputs, loaded.run(None, given), strict=True))
        except Exception as error:
            raise RunError(str(error)) from error

    return run


def is_dynamic(model):
    return any(
        v.type.tensor_type.shape.dim and v.type.tensor_type.shape.dim[0].dim_value <= 0 for v in model.graph.input
    )


def difference(model, other, batches=(2, 3), seed=1, start=session):
    """Largest deviation of the outputs of two models, relative to the largest value, over the batch sizes.

    ``start``: gives a model's runner, `session` or onnx's `ReferenceEvaluator`.
    """
    one, two = start(model), start(other)
    worst = 0.0
    for batch in batches if is_dynamic(model) else (None,):
        inputs = feeds(model, batch, seed)
        for a, b in zip(one.run(None, inputs), two.run(None, inputs), strict=True):
            a, b = as_array(a), as_array(b)
            assert a.shape == b.shape and a.dtype == b.dtype
            if a.dtype.kind in "OU":
                assert (a == b).all(), "strings differ"
                continue
            assert np.isfinite(a).all(), "the case's own weights overflow"
            a, b = a.astype(np.float64), b.astype(np.float64)
            worst = max(worst, float(np.abs(a - b).max(initial=0.0) / max(np.abs(a).max(initial=0.0), 1e-12)))
    return worst


def as_array(value):
    """An output as an array: a sequence of maps, as classifiers give them, has a row for each map."""
    return value if isinstance(value, np.ndarray) else np.array([list(row.values()) for row in value])


def observer(model, sizes, names):
    """Shapes by running the model once: what `onnx_merge.inputs.shape_observer` gives the passes, in its shortest
    form."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    own = {v.name for v in model.graph.output}
    copy.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in own)
    inputs = {name: array for name, array in feeds(model, 2).items()}
    for name in sizes.keys() & inputs.keys():  # others have a default
        inputs[name] = np.resize(inputs[name], sizes[name])
    try:
        values = zip(names, session(copy).run(names, inputs), strict=True)
    except Exception:  # it does not run at these sizes
        return {}
    return {name: value.shape for name, value in values if isinstance(value, np.ndarray)}


def check(model):
    """Raises unless the model is valid, and its shapes agree."""
    onnx.checker.check_model(model, full_check=True)


def compressed(model, **settings):
    """`compress`, with what holds for every result: the model given is unchanged and the result is valid."""
    before = model.SerializeToString(deterministic=True)
    result = compress(model, CompressSettings(**settings), observer, engine=engine)
    assert model.SerializeToString(deterministic=True) == before, "the input model was modified"
    check(result.model)
    return result


def twin_check(model, tolerance=TOLERANCE, start=session, **settings):
    """Compress and compare with the unshrunk twin; the result."""
    result = compressed(model, **settings)
    if result.shrinks:
        twin = result.twin()
        check(twin)
        assert difference(twin, result.model, start=start) <= tolerance
    return result


def shape_of(model, name):
    """Shape of an initializer."""
    return next(tuple(t.dims) for t in model.graph.initializer if t.name == name)


def array_of(model, name):
    return next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == name)


def node_of(model, output):
    return next(n for n in model.graph.node if output in n.output)


def attr_of(model, output, name):
    return next(onnx.helper.get_attribute_value(a) for a in node_of(model, output).attribute if a.name == name)
