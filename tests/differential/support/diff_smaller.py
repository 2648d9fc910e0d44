"""Reduces a graph that shows a fault as long as it still shows it, and prints it as ONNX text."""

import time
from dataclasses import replace

import onnx
from diff_examine import examined
from diff_generate import Case, generate
from diff_ort import FAILURES, copied, feeds, start
from diff_run import WAYS
from diff_twists import FLOATS, captures

SECONDS = 60.0
"""How long to try, about."""
FEW = 8
"""Nodes from which on it is worth while to look for the first tensor that shows a fault."""
PRINTED = 16
"""Numbers of an initializer that are printed; of larger ones only the type is."""


def shows(case: Case, way: str, kind: str) -> bool:
    """Whether the fault is there, and the original runs at all its sizes."""
    try:
        onnx.checker.check_model(case.model, full_check=not case.model.graph.sparse_initializer)
        session = start(case.model)
        for sizes in case.sizes:
            session.run(None, feeds(case.model, sizes))
        ways = WAYS if way == "inspect" else (way,)
        return any(f.way == way and f.kind == kind for f in examined(case, ways).faults)
    except (*FAILURES, onnx.checker.ValidationError, onnx.shape_inference.InferenceError, KeyError):
        return False


def smaller(case: Case, way: str, kind: str, seconds=SECONDS) -> Case:
    """The case with nodes, outputs and inputs left out."""
    end, found = time.monotonic() + seconds, True
    while found:
        found = False
        for model in _attempts(case.model):
            if time.monotonic() > end:
                return case
            other = replace(case, model=model)
            if shows(other, way, kind):
                case, found = other, True
                break
    return case


def _attempts(model):
    """Models with one output or one node less."""
    for k in range(len(model.graph.output)):
        if len(model.graph.output) > 1:
            other = copied(model)
            del other.graph.output[k]
            yield _pruned(other)
    try:
        inferred = onnx.shape_inference.infer_shapes(model)
    except onnx.shape_inference.InferenceError:
        return
    types = {v.name: v for v in (*inferred.graph.value_info, *inferred.graph.input)}
    made = [n for node in model.graph.node for n in node.output if n in types and n not in captured_by_any(model)]
    for name in made[:-1] if len(model.graph.node) > FEW else []:  # the first tensor that shows it
        value = types[name]
        if value.type.tensor_type.HasField("shape") and value.type.tensor_type.elem_type in FLOATS:
            other = copied(model)
            del other.graph.output[:]
            other.graph.output.add().CopyFrom(_opened(value))
            yield _pruned(other)
    weights = {t.name for t in model.graph.initializer}
    for k in reversed(range(len(model.graph.node))):
        for name in dict.fromkeys(model.graph.node[k].input):
            if name and name not in weights:
                yield from _without(model, k, name, types)


def _without(model, k, name, types):
    """``name`` in the place of what node ``k`` gives."""
    other = copied(model)
    node = other.graph.node[k]
    gone = node.output[0]
    outputs = {v.name: v for v in other.graph.output}
    if any(captures(n, gone) for n in other.graph.node):
        return
    if gone in outputs:
        value = types.get(name)
        if name in outputs or value is None or not value.type.tensor_type.HasField("shape"):
            return
        if name in {v.name for v in other.graph.input}:
            return
        outputs[gone].CopyFrom(_opened(value))
    del other.graph.node[k]
    for n in other.graph.node:
        n.input[:] = [name if i == gone else i for i in n.input]
    yield _pruned(other)


def _opened(value):
    """A copy whose dimensions that inference has named are not named."""
    other = onnx.ValueInfoProto.FromString(value.SerializeToString())
    for d in other.type.tensor_type.shape.dim:
        if d.dim_param.startswith("unk"):
            d.Clear()
    return other


def captured_by_any(model):
    """Names that bodies of nodes read."""
    bodies = [a.g for n in model.graph.node for a in n.attribute if a.HasField("g")]
    return {name for g in bodies for n in g.node for name in n.input}


def _pruned(model):
    """Without what leads to no output."""
    read, kept = {v.name for v in model.graph.output}, []
    defaults = {t.name for t in model.graph.initializer}
    for node in reversed(model.graph.node):
        if read & {*node.output}:
            inner = {i for a in node.attribute if a.HasField("g") for n in a.g.node for i in n.input}
            read |= {*node.input} | inner
            kept.insert(0, node)
    del model.graph.node[:]
    model.graph.node.extend(kept)
    for values in (model.graph.initializer, model.graph.input, model.graph.sparse_initializer):
        names = [v.values.name if hasattr(v, "values") else v.name for v in values]
        for k in reversed(range(len(values))):
            if names[k] not in read and (values is not model.graph.input or names[k] in defaults or len(values) > 1):
                del values[k]
    called = {(n.domain, n.op_type) for n in model.graph.node}
    for k in reversed(range(len(model.functions))):
        if (model.functions[k].domain, model.functions[k].name) not in called:
            del model.functions[k]
    return model


def text(model) -> str:
    """The model as ONNX text, large initializers by their type only."""
    bare, listed = copied(model), []
    for tensor in list(bare.graph.initializer):
        count = 1
        for n in tensor.dims:
            count *= n
        if count > PRINTED:
            kind = onnx.TensorProto.DataType.Name(tensor.data_type).lower()
            listed.append(f"{kind}[{','.join(map(str, tensor.dims))}] {tensor.name}")
            bare.graph.initializer.remove(tensor)
    return onnx.printer.to_text(bare).strip() + (f"\nweights: {', '.join(listed)}" if listed else "")


def story(seed: int, ways=WAYS, seconds=SECONDS) -> str:
    """What is wrong with the graph of a seed, and the smallest graph found that shows the first fault."""
    found = examined(generate(seed), ways)
    if not found.faults:
        return f"seed {seed}: no fault\n{text(found.case.model)}"
    first = found.faults[0]
    small = smaller(found.case, first.way, first.kind, seconds)
    left = [str(f) for f in examined(small, (first.way,) if first.way in WAYS else WAYS).faults]
    summary = "\n".join(dict.fromkeys([*map(str, found.faults), "smaller:", *left]))
    return f"seed {seed}, sizes {list(small.sizes)}, {found.case.twists}\n{summary}\n{text(small.model)}"
