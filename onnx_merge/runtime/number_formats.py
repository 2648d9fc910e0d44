"""Converts a model to smaller number formats with onnxruntime's own tools: INT8 by samples, INT8 weights, float16."""

from __future__ import annotations

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import onnx
from onnx import version_converter

from onnx_merge.config.output_options import NUMBER_FORMATS
from onnx_merge.errors import NotCompressibleError, OnnxMergeError
from onnx_merge.io.save import needs_external_data, save_atomically
from onnx_merge.runtime.batching import ANY, Array, BatchSize, batches
from onnx_merge.runtime.float16 import reads_float16, to_float16
from onnx_merge.runtime.onnxruntime_import import runtime_line, silenced, tool
from onnx_merge.runtime.tensor_info import TensorInfo
from passes.graph.nodes import drop_unused_initializers, fresh, names_in, subgraphs
from passes.shapes.constants import STANDARD_DOMAINS
from passes.shapes.overridable_inputs import overridable
from passes.weights.stored_tensors import in_memory

INT8, INT8_DYNAMIC, FLOAT16 = NUMBER_FORMATS
DYNAMIC_OPS = ("MatMul", "Gemm", "Attention", "LSTM", "Gather", "EmbedLayerNormalization")
"""Ops whose weights are quantised without samples. Convolutions are not among them: onnxruntime quantises their data
anew in every run, which is slower than float32."""
PER_CHANNEL_OPSET = 13
"""The first opset in which DequantizeLinear has a scale for each channel."""
QUANTISED_OPS = frozenset(("DequantizeLinear", "DynamicQuantizeLSTM", "DynamicQuantizeLinear", "MatMulInteger"))
"""One of these is in every quantised model."""


def convert(
    model: onnx.ModelProto,
    number_format: str,
    feeds: Mapping[str, Array],
    inputs: tuple[TensorInfo, ...] = (),
    batch: BatchSize = ANY,
    *,
    without_axis: bool = False,
) -> onnx.ModelProto:
    """Return ``model`` in another number format; its inputs and outputs keep their types.

    Parameters
    ----------
    number_format: one of `onnx_merge.config.output_options.NUMBER_FORMATS`. ``int8``: weights and activations, with
        scales in QuantizeLinear and DequantizeLinear nodes, symmetric, one scale for each channel of a weight (from
        opset 13 on, to which older models are converted). ``int8-dynamic``: weights of matrix products and LSTMs;
        their data are quantised while the model runs. ``fp16``: weights and activations.
    feeds: samples (N, ...) by input name whose activations set the scales; for ``int8`` only.
    inputs: of the model; for ``int8`` only.
    without_axis: whether each run takes one sample without the axis of samples, which ``inputs`` have.

    Raises
    ------
    NotCompressibleError: no node of the model can be converted.
    OnnxMergeError: onnxruntime's tools cannot convert the model.
    """
    source = _without_weight_inputs(in_memory(model))
    try:
        if number_format == FLOAT16:
            before = reads_float16(source.graph)
            made = to_float16(source)
        else:
            with tempfile.TemporaryDirectory(prefix="onnx_merge-", ignore_cleanup_errors=True) as folder, _quiet():
                read = batches(feeds, inputs, batch) if number_format == INT8 else None
                made = _quantised(source, Path(folder), read, without_axis)
    except OnnxMergeError:
        raise
    except Exception as error:  # the tools raise what the nodes that they do not know make them raise
        problem = f"onnxruntime's tools cannot convert the model to {number_format}"
        raise OnnxMergeError(f"{problem}: {runtime_line(error)}; leave out --then") from error
    _restore(made, source)
    if number_format == FLOAT16:
        converts = reads_float16(made.graph) > before
    else:
        converts = any(node.op_type in QUANTISED_OPS for node in made.graph.node)
    if not converts:
        raise NotCompressibleError(f"no node of the model can be converted to {number_format}")
    return made


def _without_weight_inputs(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy without the inputs that are weights, as old exporters declare them: the tools do not convert those.

    Inputs with a default value stay.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    weights = {t.name for t in model.graph.initializer} - overridable(model)
    inputs = [value for value in copy.graph.input if value.name not in weights]
    if len(inputs) < len(copy.graph.input):
        copy.ir_version = max(copy.ir_version, 4)  # the first in which weights need not be inputs
        del copy.graph.input[:]
        copy.graph.input.extend(inputs)
    return copy


def _quantised(
    model: onnx.ModelProto,
    folder: Path,
    samples: Iterator[tuple[dict[str, Array], int, int]] | None,
    without_axis: bool,
) -> onnx.ModelProto:
    """Quantise in ``folder``. The tools change a model in memory, so they get a file. ``samples``: None for dynamic."""
    tools = tool("onnxruntime.quantization")
    source, ready, target = (folder / f"{name}.onnx" for name in ("source", "ready", "quantised"))
    per_channel = True
    if _opset(model) < PER_CHANNEL_OPSET:
        try:
            model = version_converter.convert_version(model, PER_CHANNEL_OPSET)
        except Exception:  # it does not know every op
            per_channel = False
    save_atomically(model, source)
    large = needs_external_data(model)
    # Norms are folded and constants computed, as the tools ask for.
    tools.shape_inference.quant_pre_process(
        source, ready, skip_optimization=large, skip_symbolic_shape=True, save_as_external_data=large
    )
    prepared = onnx.load(ready, load_external_data=False)
    if not large and _flat_biases(prepared):
        save_atomically(prepared, ready)
    if samples is None:
        tools.quantize_dynamic(ready, target, op_types_to_quantize=list(DYNAMIC_OPS), use_external_data_format=large)
    else:
        tools.quantize_static(
            ready, target, _Reader(samples, without_axis), per_channel=per_channel, use_external_data_format=large
        )
    return onnx.load(target)


def _flat_biases(model: onnx.ModelProto) -> bool:
    """Make biases (1, N) of Gemm nodes biases (N,), which are the same to it: the tools refuse the others (seen in
    onnxruntime 1.31), and their own optimisation makes them of MatMul and Add. Return whether there were any."""
    taken, made = set(names_in(model.graph)), dict[str, str]()
    wide = {t.name: t for t in model.graph.initializer if len(t.dims) == 2 and t.dims[0] == 1}
    for node in model.graph.node:
        if node.op_type != "Gemm" or len(node.input) < 3 or node.input[2] not in wide:
            continue
        bias = node.input[2]
        if bias not in made:
            made[bias] = fresh(f"{bias}_flat", taken)
            flat = model.graph.initializer.add()
            flat.CopyFrom(wide[bias])
            flat.name = made[bias]
            del flat.dims[0]
        node.input[2] = made[bias]
    drop_unused_initializers(model.graph)
    return bool(made)


class _Reader:
    """Hands samples to onnxruntime's calibration, one batch at a time."""

    def __init__(self, samples: Iterator[tuple[dict[str, Array], int, int]], without_axis: bool) -> None:
        self._samples, self._without_axis = samples, without_axis

    def get_next(self) -> dict[str, Array] | None:
        feeds = next((feeds for feeds, _, _ in self._samples), None)
        if feeds is None or not self._without_axis:
            return feeds
        return {name: array[0] if array.ndim else array for name, array in feeds.items()}


def _restore(made: onnx.ModelProto, model: onnx.ModelProto) -> None:
    """Give the converted model the name, the declared inputs and outputs, and the metadata of ``model``."""
    for ours, theirs in ((model.graph.input, made.graph.input), (model.graph.output, made.graph.output)):
        del theirs[:]
        theirs.extend(ours)
    made.graph.name = model.graph.name
    made.producer_name, made.producer_version = model.producer_name, model.producer_version
    used = {*STANDARD_DOMAINS, *_domains(made.graph.node)}.union(*(_domains(f.node) for f in made.functions))
    imports = [opset for opset in made.opset_import if opset.domain in used]  # older runtimes do not know all others
    del made.opset_import[:]
    made.opset_import.extend(imports)
    del made.metadata_props[:]
    made.metadata_props.extend(model.metadata_props)


def _domains(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    """Return the domains of operators of ``nodes`` and of those in their subgraphs."""
    return {node.domain for node in nodes}.union(*(_domains(g.node) for node in nodes for g in subgraphs(node)))


def _opset(model: onnx.ModelProto) -> int:
    return max((o.version for o in model.opset_import if o.domain in STANDARD_DOMAINS), default=1)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the advice that the tools log and print."""
    root, before = logging.getLogger(), logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    handlers = list(root.handlers)
    try:
        with silenced(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        root.handlers[:] = handlers  # logging without handlers adds one
