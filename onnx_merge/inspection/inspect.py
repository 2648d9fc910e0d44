"""Inspects a model: finds its channel groups and what prevents their removal, without changing the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import onnx

from onnx_merge.compression.explain_no_change import why_no_groups
from onnx_merge.config.options import Options
from onnx_merge.config.version import __version__
from onnx_merge.errors import OnnxMergeError
from onnx_merge.inputs.assignments import Assignments, counted_at, find_assignments
from onnx_merge.inputs.dimensions import dimensions
from onnx_merge.inputs.feeds import declared_inputs, resolve_shapes
from onnx_merge.inputs.input_memory import check_input_memory
from onnx_merge.inputs.shape_observer import RunObserver
from onnx_merge.inspection.findings import (
    STATUSES,
    Holding,
    InspectedGroup,
    InspectedLayer,
    InspectedModel,
    Inspection,
    Member,
    ReasonHolding,
    Status,
    UngroupedLayer,
    pattern,
)
from onnx_merge.io.model_source import Model, load_source
from onnx_merge.io.output_paths import Destinations
from onnx_merge.io.scratch_space import weights_in_files
from onnx_merge.plugins.entry_points import load_plugins
from onnx_merge.runtime.blame import checked_by_running
from onnx_merge.runtime.segment_runner import FOLDING
from onnx_merge.runtime.session import Session
from onnx_merge.runtime.session_settings import custom_operators
from onnx_merge.whole_runs.decision import prepared_source, uncounted
from passes.analysis.analyse import Analysis, analyse
from passes.analysis.layer_widths import layer_widths
from passes.analysis.ungrouped import Ungrouped, every_ungrouped, first_quantised
from passes.axes import algebra
from passes.axes.algebra import Atom
from passes.axes.channel_groups import ChannelGroup, Step
from passes.axes.inference import Role, Typing
from passes.axes.registry import find_rule, is_quantised
from passes.channels.scale_propagation import obstacle
from passes.cost.cost import cost
from passes.cost.footprint import Holdings
from passes.interface.reason import Reason
from passes.interface.runner import Progress, StageTimer, checking_graphs
from passes.shapes.constants import STANDARD_DOMAINS

Groups = Sequence[tuple[InspectedGroup, Atom]]


def inspect_model(
    model: Model,
    *,
    input_shape: object = (),
    fix_shape: object = (),
    fix_input: object = (),
    custom_ops: object = (),
    report: object = None,
    html: object = None,
    force: bool = False,
) -> Inspection:
    """Find the channel groups of a model, the way that `optimize` would, and what each of them holds.

    Parameters
    ----------
    model: path of an ONNX file, or a model in memory; neither is changed.
    input_shape, fix_shape, fix_input, custom_ops, report, html, force: see `Options`; the report is the inspection as
        JSON.

    Raises
    ------
    UsageError, InputError: the options make no sense, or a file cannot be read.
    OnnxMergeError: the report cannot be written.
    """
    shapes = {"input_shape": input_shape, "fix_shape": fix_shape}
    given = {**shapes, "fix_input": fix_input, "custom_ops": custom_ops, "report": report, "html": html}
    return run(model, Options.make({**given, "force": force}))


def run(
    model: Model, options: Options, *, group: str | None = None, progress: Progress = lambda stage: None
) -> Inspection:
    """`inspect_model` for callers that show progress; ``group``: an expression that must match a group."""
    if group is not None:
        pattern(group)
    load_plugins()
    with weights_in_files(), custom_operators(options.custom_ops), checking_graphs(options.verbose):
        return _run(model, options, group, progress)


def _run(model: Model, options: Options, group: str | None, progress: Progress) -> Inspection:
    stages = StageTimer(progress)
    destinations = Destinations(model, None, options)
    destinations.check()
    with stages("load"):
        source = load_source(model)
        destinations.check(source.files)
        source, options = prepared_source(source, options)
        resolve_shapes(declared_inputs(source.model), None, dict(options.input_shape))
        check_input_memory(source.model, dict(options.input_shape), options.memory_limit)
    with stages("sizes"):
        assignments = _assignments(source.model, dict(options.input_shape))
    observer = RunObserver()
    with checked_by_running(source.model):
        analysis = analyse(source.model, assignments.witnesses, observer, stages, FOLDING)
    with stages("measure"):
        whole = uncounted(cost(analysis.before, observer, FOLDING), analysis.before)
        parts = list(analysis.parts())
        holdings = Holdings(analysis.typing, [(part.typing, names) for part, names in parts[1:]], analysis.moved)
        groups = tuple(_inspected(part.typing, g, holdings) for part, _ in parts for g in part.groups)
        held = list(zip(groups, (group.atom for group in analysis.every_group), strict=True))
        left = every_ungrouped(analysis)
        layers = [layer for layer in left if layer.is_layer]
        widths = tuple(
            InspectedLayer(layer.name, layer.op, layer.size, layer.macs, layer.group)
            for layer in layer_widths(analysis, {})
        )
    inspection = Inspection(
        version=__version__,
        input=source.info,
        model=InspectedModel(
            whole.nodes, analysis.before.opset, whole.params, whole.macs, source.size or whole.bytes, whole.ops
        ),
        groups=groups,
        summary=_summary(held, holdings, left),
        reasons=_reasons(held, holdings),
        ungrouped=tuple(_layer(layer, holdings) for layer in layers),
        ops_without_rule=_ops_without_rule(parts),
        unfolded={k: reason for part, _ in parts for k, reason in part.unfolded.items()},
        notes=tuple(_notes(analysis, layers, counted_at(assignments, declared_inputs(source.model)))),
        layers=widths,
        seconds={stage: round(seconds, 6) for stage, seconds in stages.total().items()},
    )
    if group is not None:
        inspection.matching(group)
    # Imported here: most runs print a table only, and should not wait for templates and statistics.
    if options.report is not None:
        from onnx_merge.report.result import write_report

        write_report(inspection, options.report)
    if options.html is not None:
        from onnx_merge.html.inspection_page import inspection_page
        from onnx_merge.html.rendering import write_page

        write_page(inspection_page(inspection.to_dict()), options.html)
    return inspection


def _assignments(model: onnx.ModelProto, sizes: Mapping[str, tuple[int, ...]]) -> Assignments:
    """Sizes at which the model runs. None where it has no dynamic dimensions, or does not run."""
    if not dimensions(declared_inputs(model), model):
        return Assignments(())
    try:
        return find_assignments(Session(model, optimisation="basic"), model=model, sizes=sizes)
    except OnnxMergeError:
        return Assignments(())


def _status(group: ChannelGroup, unmixable: Reason | None) -> Status:
    if group.frozen:
        return "frozen"
    if group.normalised:
        return "project-only"
    return "prune-only" if unmixable else "free"


def _inspected(typing: Typing, group: ChannelGroup, holdings: Holdings) -> InspectedGroup:
    unmixable = group.unmergeable or obstacle(group)
    held = holdings.of([group.atom])
    return InspectedGroup(
        name=group.name,
        size=group.size,
        status=_status(group, unmixable),
        reason=group.frozen or group.normalised or unmixable,
        coupled=group.coupled,
        unmixable=unmixable,
        macs=held.macs,
        params=held.params,
        macs_share=held.macs_share,
        params_share=held.params_share,
        producers=tuple(group.producers),
        consumers=tuple(group.consumers),
        members=_members(typing, group),
    )


def _summary(groups: Groups, holdings: Holdings, left: Sequence[Ungrouped]) -> dict[str, Holding]:
    found: dict[str, Holding] = {}
    for status in STATUSES:
        atoms = [atom for group, atom in groups if group.status == status]
        held = holdings.of(atoms)
        found[status] = Holding(len(atoms), held.macs_share, held.params_share)
    macs, params = sum(layer.macs for layer in left), sum(layer.params for layer in left)
    found["none"] = Holding(0, *holdings.shares(macs, params))
    return found


def _layer(layer: Ungrouped, holdings: Holdings) -> UngroupedLayer:
    shares = holdings.shares(layer.macs, layer.params)
    return UngroupedLayer(layer.label, layer.node.op, layer.reason, layer.macs, layer.params, *shares)


def _reasons(groups: Groups, holdings: Holdings) -> tuple[ReasonHolding, ...]:
    found: dict[tuple[Reason, Status], list[Atom]] = {}
    for group, atom in groups:
        if group.reason is not None:
            found.setdefault((group.reason.general, group.status), []).append(atom)
    reasons = []
    for (reason, status), atoms in found.items():
        held = holdings.of(atoms)
        reasons.append(ReasonHolding(reason, status, len(atoms), held.macs_share, held.params_share))
    return tuple(sorted(reasons, key=lambda r: (-r.macs_share, -r.params_share)))


def _members(typing: Typing, group: ChannelGroup) -> tuple[Member, ...]:
    info = typing.graph.info
    found: dict[Member, None] = {}  # in order, each once
    for step in group.steps:
        node = step.flow.record.node
        for role, tensor, axis in _places(typing, group.atom, step):
            shape = tuple(None if (tensor, k) in info.dynamic else n for k, n in enumerate(info.shapes[tensor]))
            found[Member(node.label, node.op, role, tensor, axis, shape)] = None
    return tuple(found)


def _places(typing: Typing, atom: Atom, step: Step) -> Iterator[tuple[str, str, int]]:
    """(role, tensor, axis) of the constants that hold the channels; where there are none, of computed tensors."""
    roles = {use.role for use in step.uses}
    for use in step.uses:
        yield use.role.value, use.constant, use.axis
    bare: list[tuple[str, list[str]]] = []
    if Role.PRODUCER not in roles:
        bare.append((Role.PRODUCER.value, step.produced))
    if Role.CHANNEL not in roles:
        bare.append(("passes through", [name for _, outputs in step.through for name in outputs]))
    if step.contracted:
        bare.append(("contracted", list(step.flow.record.node.inputs)))
    if not roles and not any(names for _, names in bare):
        bare.append(("passes through", list(step.flow.record.node.outputs)))
    for role, names in bare:
        for name in names:
            axes = enumerate(typing.axes.get(name, ()))
            yield from ((role, name, axis) for axis, term in axes if atom in algebra.atoms(term))


def _ops_without_rule(parts: Sequence[tuple[Analysis, object]]) -> dict[str, int]:
    """Number of nodes of each op type without a rule, with its domain where that is not the standard one. Arithmetic on
    sizes, whose results are known numbers, needs no rule. Neither do nodes whose bodies are inspected."""
    found: Counter[str] = Counter()
    for part, _ in parts:
        graph, known = part.typing.graph, {one.body.node.index for one in part.inside}
        for node in graph.nodes:
            if find_rule(node.domain, node.op) is not None or node.index in known:
                continue
            if not all(n in graph.info.origins for n in node.outputs if n):
                found[node.op if node.domain in STANDARD_DOMAINS else f"{node.domain}:{node.op}"] += 1
    return dict(found.most_common())


def _notes(analysis: Analysis, layers: Sequence[Ungrouped], size_note: str) -> Iterator[str]:
    if size_note:
        yield size_note
    quantised = first_quantised(analysis.typing)
    if quantised is not None:
        count = sum(is_quantised(layer.node.op) for layer in layers)
        whole = "the model is quantised" if not analysis.every_group else f"{count} quantised layers stay whole"
        yield f"{whole}: {quantised} is quantised: compress first, then quantise"
    elif not analysis.every_group:
        yield f"no channel groups: {why_no_groups(layers)}"
