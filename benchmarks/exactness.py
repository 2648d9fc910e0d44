"""Checks for `coverage.py`: is a model valid, and does it compute what another one does?

`relative_error` is max|a - b| / max|b| over each output, the largest over the outputs; b are the values to be met.
Where float32 rounds too coarsely to tell, `float64_error` computes both models in float64.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import multiprocessing
import os
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from onnx_merge.errors import OnnxMergeError, one_line
from onnx_merge.inputs.feeds import index_bounds, random_feeds
from onnx_merge.io.load import checker_line
from onnx_merge.runtime.session import Session

Arrays = Mapping[str, NDArray[Any]]
INVALID = (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError)
NARROW = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)
FLOAT64_SECONDS = 300
NEVER_DOUBLE = {"Resize": 2, "Upsample": 1}
"""Op -> the input (scales) that its definition allows in float32 only."""


def run_original(model: onnx.ModelProto) -> tuple[Arrays, Arrays]:
    """Random inputs and the model's outputs, for two samples, or one where the batch is dynamic in name only.

    Raises
    ------
    OnnxMergeError: the model does not run.
    """
    session = Session(model)
    bounds = index_bounds(model)
    try:
        feeds = random_feeds(session.inputs, 2, upper=bounds)
        return feeds, session.run(feeds)
    except OnnxMergeError:
        feeds = random_feeds(session.inputs, 1, upper=bounds)
        return feeds, session.run(feeds)


def run_checked(
    model: onnx.ModelProto, original: onnx.ModelProto, feeds: Arrays, expected: Arrays
) -> tuple[Arrays, str | None]:
    """Outputs of ``model``, and what is wrong with it, if anything.

    It must pass `onnx.checker` with full_check (without it, where ``original`` does not either), load and run in
    onnxruntime, and give outputs of the shapes of ``expected``, finite where those are. There are no outputs if it does
    not run.
    """
    try:
        actual = Session(model).run(feeds)
    except OnnxMergeError as error:
        return {}, str(error)
    try:
        onnx.checker.check_model(model, full_check=_passes_full_check(original))
    except INVALID as error:
        return actual, f"{checker_line(error)}; it runs all the same"
    for name, value in expected.items():
        if name not in actual or actual[name].shape != value.shape:
            found = actual[name].shape if name in actual else "missing"
            return actual, f"output {name!r} is {found}, not {value.shape}"
        if value.dtype.kind == "f" and not np.isfinite(actual[name][np.isfinite(value)]).all():
            return actual, f"output {name!r} is not finite"
    return actual, None


def _passes_full_check(model: onnx.ModelProto) -> bool:
    try:
        onnx.checker.check_model(model, full_check=True)
    except INVALID:
        return False
    return True


def relative_error(actual: Arrays, expected: Arrays) -> float | None:
    """See the module; None where shapes differ, or ``actual`` is not finite where ``expected`` is."""
    worst = 0.0
    for name, target in expected.items():
        if target.dtype == object:
            continue
        if actual[name].shape != target.shape:
            return None
        wanted, found = target.astype(np.float64), actual[name].astype(np.float64)
        a, b = found[np.isfinite(wanted)], wanted[np.isfinite(wanted)]
        if not np.isfinite(a).all():
            return None
        scale = max(float(np.abs(b).max(initial=0.0)), 1e-12)
        worst = max(worst, float(np.abs(a - b).max(initial=0.0)) / scale)
    return worst


def vary_equal_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with random values about one for float initializers whose values are all equal: heads of zeros, layer
    scales of 1e-6 and other initial values, behind which nothing of a network can be seen."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    rng = np.random.default_rng(0)
    for tensor in result.graph.initializer:
        if tensor.data_type not in (*NARROW, TensorProto.DOUBLE) or math.prod(tensor.dims) < 2:
            continue
        values = numpy_helper.to_array(tensor)
        first = float(values.flat[0])
        if abs(first) < 1e3 and bool((values == values.flat[0]).all()):  # larger ones are masks
            tensor.CopyFrom(
                numpy_helper.from_array(rng.uniform(0.5, 1.5, values.shape).astype(values.dtype), tensor.name)
            )
    return result


def float64_error(model: onnx.ModelProto, target: onnx.ModelProto, feeds: Arrays) -> tuple[float | None, str]:
    """`relative_error` of the two models in float64 and what computed it; None and the reason if nothing can.

    onnxruntime has no float64 kernels for some ops, Conv among them: then onnx's reference evaluator runs both. It can
    want hours, and all memory there is, so it works in a process of its own with limits on both.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    models = [_in_float64(m).SerializeToString() for m in (model, target)]
    process = context.Process(target=_answer_float64, args=(sender, models, feeds))
    process.start()
    sender.close()  # so that the end of the process is the end of the pipe
    found: tuple[float | None, str]
    try:
        found = receiver.recv() if receiver.poll(FLOAT64_SECONDS) else (None, f"not done in {FLOAT64_SECONDS} s")
    except EOFError:
        found = None, "its process died, for want of memory perhaps"
    process.kill()
    process.join()
    return found


def _answer_float64(sender: Connection, models: list[bytes], feeds: Arrays) -> None:
    with contextlib.suppress(ImportError, OSError, ValueError):  # not on Windows, and macOS may refuse
        resource = importlib.import_module("resource")
        half = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
        resource.setrlimit(resource.RLIMIT_AS, (half, half))
    wide = {n: a.astype(np.float64) if a.dtype.kind in "fV" else a for n, a in feeds.items()}
    try:
        sender.send((relative_error(*(Session(m).run(wide) for m in models)), "by onnxruntime"))
        return
    except OnnxMergeError:
        pass
    try:
        with np.errstate(all="ignore"):
            outputs = [_reference(onnx.ModelProto.FromString(m), wide) for m in models]
        sender.send((relative_error(*outputs), "by onnx.reference"))
    except Exception as error:  # the evaluator raises whatever NumPy does
        sender.send((None, f"does not run: {one_line(f'{type(error).__name__}: {error}', 150)}"))


def _reference(model: onnx.ModelProto, feeds: Arrays) -> Arrays:
    values = ReferenceEvaluator(model).run(None, dict(feeds))
    names = (output.name for output in model.graph.output)
    return {n: np.asarray(v) for n, v in zip(names, values, strict=True) if not isinstance(v, list)}


def _in_float64(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with float64 in place of every narrower float."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    _graph_in_double(result.graph)
    return result


def _graph_in_double(graph: onnx.GraphProto) -> None:
    del graph.value_info[:]  # it repeats the old types
    places = [(n, NEVER_DOUBLE[n.op_type]) for n in graph.node if n.op_type in NEVER_DOUBLE]
    kept = {node.input[k] for node, k in places if k < len(node.input)}
    for tensor in graph.initializer:
        if tensor.name not in kept:
            _tensor_in_double(tensor)
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type in NARROW:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    for node in graph.node:
        if node.op_type == "ConstantOfShape" and not node.attribute:  # a float32 zero by definition
            node.attribute.append(onnx.helper.make_attribute("value", onnx.helper.make_tensor("", 1, [1], [0.0])))
        if node.op_type != "Constant" or node.output[0] not in kept:
            for attribute in node.attribute:
                _attribute_in_double(attribute)


def _attribute_in_double(attribute: onnx.AttributeProto) -> None:
    if attribute.name in ("to", "dtype") and attribute.i in NARROW:  # of Cast, RandomNormal, EyeLike, ...
        attribute.i = TensorProto.DOUBLE
    elif attribute.name in ("value_float", "value_floats"):  # of Constant
        values = np.asarray(onnx.helper.get_attribute_value(attribute), np.float64)
        attribute.CopyFrom(onnx.helper.make_attribute("value", numpy_helper.from_array(values)))
    elif attribute.HasField("t"):
        _tensor_in_double(attribute.t)
    for inner in (attribute.g, *attribute.graphs) if attribute.HasField("g") or attribute.graphs else ():
        _graph_in_double(inner)


def _tensor_in_double(tensor: onnx.TensorProto) -> None:
    if tensor.data_type in NARROW:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
