"""Decides whether each run of a model takes one sample, and gives it an axis of samples then.

The inputs of graph networks have axes of nodes and of edges in front, and none of samples. With such an axis, of size
one, they are models of a fixed batch like others. It is taken away again from results.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import onnx

from onnx_merge.config.options import Options
from onnx_merge.errors import OnnxMergeError
from onnx_merge.inputs.assignments import find_assignments
from onnx_merge.inputs.dimensions import Assignment
from onnx_merge.inputs.feeds import declared_inputs, feeds_at, index_bounds
from onnx_merge.inputs.fixed_inputs import with_fixed
from onnx_merge.inputs.input_memory import check_input_memory
from onnx_merge.inputs.sample_axes import unlike_axes, with_axis_in_front
from onnx_merge.io.model_source import Source
from onnx_merge.io.sample_axis import MARK, SampleAxis
from onnx_merge.runtime.session import Session, loaded
from onnx_merge.runtime.tensor_info import TensorInfo, is_open
from onnx_merge.whole_runs.row_independence import takes_one_sample
from onnx_merge.whole_runs.sample_form import Form, form_of
from passes.cost.cost import Cost
from passes.graph.model import Graph


def prepared_source(source: Source, options: Options) -> tuple[Source, Options]:
    """``source`` with the sizes and inputs that the options fix, and with an axis of samples if each run takes one
    sample; and the options, of which sizes then have that axis too.

    Raises
    ------
    UsageError, InputError: as `with_fixed`, or sizes that the user gave do not fit the model.
    """
    source = with_fixed(source, options)
    model = source.model
    unlike = unlike_axes(declared_inputs(model))
    if not (unlike or _all_in_front(options, declared_inputs(model))) or not SampleAxis.fits(model):
        return source, options
    check_input_memory(model, dict(options.input_shape), options.memory_limit, ", or raise --memory-limit")
    try:
        session = loaded(model)
        inputs = session.inputs
    except OnnxMergeError:  # opening the model says what is wrong
        return source, options
    axis = _axis(session, model, inputs, options)
    if axis is None:
        return source, options
    sizes = tuple((name, (1, *size) if size else size) for name, size in options.input_shape)
    return replace(source, model=axis.added(model), axis=axis), replace(options, input_shape=sizes)


def note(axis: SampleAxis) -> str:
    """What a user should know of a model with an axis of samples."""
    forms = with_axis_in_front(declared_inputs(axis.given))
    return f"each run of the model takes one sample: samples are {forms}"


def uncounted(found: Cost, graph: Graph) -> Cost:
    """``found``, the cost of ``graph``, without the nodes of an axis of samples."""
    ours = Counter(node.op for node in graph.nodes if node.label.startswith(MARK))
    if not ours:
        return found
    ops = {op: count - ours[op] for op, count in found.ops.items() if count > ours[op]}
    return replace(found, nodes=found.nodes - ours.total(), ops=ops)


def _axis(
    session: Session, model: onnx.ModelProto, inputs: Sequence[TensorInfo], options: Options
) -> SampleAxis | None:
    forms = [form_of(source, inputs) for source in _sources(options)]
    if any(form is Form.AS_DECLARED for form, _ in forms):
        return None
    known = [sizes for _, sizes in forms if sizes is not None]
    given = dict(options.input_shape)
    try:
        found = find_assignments(session, model=model, sizes=given, known=known, seed=options.seed)
        runs: Sequence[Assignment] = found.found
    except OnnxMergeError:
        runs = ()
    in_front = _all_in_front(options, inputs)
    shown = in_front and unlike_axes(inputs)
    if not shown and not takes_one_sample(session, runs, options.seed, index_bounds(model), asked=in_front):
        return None
    return SampleAxis(model, _with_axis(session, model, inputs, runs, options.seed))


def _all_in_front(options: Options, inputs: Sequence[TensorInfo]) -> bool:
    """Whether the user's samples have an axis in front of those of inputs whose first axes are not all fixed."""
    sources = _sources(options)
    dynamic = any(i.shape and is_open(i.shape[0]) for i in inputs)
    return dynamic and bool(sources) and all(form_of(source, inputs)[0] is Form.IN_FRONT for source in sources)


def _sources(options: Options) -> list[object]:
    made_up = isinstance(options.calib, str) and options.calib == "synthetic"
    calib = [options.calib] if options.has_samples and not made_up else []
    return [*calib, *([options.labels] if options.labels else [])]


def _with_axis(
    session: Session, model: onnx.ModelProto, inputs: Sequence[TensorInfo], runs: Sequence[Assignment], seed: int
) -> frozenset[str]:
    """The outputs with a first axis of the size one, and others behind it, at all sizes at which the model ran, such as
    the scores of a whole graph."""
    bounds, found = index_bounds(model), {v.name for v in model.graph.output} if runs else set()
    for sizes in runs:
        made = session.run(feeds_at(inputs, sizes, seed, bounds))
        found &= {name for name, array in made.items() if array.ndim > 1 and len(array) == 1}
    return frozenset(found)
