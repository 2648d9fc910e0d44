"""Sizes at which a model runs, found by trying."""

import numpy as np
import onnx.parser
import pytest

from onnx_merge.errors import InputError, UsageError
from onnx_merge.inputs.assignments import Assignments, counted_at, find_assignments, require, sample_sizes
from onnx_merge.runtime.session import Session
from onnx_merge.tuning.inputs import INPUT_SEARCH

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'


def model(body):
    return onnx.parser.parse_model(HEAD + body)


def search(body, **kwargs):
    m = model(body)
    result = find_assignments(Session(m), model=m, **kwargs)
    assert result.found and result.tried <= INPUT_SEARCH.runs, result
    assert find_assignments(Session(m), model=m, **kwargs) == result
    return result


def sizes(result, name, axis):
    return [assignment[name][axis] for assignment in result.found]


def varied(result, name, axis, count=3):
    assert len(set(sizes(result, name, axis))) >= count, result


def test_without_dynamic_dimensions_nothing_is_run():
    result = search("net (float[1,3] x) => (float[1,3] y) { y = Relu(x) }")
    assert result == Assignments(({"x": (1, 3)},))


def test_strings_of_a_fixed_shape_are_not_made_up():
    m = model("net (string[2] x) => (string[2] y) { y = Identity(x) }")
    with pytest.raises(InputError, match="input 'x' takes strings, which cannot be made up"):
        find_assignments(Session(m), model=m)


def test_every_dimension_varies_and_the_first_are_unlike_each_other():
    result = search("net (float[N,3,H,W] x) => (float[N,3,H,W] y) { y = Relu(x) }")
    n, _, h, w = result.found[0]["x"]
    assert n == 2 and len({n, h, w}) == 3 and 1 not in (n, h, w)
    for axis in (0, 2, 3):
        varied(result, "x", axis)
    assert 1 in sizes(result, "x", 0) and max(sizes(result, "x", 0)) > 2
    assert any(h % 2 and w % 2 and h != w for _, _, h, w in (a["x"] for a in result.found))
    assert result.tried <= 5 and result.stuck == ()


def test_volumes_have_few_places():
    """Three edges of the size of an image's would take minutes."""
    for dims in ("S,S,S", "D,H,W"):
        result = search(f"net (float[N,2,{dims}] x) => (float[?,?,?,?,?] y) {{ y = Relu(x) }}")
        for axis in (0, 2, 3, 4):
            varied(result, "x", axis)
        assert max(np.prod(a["x"][2:]) for a in result.found) < 2**14
    folded = "net (float[N,2,S,S,S] x) => (float[?,32] y) <int64[2] t = {-1,32}> { y = Reshape(x, t) }"
    assert max(np.prod(a["x"]) for a in search(folded).found) < 2**20


def test_sizes_are_unlike_those_of_weights():
    body = "net (float[N,S] x) => (float[?,?] y) <float[1,7] w = {1,2,3,4,5,6,7}> { s = ReduceSum(x)  y = Mul(s, w) }"
    assert search(body).found[0]["x"] == (2, 11)


def test_dims_of_one_symbol_have_one_size():
    result = search("net (int64[N,S] ids, int64[N,S] mask) => (int64[N,S] y) { y = Mul(ids, mask) }")
    assert all(a["ids"] == a["mask"] for a in result.found)
    varied(result, "ids", 1)


@pytest.mark.parametrize("name", ["", "?", "unk__7"])
@pytest.mark.parametrize("equal", [False, True])
def test_names_that_say_nothing_bind_nothing(name, equal):
    node = "c = Equal(x, x)  y = Where(c, x, z)" if equal else "y = Concat<axis = 0>(x, z)"
    m = model(f"net (float[A,4] x, float[B,4] z) => (float[?,?] y) {{ {node} }}")
    for value in m.graph.input:
        value.type.tensor_type.shape.dim[0].dim_param = name
    found = find_assignments(Session(m), model=m).found
    assert len({a["x"][0] for a in found}) >= 3 and len({a["z"][0] for a in found}) >= 3


KINDS = {
    "multiples of 32": (
        """net (float[N,3,H,W] x) => (float[?,?,?,?] y)
           <int64[1] i2 = {2}, int64[1] i3 = {3}, int64[1] i4 = {4}, int64[1] by = {32}, int64[2] nc = {0,3}>
           { s = Shape(x)  h = Slice(s, i2, i3)  w = Slice(s, i3, i4)  hs = Div(h, by)  ws = Div(w, by)
             hb = Mul(hs, by)  wb = Mul(ws, by)  to = Concat<axis = 0>(nc, hb, wb)  y = Reshape(x, to) }""",
        {"x": (0, 2, 3)},
    ),
    "multiples of 8 in the batch": (
        "net (float[N,3] x) => (float[?,?,?] y) <int64[3] t = {-1,8,3}> { y = Reshape(x, t) }",
        {"x": (0,)},
    ),
    "one height": (
        """net (float[N,3,H,W] x) => (float[?,?,?,?] y) <int64[1] i3 = {3}, int64[1] i4 = {4}, int64[3] to = {0,3,48}>
           { s = Shape(x)  w = Slice(s, i3, i4)  t = Concat<axis = 0>(to, w)  y = Reshape(x, t) }""",
        {"x": (0, 3)},
    ),
    "a large image of one size": (
        "net (float[N,3,H,W] x) => (float[?,?,?,?] y) <int64[4] t = {-1,3,299,299}> { y = Reshape(x, t) }",
        {"x": (0,)},
    ),
    "squares of an unusual size": (
        "net (float[N,3,H,W] x) => (float[?,?] y) <int64[3] t = {0,3,729}, int64[2] s = {0,2187}> {"
        " a = Reshape(x, t)  d = Transpose<perm = [0,1,3,2]>(x)  e = Add(x, d)  y = Reshape(e, s) }",
        {"x": (0,)},
    ),
    "squares": (
        "net (float[N,3,H,W] x) => (float[?,?,?,?] y) { t = Transpose<perm = [0, 1, 3, 2]>(x)  y = Add(x, t) }",
        {"x": (0, 2, 3)},
    ),
    "twice as high": (
        """net (float[N,3,H,W] x) => (float[?,?,?,?] y) <float[4] k = {1,1,1,2}>
           { r = Resize<mode = "nearest">(x, , k)  t = Transpose<perm = [0, 1, 3, 2]>(r)  y = Add(r, t) }""",
        {"x": (0, 2, 3)},
    ),
    "twice as wide": (
        """net (float[N,3,H,W] x) => (float[?,?,?,?] y) <float[4] k = {1,1,2,1}>
           { r = Resize<mode = "nearest">(x, , k)  t = Transpose<perm = [0, 1, 3, 2]>(r)  y = Add(r, t) }""",
        {"x": (0, 2, 3)},
    ),
    "at least 400": (
        """net (float[N,1,T] x) => (float[?,?,?] y)
           { y = MaxPool<kernel_shape = [400], strides = [160]>(x) }""",
        {"x": (0, 2)},
    ),
    "equal lengths of other names": (
        "net (float[N,S,4] x, float[M,T,4] z) => (float[?,?,?] y) { c = Equal(x, z)  y = Where(c, x, z) }",
        {"x": (0, 1), "z": (0, 1)},
    ),
    "a mask as long as the ids": (
        """net (int64[N,S] ids, float[N,L] mask) => (float[?,?] y) <float[4] e = {1,2,3,4}>
           { v = Gather(e, ids)  y = Mul(v, mask) }""",
        {"ids": (0, 1), "mask": (0, 1)},
    ),
    "a batch of one": (
        "net (float[N,2,S] x) => (float[?,?] y) <int64[1] axes = {0}> { y = Squeeze(x, axes) }",
        {"x": (2,)},
    ),
    "a batch of one, for typical images": (
        "net (float[N,3,H,W] x) => (float[3,50176] y) <int64[2] t = {3,50176}> { y = Reshape(x, t) }",
        {},
    ),
    "a scalar and a table of 48": (
        f"""net (int64[N,S] ids, int64 k) => (float[?,?] y)
           <float[3] e = {{1,2,3}}, int64[48] table = {{{",".join(map(str, range(48)))}}},
            int64[1] i0 = {{0}}, int64[1] i1 = {{1}}, int64[1] i2 = {{2}}>
           {{ s = Shape(ids)  l = Slice(s, i1, i2)  p = Slice(table, i0, l, i0)  q = Add(ids, p)  r = Sub(q, p)
              v = Gather(e, r)  c = Cast<to = 1>(k)  y = Mul(v, c) }}""",
        {"ids": (0, 1)},
    ),
    "channels that a product asks for": (
        "net (float[N,F] x) => (float[?,?] y) <float[5,2] w = {1,2,3,4,5,6,7,8,9,0}> { y = MatMul(x, w) }",
        {"x": (0,)},
    ),
    "what joins all": (
        """net (float[A,B] x, float[C,D] z) => (float[?,?] y)
           { p = MatMul(x, z)  q = MatMul(z, x)  c = Equal(p, q)  y = Where(c, p, q) }""",
        {},
    ),
    "a mask of pairs": (
        """net (float[N,S] x, float[M,1,T,U] mask) => (float[?,?,?,?] y) <int64[2] axes = {1,2}, int64[2] last = {1,3}>
           { r = Unsqueeze(x, axes)  c = Unsqueeze(x, last)  s = Add(r, c)
             e = Equal(s, mask)  y = Where(e, s, mask) }""",
        {"x": (0, 1), "mask": (0, 2, 3)},
    ),
    "a mask of what was and what is new": (
        """net (float[N,S] new, float[N,P] past, float[N,T] mask) => (float[?,?] y)
           { a = Concat<axis = 1>(past, new)  e = Equal(a, mask)  y = Where(e, a, mask) }""",
        {"new": (0, 1), "past": (0, 1), "mask": (1,)},
    ),
    "at least as long as another": (
        """net (float[N,S] x, float[N,T] z) => (float[?,?] y) <int64[1] i1 = {1}, int64[1] i2 = {2}>
           { a = Shape(x)  b = Shape(z)  d = Sub(a, b)  l = Slice(d, i1, i2)  f = ConstantOfShape(l)
             k = ReduceSum(f)  c = Mul(z, k)  t = ReduceSum(c)  y = Add(x, t) }""",
        {"x": (1,), "z": (1,)},
    ),
    "steps of 160": (
        """net (float[N,T] x) => (float[?,?,?] y) <int64[3] t = {0,-1,160}> { y = Reshape(x, t) }""",
        {"x": (0, 1)},
    ),
    "tokens of one length": (
        "net (int64[N,S] ids) => (int64[?,?] y) <int64[2] t = {-1,77}, int64[2] s = {0,77}> { y = Reshape(ids, s) }",
        {"ids": (0,)},
    ),
    "images without a batch": (
        """net (uint8[H,W,3] x) => (float[?,?,?] y) { f = Cast<to = 1>(x)  y = Relu(f) }""",
        {"x": (0, 1)},
    ),
    "two images and a volume": (
        """net (float[N,3,H,W] a, float[N,3,I,J] b, float[N,1,D,E,F] v) => (float[?,?] y) <int64[1] one = {1}>
           { c = GlobalMaxPool(a) d = GlobalMaxPool(b) e = GlobalMaxPool(v) f = Flatten(c) g = Flatten(d) h = Flatten(e)
             y = Concat<axis = 1>(f, g, h) }""",
        {"a": (0, 2, 3), "b": (0, 2, 3), "v": (0, 2, 3, 4)},
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_models(kind):
    body, vary = KINDS[kind]
    result = search(body)
    for name, axes in vary.items():
        for axis in axes:
            varied(result, name, axis)
    if kind not in ("a batch of one", "squares", "what joins all"):
        assert all(1 not in shape[:1] for shape in result.found[0].values()) or kind.startswith("a batch of one")


def test_what_the_user_gave_is_tried_alone():
    body = KINDS["one height"][0]
    result = search(body, sizes={"x": (1, 3, 48, 320)})
    assert (1, 3, 48, 320) in [a["x"] for a in result.found]
    varied(result, "x", 3)
    m = model(body)
    wrong = find_assignments(Session(m), model=m, sizes={"x": (1, 3, 32, 32)})
    assert wrong.found == () and wrong.tried == 1
    with pytest.raises(UsageError, match="does not run at the sizes given, x:1,3,32,32: ") as caught:
        require(wrong, Session(m).inputs, {"x": (1, 3, 32, 32)})
    assert caught.value.exit_code == 2


def test_what_samples_have_comes_first():
    body = "net (float[N,3,H,W] x) => (float[?,?,?,?] y) <int64[4] t = {-1,3,1001,3}> { y = Reshape(x, t) }"
    found = search(body, known=[{"x": (2, 3, 1001, 3)}])
    assert found.found[0]["x"][2:] == (1001, 3)


@pytest.mark.parametrize("kwargs", [{"sizes": {"x": (2, 8, 8, 8)}}, {"known": [{"x": (2, 8, 8, 8)}]}])
def test_multiply_adds_are_counted_at_what_the_user_gave(kwargs):
    """Its sizes repeat each other and those of a weight, so that others would come first."""
    body = "net (float[N,C,H,W] x) => (float[?,?,?,?] y) <float[8,8] w = {%s}> { y = MatMul(x, w) }" % ("0," * 63 + "0")
    found, inputs = search(body, **kwargs), Session(model(body)).inputs
    assert found.witnesses[0] == {"x": (2, 8, 8, 8)} and counted_at(found, inputs) == ""


@pytest.mark.parametrize("asked", [None, (2, 9)])
def test_every_size_varies_among_the_witnesses(asked):
    """Only one assignment in the middle has another second size."""
    found = [{"x": shape} for shape in ((2, 7), (3, 7), (4, 7), (5, 7), (6, 8), (5, 7), (1, 7))]
    result = Assignments(tuple(found), asked=asked and {"x": asked})
    witnesses = result.witnesses
    assert witnesses[0] == (found[0] if asked is None else {"x": asked}) and witnesses[-1] == found[-1]
    assert len(witnesses) == INPUT_SEARCH.witnesses and len({a["x"][1] for a in witnesses}) > 1
    assert Assignments(tuple(found[:2])).witnesses == tuple(found[:2])
    assert Assignments(tuple(found[:1])).witnesses == tuple(found[:1])


def test_sizes_that_nobody_chose_are_named():
    body = "net (float[N,3,H,W] x, float[N,4] z) => (float[?,?,?,?] y, float[?,4] w) { y = Relu(x)  w = Relu(z) }"
    found = search(body)
    _, _, height, width = found.witnesses[0]["x"]
    counted = counted_at(found, Session(model(body)).inputs)
    assert counted == f"MACs are counted at H = {height}, W = {width}: see --input-shape"
    batched = "net (float[N,3] x) => (float[N,3] y) { y = Relu(x) }"
    assert counted_at(search(batched), Session(model(batched)).inputs) == ""


def test_volumes_stay_small():
    m = model("net (float[N,1,D,H,W] x) => (float[?,?] y) <int64[2] t = {-1,1000003}> { y = Reshape(x, t) }")
    sizes = []

    class Watched(Session):
        def run(self, feeds, outputs=None):
            sizes.append(feeds["x"].size)
            return super().run(feeds, outputs)

    assert find_assignments(Watched(m), model=m).found == () and max(sizes) <= 2**22
    large = search("net (float[N,3,H,W] x) => (float[?,?,?,?] y) { y = Relu(x) }", sizes={"x": (1, 3, 1200, 1300)})
    assert {"x": (1, 3, 1200, 1300)} in large.found


def test_a_model_that_runs_nowhere():
    m = model("net (float[N,3,H,W] x) => (float[?,?,?,?] y) <int64[4] t = {7,3,1001,3}> { y = Reshape(x, t) }")
    session = Session(m)
    result = find_assignments(session, model=m)
    assert result.found == () and result.problem
    with pytest.raises(UsageError, match=r"'x' \(N, 3, H, W\).*--input-shape x:1,3,48,320") as caught:
        require(result, session.inputs)
    assert caught.value.exit_code == 2


def test_sizes_at_which_a_map_is_empty_are_not_run():
    """onnxruntime's convolution divides by the size of an empty map, which would end the process."""
    pool = "MaxPool<kernel_shape=[3,3], strides=[2,2], ceil_mode=1>"
    text = f"s = Conv(x, v)  a = {pool}(s)  b = {pool}(a)  c = {pool}(b)  d = {pool}(c)  e = {pool}(d)  y = Conv(e, w)"
    parsed = onnx.parser.parse_model(f"{HEAD} g (float[N,3,H,W] x) => (float[N,16,P,Q] y) {{ {text} }}")
    for name, shape in (("v", (16, 3, 1, 1)), ("w", (16, 16, 1, 1))):
        parsed.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(shape, np.float32), name))
    found = find_assignments(Session(parsed), model=parsed).found
    assert len(found) >= 3 and min(min(a["x"][2:]) for a in found) > 16


def test_regions_of_an_empty_map_are_not_run():
    """onnxruntime reads beyond the end of such a map, which may end the process."""
    parsed = model("""net (float[N,4,H,W] x) => (float[?,4,2,2] y)
        <float[1,4] r = {0,0,1,1}, int64[1] at = {0}, int64[1] from = {16}, int64[1] to = {9999}, int64[1] ax = {3}>
        { a = Slice(x, from, to, ax)  y = RoiAlign<output_height=2, output_width=2, sampling_ratio=2>(a, r, at) }""")
    found = find_assignments(Session(parsed), model=parsed).found
    assert found and min(a["x"][3] for a in found) > 16


def test_sequences_without_a_step_are_not_run():
    """onnxruntime's GRU aborts."""
    parsed = model("""net (float[S,N,4] x) => (float[?,?,?,3] y)
        <int64[1] from = {6}, int64[1] to = {9999}, int64[1] ax = {0}>
        { a = Slice(x, from, to, ax)  y, h = GRU<hidden_size=3>(a, w, r) }""")
    for name, shape in (("w", (1, 9, 4)), ("r", (1, 9, 3))):
        parsed.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(shape, np.float32), name))
    found = find_assignments(Session(parsed), model=parsed).found
    assert found and min(a["x"][0] for a in found) > 6


def test_empty_parts_are_no_reason_to_refuse_a_size():
    """As a roll by nothing slices them."""
    parsed = onnx.parser.parse_model(
        f"{HEAD} g (float[N,8] x) => (float[N,8] y) "
        "<int64[1] all = {8}, int64[1] one = {1}, int64[1] none = {0}> "
        "{ a = Slice(x, all, all, one)  b = Slice(x, none, all, one)  y = Concat<axis=1>(a, b) }"
    )
    assert len(find_assignments(Session(parsed), model=parsed).found) >= 3


def test_samples_have_sizes_at_which_the_model_runs_as_it_is_written():
    """onnxruntime optimises the target (N, 20) to (-1, 20), which 100 places of 4 numbers fit into by chance."""
    m = model("""net (float[N,S,4] x) => (float[?,20] y) <int64[1] twenty = {20}> {
        n = Shape<start=0, end=1>(x)  t = Concat<axis=0>(n, twenty)  r = Reshape(x, t)  y = Relu(r) }""")
    session = Session(m)
    sizes, _ = sample_sizes(session, Assignments(({"x": (2, 5, 4)}, {"x": (1, 5, 4)})), m, {})
    assert sizes["x"][1] == 5


def test_and_images_too():
    """The target (N, 16) becomes (-1, 16), which images of the usual sizes fit into by chance."""
    m = model("""net (float[N,H,W,4] x) => (float[?,?] y) <int64[1] sixteen = {16}> {
        n = Shape<start=0, end=1>(x)  t = Concat<axis=0>(n, sixteen)  r = Reshape(x, t)  y = Relu(r) }""")
    session = Session(m)
    sizes, _ = sample_sizes(session, Assignments(({"x": (2, 2, 2, 4)}, {"x": (1, 2, 2, 4)})), m, {})
    assert sizes["x"][1:] == (2, 2, 4)


def test_samples_where_edges_are_called_batches():
    """Nothing but names says that these dimensions hold samples."""
    m = model("net (float[N,4,batch_size,batch_size] x) => (float[?,4,3,3] y) { y = Add(x, w) }")
    m.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((4, 3, 3), np.float32), "w"))
    session = Session(m)
    found = find_assignments(session, model=m)
    sizes, note = sample_sizes(session, found, m, {})
    assert sizes["x"][1:] in ((4, 3, 3), (4, 1, 1)) and "does not run at x:" in note


def test_samples_have_a_usual_size_where_few_heights_run():
    """A recogniser of lines of text: it runs at heights of 48 to 95, of which images of 64 x 64 are one by chance."""
    m = model("""net (float[N,3,H,W] x) => (float[?,?,?] y) <int64[1] two = {2}> {
        c = Conv<strides = [16, 4]>(x, w)  p = AveragePool<kernel_shape = [3, 1], strides = [3, 1]>(c)
        y = Squeeze(p, two) }""")
    m.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((4, 3, 16, 1), np.float32), "w"))
    session = Session(m)
    found = find_assignments(session, model=m)
    sizes, note = sample_sizes(session, found, m, {})
    assert sizes["x"][2:] == (48, 320)
    assert note.startswith("samples are made at x:") and "does not run at x:" in note and "224,224" in note


def test_sizes_at_which_only_an_optimised_model_runs_are_none():
    """onnxruntime puts -1 for the computed width in the target, which then fits other heights too."""
    body = KINDS["one height"][0]
    assert {*sizes(search(body), "x", 2)} == {48}
    m = model(body)
    refused = find_assignments(Session(m), model=m, sizes={"x": (1, 3, 32, 48)})
    assert not refused.found and "optimisations" in refused.problem
