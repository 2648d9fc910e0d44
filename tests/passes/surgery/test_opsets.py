"""One network in the forms of all opsets: it shrinks to the same shapes in each, exactly."""

import pytest
from netkit import check, compressed, difference, is_dynamic, session, twin_check
from onnx.reference import ReferenceEvaluator
from opsets import NEWEST, WEIGHTS, listed, small_cnn

from onnx_merge import optimize
from passes.interface.reason import text

RUNTIME = 23
"""The newest opset that every onnxruntime we allow runs."""
OPSETS = [*range(7, 14), 17, 18, 21, RUNTIME, NEWEST]
PRUNED = "pruned only: no scale passes through r (Clip)"
GROUPS = [("n", 6, PRUNED), ("n #2", 2, None), ("n #3", 4, PRUNED)]
GROUPS += [("c", 16, None), ("d", 10, None), ("g", 14, None), ("k", 5, "y (Softmax) normalises over it")]
"""The halves of layer `a`, the second of which is sliced: what is sliced off, which nothing reads, and the rest."""


def runner(opset):
    return session if opset <= RUNTIME else ReferenceEvaluator


@pytest.mark.parametrize("opset", OPSETS)
def test_the_network_is_the_same(opset):
    model = small_cnn(opset)
    check(model)
    assert model.opset_import[0].version == opset and is_dynamic(model)
    assert difference(small_cnn(RUNTIME), model, start=runner(opset)) <= 1e-6


@pytest.mark.parametrize("method", ["merge", "prune"])
@pytest.mark.parametrize("opset", OPSETS)
def test_it_shrinks_exactly(opset, method):
    result = twin_check(small_cnn(opset), start=runner(opset), keep=0.5, method=method)
    groups = [(p.group.name, p.group.size, text(p.reason)) for p in result.plans]
    assert method == "prune" or groups == GROUPS
    assert [p.shrinks for p in result.plans] == [True] * 6 + [False]


@pytest.mark.parametrize("opset", OPSETS)
def test_it_shrinks_to_the_same(opset):
    one, other = (compressed(small_cnn(n), keep=0.4).model for n in (17, opset))
    assert difference(one, other, start=runner(opset)) <= 1e-6
    shapes = [{t.name: list(t.dims) for t in m.graph.initializer if t.name in WEIGHTS} for m in (one, other)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(("ir_version", "opset"), [(3, 8), (4, 9), (8, 17), (10, 21)])
def test_initializers_that_are_all_inputs(ir_version, opset):
    """They stay inputs, with their new shapes, and those that are added are listed too, where the IR version requires
    that. Later they are no inputs."""
    model = small_cnn(opset)
    del model.graph.input[1:]
    model.ir_version = ir_version
    listed(model)
    result = twin_check(model, keep=0.5).model
    shapes = {t.name: list(t.dims) for t in result.graph.initializer}
    inputs = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in result.graph.input}
    assert inputs.pop("x") == [0, 3, 8, 8]
    assert shapes["a_w"] == [6, 3, 3, 3] and shapes["g_b"] == [7]
    assert inputs == (shapes if ir_version < 4 else {})


@pytest.mark.parametrize(("ir_version", "opset"), [(4, 9), (8, 17), (10, 21)])
def test_initializers_some_of_which_are_inputs(ir_version, opset):
    """Callers may override these: they stay as they are, and what their channels hold stays whole."""
    model = small_cnn(opset)
    del model.graph.input[1:]
    model.ir_version = ir_version
    listed(model, {"a_w", "n_mean", "flat", "g_b"})
    before = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in model.graph.input}
    result = twin_check(model, keep=0.5)
    assert {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in result.model.graph.input} == before
    assert "n_mean may be overridden by callers" in text(result.unfolded["n"])
    assert {p.group.name for p in result.plans if p.shrinks} == {"c"}


@pytest.mark.parametrize("opset", [7, NEWEST])
def test_from_end_to_end(opset):
    """The newest opset may be too new for onnxruntime: the model is compressed where that is asked for, and a note says
    so."""
    smaller, result = optimize(small_cnn(opset), keep=0.5, unverified=opset > 7)
    assert result.after.params < result.before.params and smaller.opset_import[0].version == opset
    assert (result.fidelity is None) == any("cannot load the model" in note for note in result.notes)
    assert opset > 7 or result.fidelity is not None
