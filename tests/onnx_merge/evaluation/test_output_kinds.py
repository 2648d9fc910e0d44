"""Comparison of outputs of several kinds: classes, boxes, maps and others."""

import numpy as np
import onnx.parser
import pytest

from onnx_merge.errors import StructureError
from onnx_merge.evaluation.fidelity import fidelity
from onnx_merge.runtime.batching import BatchSize
from passes.analysis.integer_outputs import integer_outputs

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'


def model(signature, body, constants=""):
    return onnx.parser.parse_model(f"{HEAD} net {signature} {constants} {{ {body} }}")


def feeds(count=64, size=6, seed=0, scale=1.0):
    return {"x": (scale * np.random.default_rng(seed).standard_normal((count, size))).astype(np.float32)}


def compared(signature, before, after, given=None, constants="", **options):
    pair = [model(signature, body, constants) for body in (before, after)]
    return fidelity(*pair, given or feeds(), integers=integer_outputs(pair[0]), **options)


BOXES = "<float k = {80}, float three = {3}, int64[2] parts = {4, 2}>"
DETECTOR = """b, s = Split<axis = 1>(x, parts)  t = Sub(s, three)  c = Sigmoid(t)  m = Mul(b, k)  n = Add(m, k)
              %s  y = Concat<axis = 1>(n, d)"""


def test_boxes_do_not_hide_scores():
    signature = "(float[N,6] x) => (float[N,6] y)"
    before, after = DETECTOR % "d = Identity(c)", DETECTOR % "d = Mul(c, c)"
    given = feeds(500, scale=2.0)
    close = compared(signature, before, after, given, BOXES)
    assert close.relative_l2 < 0.01 and close.cosine > 0.9999
    assert close.verdict == "bad" and close.loss > 0.1 and close.outputs[0].changed is None
    assert compared(signature, before, before, given, BOXES).verdict == "good"
    asleep = compared(signature, before, after, feeds(scale=0.1), BOXES)  # no score rises: they are not tested
    assert asleep.verdict == "untested" and "none of its scores" in asleep.why


def test_a_classifier_that_always_says_the_same_is_not_tested():
    signature, constants = "(float[N,6] x) => (float[N,6] y)", "<float[6] b = {9, 0, 0, 0, 0, 0}, float k = {-1}>"
    same, other = "z = Add(x, b)  y = Softmax(z)", "m = Mul(x, k)  z = Add(m, b)  y = Softmax(z)"
    close = compared(signature, same, other, constants=constants)
    assert close.top1_agreement == 1 and close.cosine > 0.99
    assert close.verdict == "untested" and close.outputs[0].reason == "100% of the samples show one class only"
    awake = compared(signature, same, other, feeds(scale=9.0), constants)
    assert awake.verdict == "bad" and awake.outputs[0].kl > 1


def test_several_outputs_are_judged_each():
    signature = "(float[N,6] x) => (float[N,6] fine, float[N,6] lost, float[3] priors, int64[N] best)"
    body = "fine = Relu(x)  lost = %s(x)  priors = Identity(p)  best = ArgMax<axis = 1, keepdims = 0>(x)"
    constants = "<float[3] p = {1, 2, 3}>"
    close = compared(signature, body % "Sigmoid", body % "Elu", constants=constants)
    assert close.verdict == "bad" and close.worst.name == "lost"
    assert [(o.name, o.tested) for o in close.outputs] == [
        ("lost", True),
        ("fine", True),
        ("best", True),
        ("priors", False),
    ]
    same = compared(signature, body % "Elu", body % "Elu", constants=constants)
    assert same.verdict == "good" and same.outputs[-1].reason == "it is the same for every sample"


def test_features_are_judged_by_noise_and_logits_by_classes():
    signature = "(float[N,6] x) => (float[N,6] y)"
    """So are numbers (N, C) of unlike scale, or of which one is always the largest: they are no classes."""
    features = compared(signature, "y = Tanh(x)", "z = Tanh(x) y = Tanh(z)", feeds(scale=0.3))
    assert features.outputs[0].changed is None and features.top1_agreement == 1
    logits = compared(signature, "y = Identity(x)", "y = Add(x, b)", feeds(scale=3), "<float[1] b = {100}>")
    assert logits.outputs[0].changed == 0 and logits.outputs[0].kl == pytest.approx(0, abs=1e-6)
    assert logits.loss == 0 and logits.why.endswith("class scores or quantities? See --labels and --metric")
    landmarks = compared(signature, *["y = Mul(x, k)"] * 2, constants="<float[6] k = {100, 1, 1, 1, 1, 1}>")
    assert landmarks.outputs[0].changed is None and landmarks.verdict == "good"
    ordered = compared(signature, *["y = Add(x, b)"] * 2, constants="<float[6] b = {0, 0, 0, 0, 0, 99}>")
    assert ordered.outputs[0].changed is None and ordered.verdict == "good"


def test_whole_numbers_are_classes():
    signature = "(float[N,6] x) => (int64[N] y)"
    close = compared(signature, *(f"y = {op}<axis = 1, keepdims = 0>(x)" for op in ("ArgMax", "ArgMin")))
    assert close.outputs[0].changed == 1 and close.outputs[0].nsr is None and close.outputs[0].kl is None
    assert close.verdict == "bad"


@pytest.mark.parametrize("labels", ["int64[6] k = {10, 20, 30, 40, 50, 60}", "float[6] k = {10, 20, 30, 40, 50, 60}"])
@pytest.mark.parametrize("pick", ["ai.onnx.ml.ArrayFeatureExtractor(k, i)", "Gather(k, i)"])
def test_labels_that_are_picked_from_a_table_are_classes(labels, pick):
    """As scikit-learn's converter writes them. An error in one of 64 is no matter of how far apart the labels are."""
    body = f"i = ArgMax<axis = 1>(%s)  p = {pick}  r = Reshape(p, flat)  y = Cast<to = 7>(r)"
    header = HEAD.replace(": 17", ': 17, "ai.onnx.ml" : 3')
    text = f"{header} net (float[N,6] x) => (int64[N] y) <{labels}, int64[1] flat = {{-1}}>"
    pair = [onnx.parser.parse_model(f"{text} {{ {body % name} }}") for name in ("x", "x")]
    same = fidelity(*pair, feeds(), integers=integer_outputs(pair[0]))
    assert same.outputs[0].changed == 0 and same.outputs[0].nsr is None and same.verdict != "bad"


def test_a_run_is_a_sample_where_outputs_have_no_axis_of_samples():
    signature, body = "(float[N,6] x) => (float[M] y)", "z = %s(x)  y = Reshape(z, flat)"
    close = compared(signature, body % "Relu", body % "Elu", constants="<int64[1] flat = {-1}>")
    assert close.samples == 64 and close.outputs[0].tested and close.outputs[0].nsr > 0.1
    text = "z = Relu(x)  f = Reshape(z, flat)  g = Greater(f, limit)  y = Compress<axis = 0>(f, g)"
    constants = "<int64[1] flat = {-1}, float limit = {0}>"
    varies = compared(signature, text, text, constants=constants)
    assert varies.verdict == "untested" and varies.why == "its size depends on the sample"
    one_size = model("(float[4,6] x) => (float[6] y)", "y = ReduceSum<keepdims = 0>(x, axes)", "<int64[1] axes = {0}>")
    assert fidelity(one_size, one_size, feeds()).samples == 64


def test_rows_run_together_where_the_output_of_one_is_empty():
    """Differences of neighbouring rows: of 60 rows, seven runs of eight are compared."""
    signature, constants = "(float[N,6] x) => (float[M,6] y)", "<int64[1] o={0}, int64[1] i={1}, int64[1] z={-1}>"
    text = "f = %s(x)  a = Slice(f, i, most, o)  b = Slice(f, o, z, o)  y = Sub(a, b)"
    constants = constants[:-1] + ", int64[1] most={999}>"
    close = compared(signature, text % "Relu", text % "Elu", feeds(60), constants)
    assert close.samples == 56 and close.outputs[0].tested and close.outputs[0].nsr > 0.1


def test_one_sample_tests_nothing():
    close = compared("(float[N,6] x) => (float[N,6,1] y)", *["y = Unsqueeze(x, a)"] * 2, feeds(1), "<int64[1] a = {2}>")
    assert close.verdict == "untested" and close.why == "one sample shows no spread"


def test_values_that_are_not_finite_do_not_count():
    body = "y = Log(x) z = Unsqueeze(y, a)"
    close = compared("(float[N,6] x) => (float[N,6,1] z)", body, body, constants="<int64[1] a = {2}>")
    assert close.outputs[0].nsr == 0


def test_maps_of_scores_stand_noise_that_changes_few_classes():
    """A map (N, C, H, W) may hold scores or colours: what changes few classes is not good for that, but not bad."""
    x = np.random.default_rng(0).standard_normal((40, 3, 8, 8)).astype(np.float32)
    x[np.arange(40) % 2 == 0, 1, :4] += 6
    signature, before = "(float[N,3,H,W] x) => (float[N,3,H,W] y)", "y = Mul(x, k)"
    after = "z = Mul(x, k)  c = Clip(z, low, high)  y = Mul(c, half)"
    constants = "<float k = {4}, float low = {-9}, float high = {40}, float half = {0.6}>"
    close = compared(signature, before, after, {"x": x}, constants)
    assert close.loss > 0.1 and close.verdict == "untested" and "depends on the task" in close.why
    dull = constants.replace("{4}", "{0.1}")  # softmax of which says little: no scores
    assert compared(signature, before, after, {"x": x}, dull).verdict == "bad"
    assert compared(signature, before, before, {"x": x}, constants).verdict == "good"


TO_PIXELS = """s = Sigmoid(x)  t = Mul(s, %s)  p = Mul(t, k)  q = Clip(p, low, high)  r = Round(q)
               y = Cast<to = 2>(r)"""


def test_rounded_numbers_are_quantities_and_labels_are_classes():
    signature = "(float[N,1,2,3] x) => (uint8[N,1,2,3] y)"
    constants = "<float k = {255}, float low = {0}, float high = {255}, float one = {1}, float less = {%s}>"
    pixels = {"x": feeds()["x"].reshape(-1, 1, 2, 3)}
    for less, verdict in ((0.99, "good"), (0.5, "bad")):
        close = compared(signature, TO_PIXELS % "one", TO_PIXELS % "less", pixels, constants % less)
        assert close.verdict == verdict and close.changed is None and close.nsr is not None
    # numbers of classes that went through floats are no quantities
    best = "b = ArgMax<axis = 1>(%s)  f = Cast<to = 1>(b)  y = Cast<to = 2>(f)"
    signature = "(float[N,6] x) => (uint8[N,1] y)"
    body = f"a = Identity(x)  n = Neg(x)  {best}"
    assert compared(signature, body % "a", body % "n").changed > 0.9


def test_quantised_scores_are_class_scores():
    signature, constants = "(float[N,6] x) => (int8[N,6] y)", "<float s = {0.05}, int8 z = {3}, float k = {3}>"
    body = "l = Mul(x, k)  %s  y = QuantizeLinear(t, s, z)"
    near, far = (
        compared(signature, body % "t = Identity(l)", body % t, constants=constants)
        for t in ("t = Relu(l)", "t = Neg(l)")
    )
    assert near.top1_agreement > 0.9 and far.top1_agreement < 0.2 and far.verdict == "bad"


def test_classes_count_beside_other_outputs():
    """Whatever float outputs say: a class is what its users read."""
    signature, constants = "(float[N,6] x) => (int64[N] best, bool[N,6] high, float[N,1] mean)", "<float[1] t = {0.2}>"
    body = """b = %s(x)  best = ArgMax<axis = 1, keepdims = 0>(b)  mean = ReduceMean<axes = [1]>(x)
              high = Greater(%s, t)"""
    same, other, flags = (body % parts for parts in (("Identity", "x"), ("Neg", "x"), ("Identity", "b")))
    close = compared(signature, same, other, constants=constants)
    assert close.verdict == "bad" and close.worst.name == "best" and close.loss > 0.5 and close.cosine == 1
    assert compared(signature, same, flags, constants=constants).verdict == "good"


def test_lists_in_an_order_are_judged_by_their_scores():
    signature = "(float[N,6] x) => (float[N,2] scores, int64[N,2] at, int64[N,1] first)"
    body = "y = Mul(x, %s)  scores, at = TopK<axis = 1>(y, k)  first = Gather<axis = 1>(at, one)"
    constants = "<int64[1] k = {2}, int64[1] one = {0}, float a = {1}, float[6] b = {1, 1, 1, 1, 1, 1.01}>"
    close = compared(signature, body % "a", body % "b", constants=constants)
    assert {o.name for o in close.outputs} == {"scores", "first"} and close.verdict == "good"
    alone = "(float[N,6] x) => (int64[N,2] at)"
    assert [o.name for o in compared(alone, body % "a", body % "b", constants=constants).outputs] == ["at"]


def test_an_order_of_sizes_leaves_nothing_out():
    """As exporters write an Expand."""
    signature = "(float[N,6] x) => (float[N,6] same, bool[N,6] high)"
    body = """s = Shape(x)  o = ConstantOfShape(s)  one = Cos(o)  at = NonZero(one)  t = Transpose(at)
              z = GatherND(%s, t)  f = Reshape(z, s)  same = Identity(x)  high = Greater(f, zero)"""
    close = compared(signature, body % "x", f"n = Neg(x)  {body % 'n'}", constants="<float zero = {0}>")
    assert {o.name for o in close.outputs} == {"same", "high"} and close.verdict == "bad"


def test_marks_that_move_are_a_loss_and_no_fault():
    signature = "(float[N,6] x) => (float[N,6] y)"
    constants = "<float none = {nan}, float zero = {0}, float one = {0.05}>"
    body = "m = Less(x, %s)  y = Where(m, none, x)"
    small, large = (compared(signature, body % "zero", body % other, constants=constants) for other in ("one", "zero"))
    assert 0 < small.nsr < 0.1 and large.nsr == 0
    gone = compared(signature, body % "zero", "m = Greater(x, zero)  y = Where(m, none, x)", constants=constants)
    assert gone.verdict == "bad" and gone.nsr > 0.5
    with pytest.raises(StructureError, match="'y' of the result is not finite"):
        compared(signature, "y = Identity(x)", body % "zero", constants=constants)


def test_marks_in_place_of_zeros_count():
    """As in a mask of 0 and -inf, and behind a Relu."""
    signature, constants = (
        "(float[N,6] x) => (float[N,6] y)",
        "<float none = {-inf}, float zero = {0}, float two = {2}>",
    )
    mask = "m = Less(%s, zero)  y = Where(m, none, zero)"
    moved = compared(signature, mask % "x", f"n = Neg(x)  {mask % 'n'}", constants=constants)
    assert moved.verdict == "bad" and moved.nsr > 1
    assert compared(signature, mask % "x", mask % "x", constants=constants).nsr == 0
    some = "r = Relu(x)  m = Greater(x, two)  a = Where(m, none, r)"
    more = f"{some}  o = Less(x, zero)  y = Where(o, none, a)"
    assert compared(signature, f"{some}  y = Identity(a)", more, constants=constants).verdict == "bad"


def test_marks_that_never_vary_stay_where_they_are():
    signature, constants = (
        "(float[N,2] x) => (float[N,2] y)",
        "<float[2] one = {0, -inf}, float[2] both = {-inf, -inf}>",
    )
    given = {"x": feeds()["x"][:, :2]}
    same = compared(signature, "y = Add(x, one)", "y = Add(x, one)", given, constants)
    assert same.nsr == 0
    with pytest.raises(StructureError, match="not finite"):
        compared(signature, "y = Add(x, one)", "y = Add(x, both)", given, constants)


def test_large_rounded_numbers_keep_their_spread():
    signature, constants = "(double[N,1] x) => (int64[N,1] y)", "<double[1] late = {1.7e9}, double two = {2}>"
    body = "t = Mul(x, %s)  s = Add(t, late)  r = Round(s)  y = Cast<to = 7>(r)"
    given = {"x": 6 * feeds()["x"][:, :1].astype(np.float64)}
    close = compared(signature, body % "one", body % "two", given, constants.replace(">", ", double one = {1}>"))
    assert close.verdict == "untested" and close.why.endswith("of its level")
    assert close.changed is None and close.nsr == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    "end", ["s = Sigmoid(x)  r = Round(s)  y = Cast<to = 7>(r)", "r = Relu(x)  y = Cast<to = 9>(r)"]
)
def test_rounded_probabilities_and_flags_are_classes(end):
    kind = "bool" if "to = 9" in end else "int64"
    assert compared(f"(float[N,6] x) => ({kind}[N,6] y)", end, end).changed == 0


def test_what_layers_make_of_neighbours_is_in_no_order():
    signature = "(float[N,6,2] x) => (float[N,2] mean, int64[N,6] label)"
    body = """l = ReduceSum<keepdims = 0>(x, two)  v, at = TopK<axis = 1>(l, one)  u = Unsqueeze(at, two)
              n = GatherND<batch_dims = 1>(x, u)  f = Add(x, n)  c = MatMul(f, w)
              label = ArgMax<axis = 2, keepdims = 0>(c)  mean = ReduceMean<axes = [1], keepdims = 0>(x)"""
    constants = "<int64[1] one = {1}, int64[1] two = {2}, float[2,3] w = {1, -1, 0.5, 0.5, 1, -1}>"
    other = body.replace("MatMul(f, w)", "MatMul(g, w)").replace("f = Add", "f = Add(x, n)  g = Neg(f)  f2 = Add")
    given = {"x": np.random.default_rng(0).standard_normal((64, 6, 2)).astype(np.float32)}
    close = compared(signature, body, other, given, constants)
    assert close.verdict == "bad" and close.worst.name == "label"


def test_an_output_that_is_left_out_orders_nothing():
    signature = "(float[N,6] x) => (float[N,6] same, int64[N] best)"
    body = """u, , back = Unique(x)  c = Clip(x, , ten)  n = %s(c)  best = ArgMax<axis = 1, keepdims = 0>(n)
              same = Identity(x)"""
    close = compared(signature, body % "Identity", body % "Neg", constants="<float ten = {10}>")
    assert close.worst.name == "best" and close.verdict == "bad"


def test_marks_may_begin_in_a_later_batch():
    signature = "(float[N,6] x) => (float[N,6] y)"
    constants = "<float none = {nan}, float zero = {0}, float one = {0.5}>"
    given = {"x": np.abs(feeds(48)["x"])}
    given["x"][40:] *= -1
    pair = [f"m = Less(x, {bound})  y = Where(m, none, x)" for bound in ("zero", "one")]
    few, at_once = (compared(signature, *pair, given, constants, batch=BatchSize(most=most)) for most in (8, 48))
    assert few.nsr == pytest.approx(at_once.nsr, rel=1e-6) and few.verdict == "bad"
