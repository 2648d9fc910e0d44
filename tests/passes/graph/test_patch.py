"""Edits are collected, and applied to a copy."""

import numpy as np
import pytest
from netkit import array_of, attr_of, difference, feeds, net, node_of, run
from onnx import helper, numpy_helper

from passes.graph.model import Graph
from passes.graph.patch import Patch, copy_without_weights
from passes.transforms.bias import add_bias

BODY = """net (float[N,3] x) => (float[N,2] y) {
    a = Gemm<transB=1, alpha=0.5, beta=2.0>(x, w, b)  r = Relu(a)  y = Gemm<transB=1>(r, v)
}"""


def start(body=BODY, **weights):
    model = net(body, **(weights or {"w": (4, 3), "b": (4,), "v": (2, 4)}))
    graph = Graph(model)
    return model, graph, Patch(graph), {n.label: n for n in graph.nodes}


def test_nothing_changes_without_edits():
    model, _, patch, _ = start()
    assert patch.apply() == model and patch.apply() is not model


def test_the_original_stays():
    model, _, patch, nodes = start()
    before = model.SerializeToString(deterministic=True)
    patch.set_array("w", np.zeros((2, 3)))
    patch.set_attribute(nodes["a"], "alpha", 3.0)
    patch.remove(nodes["r"], keep_output=True)
    result = patch.apply()
    assert model.SerializeToString(deterministic=True) == before
    assert array_of(result, "w").shape == (2, 3) and array_of(result, "w").dtype == np.float32
    assert attr_of(result, "r", "alpha") == 3.0 and [n.output[0] for n in result.graph.node] == ["r", "y"]


def test_attributes_are_set_and_removed():
    _, _, patch, nodes = start()
    patch.set_attribute(nodes["a"], "beta", None)
    patch.set_attribute(nodes["y"], "alpha", 2.0)
    result = patch.apply()
    assert {a.name for a in node_of(result, "a").attribute} == {"transB", "alpha"}
    assert attr_of(result, "y", "alpha") == 2.0


def test_added_names_are_fresh():
    _, graph, patch, _ = start()
    names = [patch.add_array(stem, np.zeros(1)) for stem in ("w", "w", "r", "new", "new")]
    assert len({*names, *graph.initializers, *graph.producer, "x"}) == 5 + 3 + 3 + 1
    patch.set_array(names[0], np.ones(3))
    assert patch.array(names[0]).tolist() == [1, 1, 1] and patch.array("w").shape == (4, 3)


@pytest.mark.parametrize("node", ["a", "y"])
def test_a_shift_is_added_to_the_output(node):
    """Whatever alpha and beta are, and whether there was a bias or not."""
    model, _, patch, nodes = start(BODY.replace("r = Relu(a)", "r = Identity(a)"), w=(4, 3), b=(4,), v=(2, 4))
    shift = np.arange(1.0, 5.0 if node == "a" else 3.0)
    add_bias(patch, nodes[node], shift)
    result, inputs = patch.apply(), feeds(model)
    moved = shift @ array_of(model, "v").T if node == "a" else shift
    np.testing.assert_allclose(run(result, inputs)[0], run(model, inputs)[0] + moved, rtol=1e-5, atol=1e-5)
    add_bias(patch, nodes[node], -shift)  # once more, on what is already patched
    assert difference(model, patch.apply()) < 1e-5


@pytest.mark.parametrize(
    "bias", [np.float32(0.5), np.float32([0.5]), np.float32([[0.5]]), np.full((1, 4), 0.5, np.float32)]
)
def test_a_shift_is_added_to_a_bias_of_any_shape(bias):
    model, _, patch, nodes = start(w=(4, 3), b=np.asarray(bias), v=(2, 4))
    add_bias(patch, nodes["a"], np.zeros(4))
    assert difference(model, patch.apply()) < 1e-6


def test_nodes_are_replaced_and_inserted():
    model, _, patch, nodes = start()
    patch.replace(nodes["r"], [helper.make_node("LeakyRelu", ["a"], ["r"], alpha=0.0)])
    patch.insert_before(nodes["y"], [helper.make_node("Identity", ["r"], ["s"])])
    patch.reroute(nodes["y"], 0, "s")
    result = patch.apply()
    assert [n.op_type for n in result.graph.node] == ["Gemm", "LeakyRelu", "Identity", "Gemm"]
    assert difference(model, result) < 1e-6


def test_an_input_is_masked_twice():
    model, _, patch, nodes = start()
    mask = np.float32([1, 0, 1, 1])
    patch.multiply_input(nodes["y"], 0, mask)
    patch.multiply_input(nodes["y"], 0, mask)
    result, inputs = patch.apply(), feeds(model)
    masked = net(BODY, w=(4, 3), b=(4,), v=array_of(model, "v") * mask)
    np.testing.assert_allclose(run(result, inputs)[0], run(masked, inputs)[0], rtol=1e-5, atol=1e-6)


def test_an_input_gets_a_constant_of_its_own():
    _, _, patch, nodes = start()
    patch.set_input_array(nodes["y"], 1, np.zeros((2, 4), np.float32))
    result = patch.apply()
    name = node_of(result, "y").input[1]
    assert name != "v" and not array_of(result, name).any() and array_of(result, "v").any()


def test_initializers_listed_as_inputs_change_their_shape_there_too():
    model = net(BODY, w=(4, 3), b=(4,), v=(2, 4))
    for name, dims in (("w", [4, 3]), ("b", [4]), ("v", [2, 4])):  # all of them, as it is an exporter's habit
        model.graph.input.append(helper.make_tensor_value_info(name, 1, dims))
    patch = Patch(Graph(model))
    patch.set_array("w", np.zeros((2, 3)))
    (value,) = [v for v in patch.apply().graph.input if v.name == "w"]
    assert [d.dim_value for d in value.type.tensor_type.shape.dim] == [2, 3]


def test_a_copy_without_weights_has_all_else():
    model, *_ = start()
    model.doc_string, model.graph.doc_string = "m", "g"
    model.metadata_props.add(key="k", value="v")
    copy = copy_without_weights(model)
    assert not copy.graph.initializer
    copy.graph.initializer.extend(
        numpy_helper.from_array(array_of(model, t.name), t.name) for t in model.graph.initializer
    )
    assert copy == model
