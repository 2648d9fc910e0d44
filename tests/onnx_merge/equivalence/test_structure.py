"""What makes a result unsound."""

import onnx
import onnx.parser
import pytest

from onnx_merge.equivalence import structure
from onnx_merge.equivalence.structure import check_structure
from onnx_merge.errors import StructureError, UsageError
from onnx_merge.inputs.assignments import Assignments
from onnx_merge.io import save
from onnx_merge.tuning.inputs import MODEL_FILES

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
    monkeypatch.setattr(structure, "_check_sound", lambda *_: [])  # which would object to some of these first
    assert hint in unsound(linear(), linear(signature=signature))


def test_what_the_original_left_open_stays_open(monkeypatch):
    open_output = linear(signature="(float[N,2] x) => (float[?,?] y)")
    assert "output 'y' has shape ['N', 2] in the result, not ['?', '?']" in unsound(_named(open_output), linear())
    open_output.graph.output[0].type.tensor_type.ClearField("shape")
    assert "shape ['N', 2] in the result, not None" in unsound(open_output, linear())
    monkeypatch.setattr(structure, "_check_sound", lambda *_: [])
    assert "shape None" in unsound(linear(), open_output)


def _named(m):
    for dim in m.graph.output[0].type.tensor_type.shape.dim:
        dim.dim_param = "?"
    return m


def test_texts_and_denotations_stay():
    denoted = linear()
    denoted.graph.input[0].type.tensor_type.shape.dim[0].denotation = "DATA_BATCH"
    assert "input 'x' is not declared as in the original" in unsound(denoted, linear())
    assert check_structure(denoted, denoted) == []


def test_inputs_with_a_default_can_still_be_given():
    text = """net (float[N,2] x) => (float[N,2] y) <float[2,2] w = {1,0,0,1}, float[2] b = {1,2}>
              { p = MatMul(x, w)  y = Add(p, b) }"""
    old, new, both = model(text), model(text), model(text)
    matrix = onnx.helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, [2, 2])
    for m in (old, both):
        m.graph.input.append(matrix)
    assert check_structure(old, old) == []
    assert "input 'w', which has a default, can no longer be given" in unsound(old, new)
    both.graph.input.append(onnx.helper.make_tensor_value_info("b", onnx.TensorProto.FLOAT, [2]))  # a habit, no choice
    assert check_structure(both, new) == []


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (lambda m: setattr(m.graph, "name", "other"), "name of the graph is 'other'"),
        (lambda m: setattr(m, "doc_string", ""), "text of the model"),
        (lambda m: setattr(m.graph, "doc_string", ""), "text of the graph"),
        (lambda m: m.ClearField("metadata_props"), "lacks the metadata ['author']"),
        (lambda m: setattr(m.opset_import[0], "version", 18), "version 18 of the operators 'ai.onnx', not 17"),
    ],
)
def test_what_is_said_of_the_model_stays(change, hint):
    old, new = linear(), linear()
    for m in (old, new):
        m.doc_string, m.graph.doc_string = "a", "b"
        m.metadata_props.add(key="author", value="x")
    assert check_structure(old, new) == []
    change(new)
    assert hint in unsound(old, new)


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


def test_a_result_that_does_not_run_at_every_size():
    flatten = "net (float[N,2] x) => (float[?,?] y) <int64[2] s = {%d,-1}> { y = Reshape(x, s) }"
    message = unsound(model(flatten % 1), model(flatten % 3))
    assert "does not run at x:2,2, where the original does" in message
    square = "net (float[N,3,H,W] x) => (float[N,3,H,W] y) { y = Relu(x) }"
    pinned = """net (float[N,3,H,W] x) => (float[N,3,H,W] y) <int64[4] s = {-1,3,64,64}>
                { r = Relu(x)  y = Reshape(r, s) }"""
    assert "does not run at x:2,3,37,29" in unsound(model(square), model(pinned))


def test_a_model_that_runs_at_one_batch_size():
    rigid = model("net (float[N,2] x) => (float[M,2] y) <int64[2] s = {3,2}> { y = Reshape(x, s) }")
    [note] = check_structure(rigid, rigid)
    assert "run at one size of N only" in note


def test_a_model_that_runs_nowhere_is_reported():
    never = model("net (float[N,2] x) => (float[M,3] y) <int64[2] s = {1001,3}> { y = Reshape(x, s) }")
    [note] = check_structure(never, never)
    assert "not run, since the original was not run at any size either" in note
    fixed = model(
        "net (float[4,2] x) => (float[M,2] y) <int64[1] k = {1001}> { s = Shape(x) t = Add(s, k) y = Reshape(x, t) }"
    )
    [note] = check_structure(fixed, fixed)
    assert "not run at x:4,2, since the original does not run either" in note


def test_assignments_that_are_known_are_used():
    known = Assignments(({"x": (5, 2)},))
    broken = model("net (float[N,2] x) => (float[N,2] y) <int64[2] s = {4,2}> { y = Reshape(x, s) }")
    assert "does not run at x:5,2" in unsound(linear(), broken, assignments=known)


def test_another_shape_or_type():
    lying = model("net (float[N,2] x) => (float[N,2] y) <int64[2] s = {2,-1}> { t = Transpose(x) y = Reshape(t, s) }")
    message = unsound(linear(), lying)
    assert "output 'y' has shape (2, 3) at x:3,2, the original's has (3, 2)" in message
    assert any("unlike its declaration" in note for note in check_structure(lying, lying))
    undeclared = "net (float[N,2] x) => (float[?,?] y) <int64[2] s = {%s}> { y = Reshape(x, s) }"
    assert "has shape" in unsound(model(undeclared % "0,2"), model(undeclared % "2,-1"))


def test_numbers_that_are_not_finite():
    nan = model("net (float[N,2] x) => (float[N,2] y) { a = Mul(x, x) b = Neg(a) y = Log(b) }")
    assert "not finite at x:2,2, from y (Log) on, where the original's is; --exclude leaves" in unsound(linear(), nan)
    places = ("x:2,2", "x:3,2", "x:1,2")
    assert check_structure(nan, nan) == [f"output 'y' of the original is not finite at {p}" for p in places]
    assert len(check_structure(nan, linear())) == 3


def test_values_that_mark_places_may_mark_others_and_are_nobodys_fault():
    marked = "<float none = {nan}, float[2] t = {%s}> { m = Less(x, t) c = Identity(none) y = Where(m, c, x) }"
    signature = "net (float[N,2] x) => (float[N,2] y)"
    some, all_, never = (model(f"{signature} {marked % t}") for t in ("0, 0", "0, 9", "-999, -999"))
    assert all("not finite" in note for note in check_structure(some, all_))
    assert "from y (Where) on" in unsound(never, some)  # the constant is no finite number before either


@pytest.mark.parametrize(
    "found",
    [
        "net (float[N,2] x) => (int64[2,K] y) { h = %s(x)  y = NonZero(h) }",
        """net (float[N,2] x) => (float[K] y) <int64[1] one = {1}>
           { h = %s(x)  z = NonZero(h)  t = Transpose(z)  g = GatherND(h, t)  y = Sqrt(g) }""",
    ],
)
def test_a_data_dependent_shape_may_change(found):
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
    monkeypatch.setattr(save, "PROTOBUF_LIMIT", MODEL_FILES.headroom)
    assert check_structure(linear(), linear()) == []
    broken = linear()
    broken.graph.node[0].input[0] = "nothing"
    assert "not a valid model" in unsound(linear(), broken)
