"""What makes a result unsound, and how far its outputs are from the original's."""

import numpy as np
import onnx
import onnx.parser
import pytest

from onnx_merge import parity, runtime, save
from onnx_merge.errors import InputError, OnnxMergeError, StructureError, UsageError
from onnx_merge.parity import accuracy, batches, check_structure, fidelity
from onnx_merge.runtime import Session, TensorInfo

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'


def model(body):
    return onnx.parser.parse_model(HEAD + body)


def linear(weights="1,0,0,1", signature="(float[N,2] x) => (float[N,2] y)"):
    return model(f"net {signature} <float[2,2] w = {{{weights}}}> {{ [product] y = MatMul(x, w) }}")


def unsound(original, result, **kwargs):
    with pytest.raises(StructureError) as caught:
        check_structure(original, result, **kwargs)
    assert caught.value.exit_code == 5 and "\n" not in str(caught.value)
    return str(caught.value)


def test_a_sound_result_leaves_nothing_unchecked():
    assert check_structure(linear(), linear("1,2,3,4")) == []


def test_an_invalid_result():
    broken = linear()
    broken.graph.node[0].input[0] = "nothing"
    assert "not a valid model" in unsound(linear(), broken)


def test_shapes_that_contradict_each_other():
    broken = model("net (float[N,2] x) => (float[N,2] y) <float[3,2] w = {1,2,3,4,5,6}> { [product] y = MatMul(x, w) }")
    message = unsound(linear(), broken)
    assert "contradict each other" in message and "product" in message
    assert any("as it does on the original" in note for note in check_structure(broken, broken))


@pytest.mark.parametrize(
    ("signature", "hint"),
    [
        ("(float[N,2] z) => (float[N,2] y)", "inputs of the result"),
        ("(float[N,2] x, float[N,2] z) => (float[N,2] y)", "inputs of the result"),
        ("(double[N,2] x) => (float[N,2] y)", "another type in the result: DOUBLE, not FLOAT"),
        ("(float[M,2] x) => (float[N,2] y)", "input 'x' has shape ['M', 2] in the result, not ['N', 2]"),
        ("(float[1,2] x) => (float[N,2] y)", "[1, 2]"),
        ("(float[N,2] x) => (float[N,3] y)", "output 'y' has shape ['N', 3]"),
        ("(float[N,2] x) => (float[1,2] y)", "output 'y' has shape [1, 2]"),
        ("(float[N,2] x) => (float[] y)", "output 'y'"),
    ],
)
def test_another_interface(signature, hint, monkeypatch):
    monkeypatch.setattr(parity, "_check_sound", lambda *_: [])  # which would object to some of these first
    assert hint in unsound(linear(), linear(signature=signature))


def test_what_the_original_left_open_may_be_declared(monkeypatch):
    open_output = linear(signature="(float[N,2] x) => (float[?,?] y)")
    assert check_structure(open_output, linear()) == []
    open_output.graph.output[0].type.tensor_type.ClearField("shape")
    assert check_structure(open_output, linear()) == []
    monkeypatch.setattr(parity, "_check_sound", lambda *_: [])
    assert "shape None" in unsound(linear(), open_output)


def test_initializers_among_the_inputs_are_no_inputs():
    old = linear()
    old.ir_version = 3
    old.graph.input.add().CopyFrom(onnx.helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, [2, 2]))
    assert check_structure(old, linear()) == []


def test_a_result_that_does_not_load():
    broken = linear()
    broken.opset_import.add(domain="own", version=1)
    broken.graph.node[0].domain = "own"
    assert "does not load" in unsound(linear(), broken)
    assert any("the original does not load either" in note for note in check_structure(broken, broken))


def test_a_result_that_does_not_run_at_every_batch_size():
    flatten = "net (float[N,2] x) => (float[?,?] y) <int64[2] s = {%d,-1}> { y = Reshape(x, s) }"
    message = unsound(model(flatten % 1), model(flatten % 3))
    assert "does not run at batch size 1, where the original does" in message


def test_a_batch_size_at_which_the_original_fails_is_reported():
    rigid = model("net (float[N,2] x) => (float[M,2] y) <int64[2] s = {3,2}> { y = Reshape(x, s) }")
    [note] = check_structure(rigid, rigid)
    assert "not run at batch size 1, since the original does not run either" in note


def test_another_shape_than_declared():
    lying = model("net (float[N,2] x) => (float[N,2] y) <int64[2] s = {2,-1}> { t = Transpose(x) y = Reshape(t, s) }")
    message = unsound(linear(), lying)
    assert "output 'y' has shape (2, 1) at batch size 1, the original's has (1, 2)" in message
    assert any("unlike its declaration" in note for note in check_structure(lying, lying))


def test_numbers_that_are_not_finite():
    nan = model("net (float[N,2] x) => (float[N,2] y) { a = Mul(x, x) b = Neg(a) y = Log(b) }")
    assert "not finite at batch size 1, where the original's is" in unsound(linear(), nan)
    assert check_structure(nan, nan) == [f"output 'y' of the original is not finite at batch size {n}" for n in (1, 3)]
    assert len(check_structure(nan, linear())) == 2


def test_a_data_dependent_shape_may_change():
    found = "net (float[N,2] x) => (int64[2,K] y) { h = %s(x)  y = NonZero(h) }"
    assert check_structure(model(found % "Abs"), model(found % "Relu")) == []


def test_sequences_and_strings_are_reported():
    sequence = model("net (seq(float[N]) s, int64 i) => (float[N] y) { y = SequenceAt(s, i) }")
    assert any("'s' is a seq" in note for note in check_structure(sequence, sequence))
    text = model("net (string[N] x) => (string[N] y) { y = Identity(x) }")
    assert any("takes strings" in note for note in check_structure(text, text))


def test_sizes_are_the_users_fault():
    with pytest.raises(UsageError):
        check_structure(linear(), linear(), sizes={"nothing": 3})


def test_large_results_are_checked_through_files(monkeypatch):
    monkeypatch.setattr(save, "PROTOBUF_LIMIT", save.HEADROOM)
    assert check_structure(linear(), linear()) == []
    broken = linear()
    broken.graph.node[0].input[0] = "nothing"
    assert "not a valid model" in unsound(linear(), broken)


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


def test_batches_are_bounded_in_bytes_and_samples(monkeypatch):
    monkeypatch.setattr(parity, "CHUNK_BYTES", 80)
    sizes = [(len(f["x"]), size, valid) for f, size, valid in batches(feeds(25), [info(("N", 2))])]
    assert sizes == [(10, 10, 10), (10, 10, 10), (5, 5, 5)]
    monkeypatch.setattr(parity, "CHUNK_BYTES", 1)
    assert sum(1 for _ in batches(feeds(25), [info(("N", 2))])) == 25
    monkeypatch.setattr(parity, "CHUNK_BYTES", 10**9)
    assert [v for _, _, v in batches(feeds(300), [info(("N", 2))])] == [128, 128, 44]


def test_inputs_that_share_no_batch_are_one_run():
    odd = {"x": np.zeros((5, 2)), "priors": np.zeros((7, 4))}
    assert [(s, v) for _, s, v in batches(odd, [info(("N", 2)), info((7, 4), "priors")])] == [(1, 1)]
    scalar = {"x": np.zeros((5, 2)), "threshold": np.array(0.5)}
    [(chunk, _, valid)] = batches(scalar, [info(("N", 2)), info((), "threshold")])
    assert chunk["threshold"].shape == () and valid == 5


def test_the_provider_is_reported():
    assert fidelity(linear(), linear(), feeds(2), runtime.CPU).provider == "cpu"
