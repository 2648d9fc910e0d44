"""How far the outputs of a result are from the original's."""

import numpy as np
import onnx.parser
import pytest
from optimiser_breaks import network_the_optimiser_breaks

from onnx_merge.errors import InputError, OnnxMergeError, StructureError, UsageError
from onnx_merge.evaluation.fidelity import accuracy, fidelity
from onnx_merge.runtime import session
from onnx_merge.runtime.batching import ANY, BatchSize, batches
from onnx_merge.runtime.session import Session
from onnx_merge.runtime.tensor_info import TensorInfo
from onnx_merge.tuning.inputs import BatchTuning

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'


def model(body):
    return onnx.parser.parse_model(HEAD + body)


def linear(weights="1,0,0,1", signature="(float[N,2] x) => (float[N,2] y)"):
    return model(f"net {signature} <float[2,2] w = {{{weights}}}> {{ [product] y = MatMul(x, w) }}")


def feeds(count=300, seed=0):
    return {"x": np.random.default_rng(seed).standard_normal((count, 2)).astype(np.float32)}


def test_equal_models_are_equal():
    f = fidelity(linear(), linear(), feeds(), source="noise")
    assert (f.cosine, f.relative_l2, f.top1_agreement) == (1, 0, 1)
    assert (f.samples, f.source, f.provider) == (300, "noise", "cpu")


def test_against_the_definition():
    x = feeds()["x"].astype(np.float64)
    a, b = x, x @ np.array([[1, 2], [3, 4]])
    f = fidelity(linear(), linear("1,2,3,4"), feeds())
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert f.cosine == pytest.approx(cosines.mean(), rel=1e-5)
    assert f.relative_l2 == pytest.approx(np.linalg.norm(a - b) / np.linalg.norm(a), rel=1e-5)
    assert f.top1_agreement == pytest.approx((a.argmax(1) == b.argmax(1)).mean())


def test_zero_vectors():
    zeros = linear("0,0,0,0")
    assert fidelity(zeros, zeros, feeds()).cosine == 1
    assert fidelity(zeros, zeros, feeds()).relative_l2 == 0
    for pair in ((linear(), zeros), (zeros, linear())):
        f = fidelity(*pair, feeds())
        assert (f.cosine, f.relative_l2) == (0, pytest.approx(1))


@pytest.mark.parametrize("count", [1, 7, 8])
def test_a_fixed_batch_is_filled_up(count):
    signature = "(float[4,2] x) => (float[4,2] y)"
    pair = linear(signature=signature), linear("1,2,3,4", signature)
    expected = fidelity(linear(), linear("1,2,3,4"), feeds(count))
    f = fidelity(*pair, feeds(count))
    assert f.samples == count
    assert (f.cosine, f.relative_l2) == (pytest.approx(expected.cosine), pytest.approx(expected.relative_l2))
    assert f.top1_agreement == expected.top1_agreement


@pytest.mark.parametrize(
    ("outputs", "nodes", "agreement"),
    [
        ("float[N,2] y", "y = Relu(x)", 1.0),
        ("float[N,2,1,1] y", "y = Unsqueeze(x, axes)", 1.0),
        ("float[N,2] y, int64[N] best", "y = Relu(x) best = ArgMax<axis = 1, keepdims = 0>(x)", 1.0),
        ("float[N,2] y, float[N,2] z", "y = Relu(x) z = Neg(x)", None),
        ("float[N,1] y", "y = ReduceMean<axes = [1]>(x)", None),
        ("float[N,2,2] y", 'y = Einsum<equation = "na,nb->nab">(x, x)', None),
        ("int64[N] y", "y = ArgMax<axis = 1, keepdims = 0>(x)", None),
        ("float y", "y = ReduceSum<keepdims = 0>(x)", None),
        ("float[2,N] y", "y = Transpose(x)", None),
    ],
)
def test_only_classifiers_have_a_top1(outputs, nodes, agreement):
    m = model(f"net (float[N,2] x) => ({outputs}) <int64[2] axes = {{2,3}}> {{ {nodes} }}")
    f = fidelity(m, m, feeds(9))
    assert f.top1_agreement == agreement
    assert f.cosine == pytest.approx(1) and f.relative_l2 == 0


def test_a_number_beside_rows_that_are_compared_apart():
    """The output holds no row for each sample, so samples are run one at a time, with the same number."""
    text = """net (float[N,2] x, float by) => (float[M,2] y) <float[2,2] w = {%s}>
              { p = MatMul(x, w)  q = Mul(p, by)  y = Concat<axis = 0>(q, q) }"""
    given = {**feeds(9), "by": np.array(2, np.float32)}
    f = fidelity(model(text % "1,0,0,1"), model(text % "1,0,0,2"), given)
    assert f.samples == 9 and 0 < f.relative_l2 < 1


def test_every_output_counts_alike():
    text = """net (float[N,2] x) => (float[N,2] large, float[N,2] small) <float k = {1000}, float sign = {%d}>
              { large = Mul(x, k)  small = Mul(x, sign) }"""
    f = fidelity(model(text % 1), model(text % -1), feeds())
    assert (f.cosine, f.relative_l2) == (pytest.approx(0, abs=1e-6), pytest.approx(1))


def test_where_sizes_differ_the_rest_is_zero():
    text = """net (float[N,2] x) => (float[K] y) <float limit = {%s}, int64[1] flat = {-1}>
              { f = Reshape(x, flat)  g = Greater(f, limit)  y = Compress<axis = 0>(f, g) }"""
    f = fidelity(model(text % "0"), model(text % "1.5"), {"x": np.array([[1, 2]], np.float32)})
    assert f.cosine == pytest.approx(2 / (5**0.5 * 2))  # of (1, 2) and (2, 0)
    assert f.relative_l2 == pytest.approx((1 + 4) ** 0.5 / 5**0.5)


def test_values_that_are_not_finite():
    x = {"x": np.array([[1, 1], [0, 1]], np.float32)}
    logarithm = model("net (float[N,2] x) => (float[N,2] y) { y = Log(x) }")
    assert fidelity(logarithm, logarithm, x).cosine == 1  # -inf in both: masked
    assert fidelity(logarithm, linear(), x).cosine == 0
    with pytest.raises(StructureError, match="'y' of the result is not finite"):
        fidelity(linear(), logarithm, x)


def test_nothing_to_compare():
    text = model("net (string[N] x) => (string[N] y) { y = Identity(x) }")
    with pytest.raises(InputError, match="nothing to compare"):
        fidelity(text, text, {"x": np.array(["a"], object)})
    with pytest.raises(StructureError, match="lacks the outputs"):
        fidelity(linear(), model("net (float[N,2] x) => (float[N,2] z) { z = Relu(x) }"), feeds())
    with pytest.raises(OnnxMergeError, match="missing"):
        fidelity(linear(), linear(), {})


def test_accuracy():
    data = feeds(300)
    labels = data["x"].argmax(1)
    assert accuracy(linear(), data, labels) == 100
    assert accuracy(linear("0,1,1,0"), data, labels) == 0
    labels[:75] = 1 - labels[:75]
    assert accuracy(Session(linear()), data, labels) == 75


@pytest.mark.parametrize(
    ("labels", "hint"),
    [
        (np.zeros(299, np.int64), "one label for each sample"),
        (np.zeros(301, np.int64), "one label for each sample"),
        (np.full(300, 2), "from 0 to 1"),
        (np.full(300, -1), "from 0 to 1"),
    ],
)
def test_labels_that_do_not_fit(labels, hint):
    with pytest.raises(UsageError, match=hint):
        accuracy(linear(), feeds(300), labels)


def test_accuracy_of_what_is_no_classifier():
    with pytest.raises(UsageError, match="scores"):
        accuracy(model("net (float[N,2] x) => (float y) { y = ReduceSum(x) }"), feeds(3), np.zeros(3, np.int64))


def info(shape, name="x"):
    return TensorInfo(name, np.dtype(np.float32), shape)


def test_batches_are_bounded_in_bytes_and_samples():
    def divided(count, batch=ANY, *, most):
        divide = batches(feeds(count), [info(("N", 2))], batch, BatchTuning(bytes=most))
        return [(len(f["x"]), size, valid) for f, size, valid in divide]

    sizes = divided(25, most=80)
    assert sizes == [(10, 10, 10), (10, 10, 10), (5, 5, 5)]
    clips = divided(25, BatchSize(unit=4), most=80)
    assert clips == [(8, 8, 8), (8, 8, 8), (8, 8, 8), (4, 4, 1)]  # of ten that fit, whole clips
    assert len(divided(25, most=1)) == 25
    assert [valid for _, _, valid in divided(300, most=10**9)] == [128, 128, 44]


def test_inputs_that_share_no_batch_are_one_run():
    odd = {"x": np.zeros((5, 2)), "priors": np.zeros((7, 4))}
    assert [(s, v) for _, s, v in batches(odd, [info(("N", 2)), info((7, 4), "priors")])] == [(1, 1)]
    scalar = {"x": np.zeros((5, 2)), "threshold": np.array(0.5)}
    [(chunk, _, valid)] = batches(scalar, [info(("N", 2)), info((), "threshold")])
    assert chunk["threshold"].shape == () and valid == 5


def test_the_provider_is_reported():
    assert fidelity(linear(), linear(), feeds(2), session.CPU).provider == "cpu"


def test_models_that_optimisations_of_onnxruntime_break():
    """Both are loaded with as many as work."""
    whole = network_the_optimiser_breaks()
    given = {"x": np.random.default_rng(0).standard_normal((8, 6)).astype(np.float32)}
    assert fidelity(whole, whole, given).cosine == pytest.approx(1)
    with pytest.raises(UsageError, match="leave the labels out"):  # it runs, but its output is no scores
        accuracy(whole, given, np.zeros(8, np.int64))
