"""Nodes are told apart where names repeat, or are those of other nodes' outputs."""

import numpy as np
import pytest
from netkit import TOLERANCE, difference, engine, net

from passes.graph.model import Graph
from passes.pipeline import compress
from passes.samples.calibration_samples import CalibrationSamples
from passes.settings.compress import CompressSettings

ONE_NAME, AN_OUTPUTS_NAME = {0: "n", 2: "n"}, {2: "a"}
CASES = {"one name": ONE_NAME, "the name of an output": AN_OUTPUTS_NAME}
CHAIN = """net (float[N,6] x) => (float[N,4] y) {
    a = Gemm(x, a_w)  ar = Relu(a)  b = Gemm(ar, b_w)  br = Relu(b)  y = Gemm(br, y_w)
}"""
SUM = """net (float[N,6] x) => (float[N,4] y) {
    a = Gemm(x, a_w)  r = Relu(x)  b = Gemm(r, b_w)  s = Add(a, b)  y = Gemm(s, y_w)
}"""


def named(names, body, **weights):
    model = net(body, **weights)
    for index, name in names.items():
        model.graph.node[index].name = name
    return model


def chain(names):
    return named(names, CHAIN, a_w=(6, 12), b_w=(12, 12), y_w=(12, 4))


def reconstructed(model):
    samples = CalibrationSamples(
        {"x": np.random.default_rng(0).standard_normal((64, 6)).astype(np.float32)}, True, engine
    )
    return compress(model, CompressSettings(keep=0.5, method="reconstruct"), samples=samples)


def test_labels():
    def labels(names):
        return [node.label for node in Graph(chain(names)).nodes]

    assert labels({}) == ["a", "ar", "b", "br", "y"]
    assert labels(ONE_NAME) == ["n (a)", "ar", "n (b)", "br", "y"]
    assert labels(AN_OUTPUTS_NAME) == ["a (Gemm)", "ar", "a", "br", "y"]
    assert labels({0: "n", 1: "n (b)", 2: "n"}) == ["n (a)", "n (b)", "n (b) #2", "br", "y"]


def test_the_errors_of_all_layers_count():
    plain, found = reconstructed(chain({})), reconstructed(chain({4: "b"}))
    assert sorted(found.solution.errors) == ["b", "b (Gemm)"]
    assert found.solution.ware == plain.solution.ware
    assert [plan.error for plan in found.plans] == [plan.error for plan in plain.plans]


@pytest.mark.parametrize("name", CASES)
def test_what_ties_two_layers_is_seen(name):
    model = named(CASES[name], SUM, a_w=(6, 12), b_w=(6, 12), y_w=(12, 4))
    result = compress(model, CompressSettings(keep=0.5, coupled=False))
    group = result.plans[0].group
    assert len(set(group.producers)) == 2 and str(group.coupled).startswith("shared by 2 layers")
    assert str(result.plans[0].reason).startswith("coupled") and result.model == model


def test_a_layer_called_like_anothers_second_group():
    body = """net (float[N,6] x) => (float[N,4] y) {
        a = Gemm(x, w)  l, r = Split<axis=1>(a)  lr = Relu(l)  rr = Tanh(r)
        s = Gemm(lr, u)  t = Gemm(rr, v)  z = Add(s, t)  zr = Relu(z)  y = Gemm(zr, k)
    }"""
    model = named({4: "a #2"}, body, w=(6, 16), u=(8, 12), v=(8, 12), k=(12, 4))
    model.opset_import[0].version = 11
    result = compress(model, CompressSettings(keep=0.5, keep_layers=(("^a #2$", 0.75),)))
    assert [plan.group.name for plan in result.plans[:3]] == ["a", "a #2", "a #2 #2"]
    assert [len(plan.keep) for plan in result.plans[:3]] == [4, 4, 9]
    assert difference(result.twin(), result.model) <= TOLERANCE
