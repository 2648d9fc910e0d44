"""The judge accepts a refusal only where its reason is true: each reason beside a graph of which it is not."""

import numpy as np
import onnx.parser
import pytest
from diff_generate import Case
from diff_judge import judge, rounds_as_far
from diff_ort import feeds
from diff_refusals import LARGEST, cannot_load, gives_nothing, leaves_the_domain, overflows, usual
from diff_run import Outcome, run

NOT_FINITE = "layers cannot be solved on the samples: b of the original is not finite on the samples"
LEFT = "output 'y' of the result is not finite where the original's is"
MOVED = "the result does not compute what the original does: tensor 'y' is the first that moved (output 'y': {})"


def model(body, opset=17):
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> {body}')


def case(body, sizes=({"N": 2}, {"N": 1}, {"N": 3}), opset=17):
    return Case(1, model(body, opset), sizes, (), ())


TAME = "net (float[N,4] x) => (float[N,4] y) { b = Tanh(x)  y = Mul(b, b) }"
OVERFLOWS = "net (float[N,4] x) => (float[N,4] y) <float k = {1e30}> { b = Mul(x, k)  c = Mul(b, b)  y = Tanh(c) }"
NOTHING = "net (float[N,4] x) => (float[N,4] y) { a = Abs(x)  b = Neg(a)  c = Sub(b, one)  y = Sqrt(c) }"


def nothing():
    made = model(NOTHING)
    made.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(1), "one"))
    return made


def test_nothing_finite_is_said_of_models_that_give_nothing_finite():
    assert gives_nothing(nothing()) and not gives_nothing(model(TAME))
    said = "the model gives nothing but NaN and infinity on made-up samples"
    assert [f.kind for f in judge(case(TAME), Outcome("merge", 2, said))] == ["good model refused"]


def _overflows(text, said):
    return overflows(case(text), Outcome("default", 1, said))


def test_the_tensor_named_is_the_one_that_overflows():
    said = "layers cannot be solved on the samples: {} of the original is not finite on the samples"
    assert _overflows(OVERFLOWS, said.format("c")) and not _overflows(OVERFLOWS, said.format("b"))
    assert not _overflows(TAME, said.format("b")) and not _overflows(OVERFLOWS, "not finite on the samples")
    assert [f.kind for f in judge(case(TAME), Outcome("default", 1, NOT_FINITE))] == ["internal error"]


def test_a_model_that_loads_is_not_said_not_to():
    said = "onnxruntime cannot load the model: something"
    pads = "net (float[N,1,8] x) => (float[N,1,?] y) {{ y = MaxPool<kernel_shape = [2], pads = [{0},{0}]>(x) }}"
    assert cannot_load(model(pads.format(2)), said)
    assert not cannot_load(model(pads.format(1)), said) and not cannot_load(model(pads.format(2)), "no size was found")
    assert [f.kind for f in judge(case(TAME), Outcome("merge", 2, said))] == ["good model refused"]


def test_what_moved_further_than_by_roundings_is_a_fault():
    tame = case(TAME)
    assert rounds_as_far(tame, Outcome("lossless", 5, MOVED.format("1.1e-07")))
    for way, said in (("lossless", MOVED.format("4.3e-05")), ("merge", MOVED.format("1.1e-07")), ("lossless", "moved")):
        assert not rounds_as_far(tame, Outcome(way, 5, said))
    found = judge(tame, Outcome("lossless", 5, MOVED.format("4.3e-05")))
    assert [f.kind for f in found] == ["unsound result refused"]


def test_ties_may_be_broken_otherwise():
    """All positions are equal: the order of a sum decides which is the largest."""
    tied = case(
        "net (float[N,4] x) => (float[N,1] y) { s = Softmax(x)  e = Mul(s, s)  a = Sub(e, e)  c = Exp(a)"
        "  m = ArgMax<axis = 1>(c)  y = Cast<to = 1>(m) }"
    )
    assert rounds_as_far(tied, Outcome("lossless", 5, MOVED.format("1.0e+00")))
    apart = case("net (float[N,4] x) => (float[N,1] y) { m = ArgMax<axis = 1>(x)  y = Cast<to = 1>(m) }")
    assert not rounds_as_far(apart, Outcome("lossless", 5, MOVED.format("1.0e+00")))


LAYERS = """net (float[N,4] x) => (float[N,2] y)
    <float[4,2] a = {1,0, 0,1, 1,0, 0,1}, float[2,2] b = {%s}> {
    h = MatMul(x, a)  z = MatMul(h, b)  t = Tanh(z)  y = %s(t) }"""


@pytest.mark.parametrize("op", ["Tanh", "Abs"])
def test_a_result_that_is_finite_does_not_leave_the_domain(op):
    finite = case(LAYERS % ("1,2,3,4", op))
    merged = run(finite.model, "merge", 1)
    assert merged.compressed is not None
    assert not leaves_the_domain(finite, Outcome("merge", 5, LEFT, compressed=merged.compressed))
    found = judge(finite, Outcome("merge", 5, LEFT, compressed=merged.compressed))
    assert [f.kind for f in found] == ["unsound result refused"]


class Shrunk:
    """A result whose unshrunk twin is this model."""

    def __init__(self, model):
        self.twin = lambda: model


def test_a_twin_that_is_not_finite_shows_that_the_result_left_the_domain():
    original, twin = (
        case(f"net (float[N,4] x) => (float[N,4] y) <float k = {{{k}}}> {{ t = Tanh(x)  u = Mul(t, k)  y = Acos(u) }}")
        for k in (1, 3)
    )
    assert leaves_the_domain(original, Outcome("merge", 5, LEFT, compressed=Shrunk(twin.model)))
    assert not leaves_the_domain(original, Outcome("merge", 5, LEFT, compressed=Shrunk(original.model)))
    assert not leaves_the_domain(original, Outcome("merge", 5, "is not finite", compressed=Shrunk(twin.model)))
    assert not leaves_the_domain(original, Outcome("merge", 5, LEFT))


def test_inputs_of_usual_sizes_stay_small():
    volume = model("net (float[S,2,S,S,S] x) => (float[S,2,S,S,S] y) { y = Relu(x) }")
    drawn = usual(volume)
    assert drawn and max(array.size for given in drawn for array in given.values()) <= LARGEST
    assert feeds(volume, {"S": 16})["x"].shape in {given["x"].shape for given in drawn}
