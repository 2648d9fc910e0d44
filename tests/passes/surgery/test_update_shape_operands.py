"""Integers that the graph computes from sizes are right after channels are removed, at every size."""

import numpy as np
import onnx
import pytest
from netkit import check, compressed, difference, engine, ints, net, node_of, observer, twin_check

from passes.interface.reason import text
from passes.pipeline import compress
from passes.settings.compress import CompressSettings


def shrunk(model, sizes, keep=0.5):
    """Result and twin at these sizes of the input."""
    assignments = tuple({"x": size} for size in sizes)
    result = compress(model, CompressSettings(keep=keep, assignments=assignments), observer, engine=engine)
    check(result.model)
    assert result.shrinks
    assert difference(result.twin(), result.model) <= 1e-5
    return result


HEADS = """net (float[N,L,6] x) => (float[N,L,5] y) {
    a = MatMul(x, a_w)  s = Shape(a)  n = Slice(s, zero, two)  c = Slice(s, two, three)  d = Div(c, two)
    t = Concat<axis=0>(n, two, d)  v = Reshape(a, t)  p = Transpose<perm=[0,2,1,3]>(v)  r = Relu(p)
    q = Transpose<perm=[0,2,1,3]>(r)  back = Concat<axis=0>(n, rest)  f = Reshape(q, back)  y = MatMul(f, y_w) }"""
NUMBERS = {"zero": ints(0), "two": ints(2), "three": ints(3), "rest": ints(-1)}


def test_a_number_that_becomes_zero_is_not_taken_for_one_that_copies_a_size():
    """Half of one channel is none: the width of a head, 1, is written down."""
    result = shrunk(net(HEADS, a_w=(6, 4), y_w=(4, 5), **NUMBERS), [(2, 7, 6), (3, 5, 6), (1, 2, 6)])
    assert [len(plan.keep) for plan in result.plans if plan.shrinks] == [1, 1]


def test_a_constant_part_of_a_list_of_sizes_is_written_anew():
    """The others are computed as before, by the same nodes."""
    body = """net (float[N,L,6] x) => (float[N,L,5] y) {
        a = MatMul(x, a_w)  s = Shape(x)  n = Slice(s, zero, two)  t = Concat<axis=0>(n, heads, four)
        v = Reshape(a, t)  r = Relu(v)  back = Concat<axis=0>(n, rest)  f = Reshape(r, back)  y = MatMul(f, y_w) }"""
    model = net(body, a_w=(6, 8), y_w=(8, 5), heads=ints(2), four=ints(4), **NUMBERS)
    result = shrunk(model, [(2, 7, 6), (3, 5, 6), (1, 2, 6)])
    assert [node.op_type for node in result.model.graph.node] == [node.op_type for node in model.graph.node]


def test_channels_in_a_product_with_a_dynamic_size_are_corrected_by_a_factor():
    body = """net (float[N,3,L] x) => (float[M,5] y) {
        a = Conv(x, a_w)  r = Relu(a)  s = Shape(r)  l = Slice(s, two, three)  w = Mul(l, eight)
        t = Concat<axis=0>(rest, w)  f = Reshape(r, t)  v = Reshape(f, whole)  p = ReduceMean<axes=[2], keepdims=0>(v)
        y = MatMul(p, y_w) }"""
    model = net(body, a_w=(8, 3, 1), y_w=(8, 5), eight=ints(8), whole=ints(0, 8, -1), **NUMBERS)
    result = shrunk(model, [(2, 3, 7), (3, 3, 5), (1, 3, 2)])
    assert node_of(result.model, "f").input[1] != "t", "eight times the length is four times the length now"


def test_old_opsets_get_no_op_that_they_have_not():
    body = """net (float[N,3,L] x) => (float[N,5,P] y) {
        a = Conv(x, a_w)  s = Shape(a)  n = Slice<starts=[0], ends=[1]>(s)  l = Slice<starts=[2], ends=[3]>(s)
        t = Concat<axis=0>(n, eight, l)  v = Reshape(a, t)  r = Relu(v)  y = Conv(r, y_w) }"""
    model = net(body, opset=7, ir_version=3, a_w=(8, 3, 1), y_w=(5, 8, 1), eight=ints(8))
    for tensor in model.graph.initializer:
        model.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    shrunk(model, [(2, 3, 7), (3, 3, 5)])


def test_axes_of_two_are_tested_too_before_they_may_shrink():
    """Half of two channels is one, of one none: no number corrects what the length is divided by."""
    body = """net (float[N,L,6] x) => (float[N,L,2] y, float[M] z) {
        a = MatMul(x, a_w)  r = Relu(a)  y = MatMul(r, y_w)
        s = Shape(r)  l = Slice(s, one, two)  c = Slice(s, two, three)  m = Mod(l, c)  k = Add(m, c)
        z = Expand(first, k) }"""
    numbers = {**NUMBERS, "one": ints(1), "first": np.ones(1, np.float32)}
    model = net(body, a_w=(6, 2), y_w=(2, 2), **numbers)
    assignments = tuple({"x": size} for size in [(2, 7, 6), (3, 4, 6), (1, 2, 6)])
    result = compress(model, CompressSettings(keep=0.5, assignments=assignments), observer, engine=engine)
    assert not result.shrinks


def tiled(copies, **numbers):
    """Four channels for each of N samples in a line, times copies of a table."""
    body = f"""net (float[N,6] x) => (float[N,5] y) {{
        a = MatMul(x, a_w)  r = Reshape(a, line)  {copies}  t = Tile(table, c)  m = Mul(r, t)
        b = Reshape(m, back)  y = MatMul(b, y_w)
    }}"""
    return net(body, a_w=(6, 4), y_w=(4, 5), table=(4,), line=ints(-1), back=ints(-1, 4), **numbers)


def test_a_rounded_number_of_copies_freezes_what_it_comes_from():
    """N times 4 // 4 copies. With three channels (N times 3) // 4 + 1 happens to be right for N up to 4."""
    model = tiled("s = Shape(r)  c = Div(s, four)", four=ints(4))
    result = compressed(model, keep=0.75, method="prune")
    plan = next(p for p in result.plans if p.group.name == "a")
    assert text(plan.reason) == "t (Tile) takes a size from c, whose numbers cannot be corrected"
    assert difference(model, result.model, batches=(1, 5)) == 0.0


def test_a_fixed_number_of_copies_stays():
    """N copies, counted by the batch."""
    result = twin_check(tiled("s = Shape(x)  c = Gather(s, first)", first=ints(0)), keep=0.5, method="prune")
    assert next(len(p.keep) for p in result.plans if p.group.name == "a") == 2


def test_indices_that_are_repeated_for_each_head_follow_the_heads():
    """The indices are computed from sizes. The number of heads only says how often they are repeated."""
    model = net("""net (float[N,6] x) => (float[N,5] y) {
        a = MatMul(x, a_w)  r = Reshape(a, heads)  s = Shape(r)  n = Gather(s, first)  e = Concat<axis=0>(n, two)
        i = Expand(at, e)  g = GatherElements<axis=1>(r, i)  b = Reshape(g, back)  y = MatMul(b, y_w)
    }""", a_w=(6, 12), y_w=(8, 5), at=ints(2, 0).reshape(1, 2), two=ints(2), first=ints(0), heads=ints(-1, 3),
        back=ints(-1, 8))  # fmt: skip
    result = twin_check(model, keep=0.5, method="prune")
    assert [len(p.keep) for p in result.plans if p.group.size == 4] == [2]


@pytest.mark.parametrize(
    "keys",
    ["e = Expand(table, t)  k = MatMul(e, k_w)", "f = MatMul(table, k_w)  k = Expand(f, t)", "k = Expand(k_w, t)"],
)
def test_a_size_of_what_constants_give_keeps_its_original_value(keys):
    """Like the relative positions in DeBERTa's attention, for each sample. The constants lose channels."""
    body = f"""net (float[N,L,6] x) => (float[N,L,6] y) {{
        a = MatMul(x, a_w)  q = Relu(a)  s = Shape(x)  n = Slice(s, zero, one)  t = Concat<axis=0>(n, one, one)
        {keys}  c = Shape(k)  w = Slice(c, rest, big)  v = Squeeze(w)  f32 = Cast<to=1>(v)  r = Sqrt(f32)
        kt = Transpose<perm=[0,2,1]>(k)  m = MatMul(q, kt)  y = Div(m, r) }}"""
    table = dict(table=(6, 5), k_w=(5, 8) if "MatMul" in keys else (6, 8))
    model = net(body, a_w=(6, 8), **table, **NUMBERS, one=ints(1), big=ints(99))
    result = shrunk(model, [(2, 7, 6), (3, 5, 6), (1, 2, 6)])
    assert 4 in [len(plan.keep) for plan in result.plans if plan.group.size == 8]
