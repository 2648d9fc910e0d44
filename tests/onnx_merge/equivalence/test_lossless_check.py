"""A result that was to lose nothing is compared with the original: what counts as moved, and what does not."""

import numpy as np
import onnx.numpy_helper
import onnx.parser
import pytest

from onnx_merge.equivalence.lossless_check import RANDOM, check_unchanged
from onnx_merge.errors import StructureError
from onnx_merge.inputs.assignments import Assignments, find_assignments
from onnx_merge.runtime.session import Session

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'


def model(body, **arrays):
    m = onnx.parser.parse_model(HEAD + body)
    for name, array in arrays.items():
        m.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    return m


def check(original, result, assignments=None):
    found = assignments or find_assignments(Session(original), model=original)
    return check_unchanged(original, result, found)


def moved(original, result, **kwargs):
    with pytest.raises(StructureError) as caught:
        check(original, result, **kwargs)
    assert caught.value.exit_code == 5 and "\n" not in str(caught.value)
    return str(caught.value)


def rng_weights(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


NET = """net (float[N,6] x) => (float[N,3] y)
         { h = MatMul(x, w)  [act] r = Relu(h)  z = MatMul(r, v)  [last] y = Tanh(z) }"""


def test_the_same_function_in_another_form():
    w, v = rng_weights(6, 8), rng_weights(8, 3, seed=1)
    order = np.random.default_rng(2).permutation(8)
    assert check(model(NET, w=w, v=v), model(NET, w=w[:, order] * 3, v=v[order] / 3)) == []


def test_the_first_tensor_that_moved_is_named():
    w, v = rng_weights(6, 8), rng_weights(8, 3, seed=1)
    wrong = w.copy()
    wrong[:, 2] *= 2
    message = moved(model(NET, w=w, v=v), model(NET, w=wrong, v=v))
    assert "tensor 'h' of MatMul is the first that moved" in message and "(output 'y': " in message
    assert "at x:2,6, inputs times 1" in message
    narrow = moved(model(NET, w=w, v=v), model(NET, w=w[:, :7], v=v[:7]))
    assert "tensor 'z' of MatMul is the first" in narrow


@pytest.mark.parametrize(
    ("original", "result", "scale"),
    [
        ("net (float[N,4] x) => (float[N,4] y) <float b = {50}> { y = Min(x, b) }", "y = Identity(x)", "100"),
        ("net (float[N,4] x) => (float[N,4] y) <float b = {0.00001}> { y = Add(x, b) }", "y = Identity(x)", "0.001"),
        ("net (float[N,4] x) => (float[N,4] y) <float b = {6}> { y = Min(x, b) }", "y = Identity(x)", "10"),
    ],
)
def test_several_scales_are_tried(original, result, scale):
    changed = original[: original.index("{ y")] + f"{{ {result} }}"
    assert f"inputs times {scale};" in moved(model(original), model(changed))


def test_integers_are_drawn_from_all_of_their_bounds():
    table = rng_weights(40, 3)
    body = "net (int64[N,S] ids) => (float[?,?,?] y) { y = Gather(table, ids) }"
    other = table.copy()
    other[33] = 0
    assert "tensor 'y'" in moved(model(body, table=table), model(body, table=other))
    equal = "net (int32[N,5] ids) => (float[?,?] y) <int32 k = {%d}> { e = Equal(ids, k)  y = Cast<to = 1>(e) }"
    assert "tensor 'e' of Equal" in moved(model(equal % 7), model(equal % 8))


def test_every_assignment_is_tried():
    body = """net (float[N,S] x) => (float[?,?] y) <int64[1] i1 = {1}, int64[1] i2 = {2}, int64 k = {%d}>
              { s = Shape(x)  n = Slice(s, i1, i2)  m = Min(n, k)  f = Cast<to = 1>(m)  y = Mul(x, f) }"""
    assert "at x:" in moved(model(body % 1000), model(body % 9))


def test_the_type_sets_the_tolerance():
    half = "net (float16[N,4] x) => (float16[N,4] y) { y = Mul(x, k) }"
    one = np.float16(1)
    assert check(model(half, k=one), model(half, k=np.float16(1.003))) == []
    assert "moved, by 2" in moved(model(half, k=one), model(half, k=np.float16(1.02)))
    double = "net (double[N,4] x) => (double[N,4] y) { y = Mul(x, k) }"
    assert check(model(double, k=np.float64(1)), model(double, k=np.float64(1 + 1e-9))) == []
    assert "moved" in moved(model(double, k=np.float64(1)), model(double, k=np.float64(1 + 1e-7)))


SCORES = """net (float[N,6] x) => (int64[N] best, float[N,4] row)
            { s = MatMul(x, w)  t = Mul(s, k)  best = ArgMax<axis = 1, keepdims = 0>(t)  row = Gather(table, best) }"""


def tied():
    """Pairs of columns that differ by a rounding."""
    w = rng_weights(6, 8)
    return np.concatenate([w, w * np.float32(1 + 1e-7)], axis=1), rng_weights(16, 4, seed=3)


def test_what_is_computed_in_half_precision_is_rounded_like_it():
    """A float32 output behind a layer whose weights are float16."""
    body = """net (float[N,6] x) => (float[N,3] y)
         { s = Cast<to=10>(x)  h = MatMul(s, w)  r = Relu(h)  z = MatMul(r, v)  y = Cast<to=1>(z) }"""
    w, v = rng_weights(6, 8), rng_weights(8, 3, seed=1)
    halves = model(body, w=w.astype(np.float16), v=v.astype(np.float16))
    assert check(halves, model(body, w=(w * 3).astype(np.float16), v=(v / 3).astype(np.float16))) == []
    assert "tensor 'z'" in moved(halves, model(body, w=w.astype(np.float16), v=(v * 1.05).astype(np.float16)))


def test_decisions_between_near_values_may_fall_either_way():
    w, table = tied()
    original = model(SCORES, w=w, table=table, k=np.float32(1))
    result = model(SCORES, w=w * np.float32(3), table=table, k=np.float32(1 / 3))
    session, other = Session(original, optimisation="basic"), Session(result, optimisation="basic")
    x = {"x": rng_weights(400, 6, seed=5)}
    assert (session.run(x)["best"] != other.run(x)["best"]).any()  # or nothing would be tested
    assert check(original, result, Assignments(({"x": (400, 6)},))) == []


ENDS = {
    "Acos": "t = Clip(x, minus, one)  s = Mul(t, k)",
    "Asin": "t = Clip(x, minus, one)  s = Mul(t, k)",
    "Atanh": "t = Clip(x, minus, one)  s = Mul(t, k)",
    "Acosh": "t = Clip(x, one, two)  s = Div(t, k)",
    "Sqrt": "t = Relu(x)  s = Sub(t, k)",
    "Log": "t = Relu(x)  s = Sub(t, k)",
}
"""Op -> what puts some of its data ``s`` at an end of its domain, and beyond it by a larger ``k``."""


@pytest.mark.parametrize("op", ENDS)
def test_roundings_at_an_end_of_the_domain(op):
    """They tell a number from NaN. What is no rounding is not excused."""
    base, rounding = (np.float32(0), 1e-9) if "Sub" in ENDS[op] else (np.float32(1), 1.2e-7)
    body = f"net (float[N,6] x) => (float[N,6] y) {{ {ENDS[op]}  y = {op}(s) }}"
    ends = {n: np.float32(v) for n, v in {"minus": -1, "one": 1, "two": 2}.items() if n in ENDS[op]}
    exact, near, far = (model(body, **ends, k=np.float32(base + off)) for off in (0, rounding, 0.01))
    assert exact != near and check(exact, near) == []
    assert "does not compute what the original does" in moved(exact, far)


def test_elements_that_any_rounding_makes_nan_are_not_compared():
    """The root of a difference of nearly equal sums is NaN for some roundings; what is beside it is compared."""
    body = """net (float[N,8] x) => (float[N,9] y) <float little = {0.00000001}> {
        a = MatMul(x, w)  b = MatMul(x, v)  d = Sub(a, b)  r = Pow(d, half)  e = Mul(r, little)  c = MatMul(x, u)
        y = Concat<axis = 1>(e, c) }"""
    w, u, small = rng_weights(8, 4), rng_weights(8, 5, seed=1), np.float32(1e-7)
    original = model(body, w=w, v=w * (1 + small), u=u, half=np.float32(0.3))
    result = model(body, w=w * (1 + 2 * small), v=w, u=u, half=np.float32(0.3))
    session, other = Session(original, optimisation="basic"), Session(result, optimisation="basic")
    x = {"x": rng_weights(2, 8, seed=5)}
    assert (np.isnan(session.run(x)["y"]) != np.isnan(other.run(x)["y"])).any()  # or nothing would be tested
    assert check(original, result) == []
    other = model(body, w=w * (1 + 2 * small), v=w, u=u * np.float32(1.3), half=np.float32(0.3))
    assert "does not compute what the original does" in moved(original, other)


def test_what_follows_a_decision_is_still_compared():
    w, table = tied()
    original = model(SCORES, w=w, table=table, k=np.float32(1))
    other = table.copy()
    other[5] *= 1.01
    result = model(SCORES, w=w * np.float32(3), table=other, k=np.float32(1 / 3))
    assert "does not compute what the original does" in moved(
        original, result, assignments=Assignments(({"x": (400, 6)},))
    )


def test_decisions_between_values_that_are_not_near():
    w, table = tied()
    wrong = w.copy()
    wrong[:, 4] *= np.float32(1.001)
    original, result = (model(SCORES, w=a, table=table, k=np.float32(1)) for a in (w, wrong))
    assert "tensor 's' of MatMul" in moved(original, result, assignments=Assignments(({"x": (400, 6)},)))
    limit = "net (float[N,64] x) => (bool[N,64] y) { y = Greater(x, k) }"
    message = moved(model(limit, k=np.float32(0.5)), model(limit, k=np.float32(0.6)))
    assert "tensor 'y' of Greater" in message


def test_inputs_with_a_default_are_given_other_values():
    body = "net (float[N,2] x) => (float[N,2] y) <float[2] gain = {1,2}, float b = {1}> { p = Mul(x, gain)  y = %s }"
    folded = "net (float[N,2] x) => (float[N,2] y) <float[2] gain = {1,2}, float[2] b = {1,1}> { p = %s }"
    original, result = model(body % "Add(p, b)"), model((folded % "Mul(x, k)  y = Add(p, b)"), k=np.float32([1, 2]))
    for m in (original, result):
        m.graph.input.append(onnx.helper.make_tensor_value_info("gain", onnx.TensorProto.FLOAT, [2]))
    assert "tensor 'p' of Mul" in moved(original, result)
    result.graph.node[0].input[1] = "gain"
    assert check(original, result) == []


def test_random_numbers_are_not_compared():
    noisy = "net (float[N,4] x) => (float[N,4] y) { n = RandomNormalLike(x)  y = Mul(%s, n) }"
    assert check(model(noisy % "x"), model(noisy % "n")) == [RANDOM]


def test_an_ill_conditioned_model_moves_as_far_by_itself():
    steep = "net (float[N,64] x) => (float[N,64] y) { a = Mul(x, k)  b = Mul(a, l)  y = Sin(b) }"
    original = model(steep, k=np.float32(1e3), l=np.float32(7e2))
    assert check(original, model(steep, k=np.float32(7e2), l=np.float32(1e3))) == []
    assert "moved" in moved(original, model(steep, k=np.float32(7e2), l=np.float32(1.1e3)))


def test_decisions_on_what_overflows():
    """A channel that its reader multiplies with 0 makes NaN of 0 times infinity, far out, and that a whole number."""
    body = """net (float[N,6] x) => (int8[N,3] y) <float s = {0.05}, int8 z = {1}>
              { a = MatMul(x, w)  e = Exp(a)  r = MatMul(e, v)  y = QuantizeLinear(r, s, z) }"""
    w, v = rng_weights(6, 5) * np.float32(0.05), rng_weights(5, 3, seed=1)
    w[:, 0], v[0] = 6, 0
    original = model(body, w=w, v=v)
    assert check(original, model(body, w=w[:, 1:], v=v[1:])) == []
    wrong = moved(original, model(body, w=w[:, 1:], v=v[1:] * np.float32(1.5)))
    assert "tensor 'r' of MatMul is the first that moved, by 5.0e-01 of its norm" in wrong


def test_decisions_on_what_overflows_by_fewer_channels():
    """Which cannot be told from each other, since the result has fewer of them."""
    body = """net (float[N,6] x) => (float[N,3] y) <float k = {0.1}, float[3] m = {0.3, 0.7, 0.4}>
              { a = MatMul(x, w)  e = Exp(a)  s = MatMul(e, u)  g = Greater(s, k)  h = Where(g, s, k)
                r = MatMul(h, v)  y = Mod<fmod=1>(r, m) }"""
    w, u, v = rng_weights(6, 5) * np.float32(0.05), rng_weights(5, 4, seed=1), rng_weights(4, 3, seed=2)
    w[:, 0], u[0], u[:, 1] = 6, 0, u[:, 0]
    fewer = np.delete(u[1:], 1, axis=1)
    original = model(body, w=w, u=u, v=v)
    joined = np.stack([v[0] + v[1], v[2], v[3]])
    assert check(original, model(body, w=w[:, 1:], u=fewer, v=joined)) == []
    assert "moved" in moved(original, model(body, w=w[:, 1:], u=fewer, v=v[1:]))


def test_an_ill_conditioned_model_of_whole_numbers():
    """Which cannot be rounded: the table's entries are."""
    steep = "net (int64[N,64] x) => (float[N,64,4] y) { t = Gather(w, x)  a = Mul(t, k)  b = Mul(a, l)  y = Sin(b) }"
    table = rng_weights(64, 4)
    original = model(steep, k=np.float32(1e3), l=np.float32(7e2), w=table)
    assert check(original, model(steep, k=np.float32(7e2), l=np.float32(1e3), w=table)) == []
    assert "moved" in moved(original, model(steep, k=np.float32(7e2), l=np.float32(1.1e3), w=table))


def test_constants_that_decide_are_not_rounded():
    """Whole numbers are compared with: what a rounding of these would do is no excuse."""
    hot = """net (int64[N,8] x) => (float[N,8,16] y)
             { f = Cast<to=1>(x)  u = Unsqueeze(f, last)  e = Equal(u, k)  y = Cast<to=1>(e) }"""
    k, last = np.arange(16, dtype=np.float32), np.array([2])
    assert "tensor 'e' of Equal" in moved(model(hot, k=k, last=last), model(hot, k=k[::-1].copy(), last=last))


def test_places_of_what_is_no_number():
    log = "net (float[N,64] x) => (float[N,64] y) { y = Log(%s) }"
    assert (
        check(model(log % "x"), model("net (float[N,64] x) => (float[N,64] y) { a = Neg(x) b = Neg(a) y = Log(b) }"))
        == []
    )
    assert "by inf of its norm" in moved(
        model(log % "x"), model("net (float[N,64] x) => (float[N,64] y) { a = Abs(x)  y = Log(a) }")
    )
    big = "net (float[N,64] x) => (float[N,64] y) <float k = {%s}> { a = Exp(x)  b = Mul(a, k)  y = Mul(b, a) }"
    assert check(model(big % 1), model(big % 1.000001)) == []  # overflows at 100 times


def test_what_cannot_be_run_is_said():
    text = model("net (string[N] x) => (string[N] y) { y = Identity(x) }")
    other = model("net (string[N] x) => (string[N] y) { z = Identity(x)  y = Identity(z) }")
    [note] = check_unchanged(text, other, Assignments((), "input 'x' takes strings"))
    assert "takes strings" in note
