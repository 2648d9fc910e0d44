"""Single nodes out of the cases of the rules, run with inputs of the test's choice."""

from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from families import FIRING
from netkit import feeds, net, session
from onnx.reference import ReferenceEvaluator

from passes.axes.op_facts import ABSENT
from passes.axes.registry import every_fact
from passes.graph.model import Graph

STATED = {op: known for (domain, op), known in every_fact().items() if not domain and known != ABSENT}


@dataclass
class Call:
    """One node, alone in a model, with the values that it reads in its case."""

    graph: Graph
    node: object
    inputs: list
    model: onnx.ModelProto

    def __call__(self, **changed):
        """Its outputs where inputs ``x0``, ``x1``, ... have other values; None for those that it leaves out."""
        given = {}
        for k, (name, value) in enumerate(zip(self.node.inputs, self.inputs, strict=True)):
            if name:
                given[name] = changed.get(f"x{k}", value)
        return dict(zip(self.node.outputs, started(self.model)(given), strict=False))

    @property
    def output(self):
        return self()[self.node.outputs[0]]

    def at(self, x):
        """The first output for values ``x`` (N,) of the one input that is no constant, whatever its shape."""
        k = self.data[0]
        size = max(1, self.inputs[k].size)
        values = np.concatenate([x, np.zeros(-len(x) % size)]).reshape(-1, size)
        shaped = (row.reshape(self.inputs[k].shape).astype(self.inputs[k].dtype) for row in values)
        found = [self(**{f"x{k}": row})[self.node.outputs[0]].ravel() for row in shaped]
        return np.concatenate(found)[: len(x)].astype(np.float64)

    @property
    def data(self):
        """Indices of the inputs that are no constants."""
        return [k for k, n in enumerate(self.node.inputs) if n and n not in self.graph.constants]


def started(model):
    """Runs a model, by onnxruntime or, where it has no such op, by onnx's reference."""
    try:
        loaded = session(model)
    except Exception:
        loaded = ReferenceEvaluator(model)
    return lambda given: loaded.run(None, given)


def calls(case):
    """A call for each node of the case's op, one after another."""
    inputs, frame, weights = case.frame
    body = f"net ({inputs}) => (float[] y) {{ {frame.format(case.nodes)} }}"
    model = net(body, case.opset, 10, **{**weights, **case.weights})
    values = {**{t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}, **feeds(model)}
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    made = [n for node in model.graph.node for n in node.output if n]
    del whole.graph.output[:]
    whole.graph.output.extend(onnx.ValueInfoProto(name=n) for n in made)
    values.update(zip(made, started(whole)(feeds(model)), strict=True))
    graph = Graph(model, observer=lambda *_: case.observed)
    for node in graph.nodes:
        if node.op == case.op:
            own = [values[n] if n else None for n in node.inputs]
            yield Call(graph, node, own, _alone(model, node, own))


def _alone(model, node, values):
    infos = {
        name: onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for name, v in zip(node.inputs, values, strict=True)
        if name
    }
    ends = [onnx.ValueInfoProto(name=n) for n in node.outputs if n]
    graph = onnx.helper.make_graph([model.graph.node[node.index]], "alone", list(infos.values()), ends)
    return onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def having(claim):
    """A parameter for each case of an op that states a fact."""
    found = [case for case in FIRING if case.op in STATED and claim(STATED[case.op])]
    assert found
    return pytest.mark.parametrize("case", found, ids=lambda case: case.id)


def each(case):
    found = list(calls(case))
    assert found
    return [(call, STATED[case.op]) for call in found]


def read(call, among=None):
    """Values of the inputs that hold numbers of the output's type."""
    taken = range(len(call.inputs)) if among is None else among
    arrays = [call.inputs[k] for k in taken if call.inputs[k] is not None]
    return np.concatenate([a.ravel() for a in arrays if a.dtype == call.output.dtype])
