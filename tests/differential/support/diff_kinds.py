"""Kinds of faults as the smallest graphs that show them, as ONNX text; weights are drawn as `netkit.net` draws them."""

from dataclasses import dataclass, field

import numpy as np
import onnx
from diff_generate import Case
from netkit import filled, ints
from onnx import helper, numpy_helper


@dataclass(frozen=True)
class Kind:
    """``after``: what is done to the model at last; ``sizes``: at which it is judged; ``cut``: weights that merging
    makes smaller."""

    body: str
    weights: dict
    sizes: tuple = ({"N": 2}, {"N": 1}, {"N": 3})
    opset: int = 17
    ir_version: int = 8
    domains: str = ""
    after: object = field(default=None)
    cut: tuple = ()
    ways: tuple = ("lossless", "keep-one", "merge")

    def case(self, seed=1) -> Case:
        header = f'<ir_version: {self.ir_version}, opset_import: ["" : {self.opset}{self.domains}]>'
        model = filled(onnx.parser.parse_model(f"{header} {self.body}"), self.weights)
        if self.after:
            self.after(model)
        return Case(seed, model, self.sizes, (), ())


def row(*values, shape=(1, -1)):
    return np.array(values, np.float32).reshape(shape)


def made_by(line, *, k, head=(8, 4), **more):
    """One number of each sample, of which ``line`` makes features ``f`` by constants ``k``."""
    body = f"net (float[N,1] x) => (float[N,{head[1]}] y) {{ {line} y = Gemm(f, y_w) }}"
    return Kind(body, {"k": k, "y_w": head, **more}, opset=more.pop("opset", 17))


UP = np.arange(1, 9)
HW = ({"N": 2, "H": 6, "W": 6}, {"N": 1, "H": 5, "W": 7}, {"N": 3, "H": 3, "W": 4})
TAIL = "c = Conv<pads=[1,1,1,1]>(z, c_w, c_b)  cr = Relu(c)  y = Conv(cr, y_w, y_b)"
HEAD = "a = Conv<pads=[1,1,1,1]>(x, a_w, a_b)  ar = Relu(a)"


def image_net(
    middle, width=8, inputs="float[N,3,H,W] x", sizes=HW, opset=17, output="A,B", after=None, cut=("c_w",), **weights
):
    """Two layers with ``middle`` between ``ar`` and ``z`` (``width`` channels)."""
    body = f"net ({inputs}) => (float[N,2,{output}] y) {{ {HEAD} {middle} {TAIL} }}"
    layers = {"a_w": (8, 3, 3, 3), "a_b": (8,), "c_w": (6, width, 3, 3), "c_b": (6,), "y_w": (2, 6, 1, 1), "y_b": (2,)}
    numbers = {f"v{n}": ints(n) for n in (0, 1, 2, 3, 4, 8)} | {f"s{n}": np.array(n) for n in (0, 1, 2, 3)}
    used = {n: v for n, v in numbers.items() if f"{n}," in body or f"{n})" in body or f" {n}" in body}
    return Kind(
        body, {**{n: v for n, v in layers.items() if n in body}, **used, **weights}, sizes, opset, 8, "", after, cut
    )


def dead(name, axis):
    """One channel that nothing reads, so that a lossless run has something to do."""

    def change(model):
        for t in model.graph.initializer:
            if t.name == name:
                array = numpy_helper.to_array(t).copy()
                np.moveaxis(array, axis, 0)[3] = 0
                t.CopyFrom(numpy_helper.from_array(array, t.name))

    return change


def overridable(model):
    model.graph.input.append(helper.make_tensor_value_info("style", 1, [1, 8]))


def sparse(model):
    tensor = next(t for t in model.graph.initializer if t.name == "b_w")
    array = numpy_helper.to_array(tensor).copy()
    array[np.abs(array) < 0.15] = 0
    places = np.flatnonzero(array)
    values, index = array.ravel()[places], places.astype(np.int64)
    parts = (numpy_helper.from_array(v, n) for v, n in ((values, "b_w"), (index, "b_w_at")))
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(*parts, list(array.shape)))
    model.graph.initializer.remove(tensor)


IDS = "net (int64[N,5] x) => (float[N,5,4] y) { i = Unsqueeze(x, v2) "
DENSE = {"a_w": (12, 6), "b_w": (12, 16), "y_w": (16, 5)}

KINDS = {
    "one-hot by Equal": Kind(
        IDS + "e = Equal(i, k)  f = Cast<to=1>(e)  y = MatMul(f, y_w) }",
        {"k": np.arange(7).reshape(1, 1, 7), "v2": ints(2), "y_w": (7, 4)},
    ),
    "Mod by channel": Kind(
        IDS + "e = Mod(i, k)  f = Cast<to=1>(e)  y = MatMul(f, y_w) }",
        {"k": np.arange(1, 7).reshape(1, 1, 6), "v2": ints(2), "y_w": (6, 4)},
    ),
    "BitShift by channel": Kind(
        IDS.replace("int64", "uint32") + 'e = BitShift<direction="LEFT">(i, k)  f = Cast<to=1>(e)  '
        "y = MatMul(f, y_w) }",
        {"k": np.array([1, 2, 4, 3], np.uint32).reshape(1, 1, 4), "v2": ints(2), "y_w": (4, 4)},
    ),
    "Pow by channel": made_by("s = Sigmoid(x) f = Pow(s, k)", k=row(*UP)),
    "Pow of channel": made_by("s = Sigmoid(x) f = Pow(k, s)", k=row(*UP)),
    "Div by channel": made_by("f = Div(x, k)", k=row(*UP)),
    "Div of channel": made_by("s = Exp(x) f = Div(k, s)", k=row(*UP)),
    "Greater by channel": made_by("g = Greater(x, k) f = Cast<to=1>(g)", k=row(*(UP / 8))),
    "Less of channel": made_by("g = Less(k, x) f = Cast<to=1>(g)", k=row(*(UP / 8))),
    "Add by channel": made_by("f = Add(x, k)", k=row(*UP)),
    "Sub of channel": made_by("f = Sub(k, x)", k=row(*UP)),
    "Max by channel": made_by("f = Max(x, k)", k=row(*(UP / 8))),
    "Min by channel": made_by("f = Min(k, x)", k=row(*(UP / 8))),
    "Mul by channel": made_by("f = Mul(x, k)", k=row(*UP)),
    "Sum by channel": made_by("f = Sum(x, k)", k=row(*UP)),
    "Mean by channel": made_by("f = Mean(x, k, x)", k=row(*UP)),
    "PRelu by channel": made_by("r = Expand(x, to) f = PRelu(r, k)", k=row(*(UP / 4)), to=ints(1, 8)),
    "Where one side": made_by("c = Greater(x, zero) f = Where(c, k, x)", k=row(*UP), zero=row(0.0)),
    "Where both sides": made_by("c = Greater(x, zero) f = Where(c, k, l)", k=row(*UP), l=row(*UP[::-1]), zero=row(0.0)),
    "Gemm with beta": made_by(
        "f = Gemm<alpha=0.5, beta=2.0>(x, k, b)", k=row(*UP), b=np.array([1, 2, 3, 4, 5, 6, 7, 9], np.float32)
    ),
    "Squeeze by attribute": image_net(
        "s = Squeeze<axes=[0]>(g_scale)  m = Mul(a, s)  "
        "z = Relu(m)", opset=11, g_scale=(1, 8, 1, 1), after=dead("c_w", 1),
        inputs="float[N,3,4,4] x", sizes=({"N": 2}, {"N": 1}), output="4,4",
    ),
    "LpNormalization of weights": Kind(
        "net (float[N,6] x) => (float[N,5] y) { w = LpNormalization<axis=1, p=1>(a_w)  a = Gemm<transB=1>(x, w)"
        "  ar = Relu(a)  b = MatMul(ar, b_w)  br = Relu(b)  y = MatMul(br, y_w) }",
        DENSE, after=dead("b_w", 0), cut=("a_w",),
    ),
    "MaxPool of a constant": image_net(
        'm = MaxPool<kernel_shape=[2,2], auto_pad="SAME_LOWER">(k)  z = Add(ar, m)',
        inputs="float[N,3,4,4] x", sizes=({"N": 2}, {"N": 1}), output="4,4", k=(1, 8, 4, 4),
        after=dead("c_w", 1),
    ),
    "padded to the skip": image_net(
        "p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(ar)  u = ConvTranspose<strides=[2,2]>(p, u_w)  su = Shape(u)  "
        "ss = Shape(ar)  d = Sub(ss, su)  h = Slice(d, v2, v4)  q = Concat<axis=0>(none, h)  f = Pad(u, q)  "
        "z = Add(ar, f)",
        u_w=(8, 8, 2, 2), none=ints(0, 0, 0, 0, 0, 0),
    ),
    "at most k rows": image_net(
        "z = Slice(ar, v0, v4, v2)",
        sizes=({"N": 2, "H": 6, "W": 6}, {"N": 1, "H": 3, "W": 5}, {"N": 3, "H": 2, "W": 4})
    ),
    "at most k rows, viewed": image_net(
        "t = Slice(ar, v0, v8, v2)  s = Shape(t)  n = Slice(s, v0, v1)  hw = Slice(s, v2, v4)  "
        "w = Concat<axis=0>(n, v2, v4, hw)  v = Reshape(t, w)  r = Transpose<perm=[0,2,1,3,4]>(v)  "
        "b = Concat<axis=0>(n, v8, hw)  z = Reshape(r, b)",
        sizes=({"N": 2, "H": 12, "W": 6}, {"N": 1, "H": 3, "W": 5}, {"N": 3, "H": 2, "W": 4}),
    ),
    "clips in the batch": image_net(
        "s = Shape(ar)  n = Slice(s, v0, v1)  r = Slice(s, v1, v4)  h = Div(n, v2)  w = Concat<axis=0>(h, v2, r)  "
        "v = Reshape(ar, w)  l = Slice(v, v1, v8, v1)  e = Slice(v, v0, v1, v1)  t = Concat<axis=1>(l, e)  "
        "z = Reshape(t, s)",
        sizes=({"N": 2, "H": 6, "W": 6}, {"N": 4, "H": 3, "W": 5}, {"N": 6, "H": 2, "W": 4}),
    ),
    "coordinates": image_net(
        "s = Shape(ar)  n = Gather(s, s0)  h = Gather(s, s2)  w = Gather(s, s3)  r = Range(s0, h, s1)  "
        "f = Cast<to=1>(r)  "
        "l = Reshape(f, way)  n1 = Unsqueeze(n, v0)  h1 = Unsqueeze(h, v0)  w1 = Unsqueeze(w, v0)  "
        "to = Concat<axis=0>(n1, v1, h1, w1)  m = Expand(l, to)  z = Concat<axis=1>(ar, m)",
        width=9, way=ints(1, 1, -1, 1),
    ),
    "Resize with axes": image_net(
        'z = Resize<mode="nearest", axes=[1,2,3]>(ar, , , to)', opset=18, to=ints(8, 8, 8), inputs="float[N,3,4,4] x",
        sizes=({"N": 2}, {"N": 1}), output="8,8",
    ),
    "Resize to computed sizes": image_net(
        's = Shape(ar)  l = Slice(s, v0, v2)  h = Slice(s, v2, v4)  t = Mul(h, v2)  to = Concat<axis=0>(l, t)  '
        'z = Resize<mode="nearest">(ar, , , to)'
    ),
    "channels halved by a computed view": image_net(
        "s = Shape(ar)  n = Slice(s, v0, v1)  d = Slice(s, v1, v2)  hw = Slice(s, v2, v4)  e = Div(d, v2)  "
        "w = Concat<axis=0>(n, v2, e, hw)  v = Reshape(ar, w)  t = Transpose<perm=[0,2,1,3,4]>(v)  z = Reshape(t, s)"
    ),
    "position table": Kind(
        "net (float[N,T,6] x) => (float[N,T,4] y) { a = MatMul(x, a_w)  s = Shape(a)  l = Slice(s, v1, v2)  "
        "p = Slice(pos, v0, l, v1)  z = Add(a, p)  b = MatMul(z, b_w)  r = Relu(b)  y = MatMul(r, y_w) }",
        {"a_w": (6, 8), "pos": (1, 12, 8), "b_w": (8, 10), "y_w": (10, 4), "v0": ints(0), "v1": ints(1), "v2": ints(2)},
        ({"N": 2, "T": 5}, {"N": 1, "T": 12}, {"N": 3, "T": 1}),
    ),
    "an input with a default": Kind(
        "net (float[N,6] x) => (float[N,5] y) { a = MatMul(x, a_w)  e = MatMul(style, e_w)  m = Mul(a, e)  r = Relu(m)"
        "  b = MatMul(r, b_w)  br = Relu(b)  y = MatMul(br, y_w) }",
        {"a_w": (6, 12), "e_w": (8, 12), "b_w": (12, 16), "y_w": (16, 5), "style": np.ones((1, 8), np.float32)},
        after=overridable, cut=("b_w",),
    ),
    "a layer of one unit, solved on samples": Kind(
        "net (float[N,6] x) => (float[N,5] y) { a = MatMul(x, a_w)  r = Relu(a)  b = MatMul(r, b_w)  s = Relu(b)"
        "  y = MatMul(s, y_w) }",
        {"a_w": (6, 12), "b_w": (12, 1), "y_w": (1, 5)}, ways=("merge", "default"), cut=("a_w",),
    ),
    "first states expanded, before Where": Kind(
        "net (float[T,N,6] x) => (float[T,N,4] y) { e = MatMul(x, e_w)  s = Shape(x)  n = Gather(s, s1)  "
        "n1 = Unsqueeze<axes=[0]>(n)  hs = Concat<axis=0>(v1, n1, v8)  h = Expand(h_w, hs)  "
        "l, lh = GRU<hidden_size=8>(e, l_w, l_r, l_b, , h)  q = Squeeze<axes=[1]>(l)  y = MatMul(q, y_w) }",
        {"e_w": (6, 6), "l_w": (1, 24, 6), "l_r": (1, 24, 8), "l_b": (1, 48), "y_w": (8, 4), "v1": ints(1),
         "v8": ints(8), "s1": np.array(1), "h_w": (1, 1, 8)},
        ({"T": 3, "N": 2}, {"T": 1, "N": 1}, {"T": 5, "N": 3}), opset=8, cut=("l_w", "l_r"),
    ),
    "Squeeze by attribute, rows": Kind(
        "net (float[N,4,2,2] x) => (float[N,5,2,2] y) { a = Conv(x, a_w, a_b)  s = Squeeze<axes=[0]>(g_scale)  "
        "m = Mul(a, s)"
        "  y = Conv(m, y_w) }",
        {"a_w": (8, 4, 1, 1), "a_b": (8,), "g_scale": (1, 8, 1, 1), "y_w": (5, 8, 1, 1)}, opset=8,
        after=dead("y_w", 1), cut=("a_w",),
    ),
    "a function of another opset": Kind(
        'net (float[N,6] x) => (float[N,5] y) { a = pkg.Block(x, a_w)  b = pkg.Block(a, b_w)  y = MatMul(b, y_w) }'
        '<domain: "pkg", opset_import: ["" : 17]> Block (x, w) => (y) { h = MatMul(x, w)  y = Relu(h) }',
        {"a_w": (6, 12), "b_w": (12, 16), "y_w": (16, 5)}, opset=18, ir_version=9, domains=', "pkg" : 1', cut=("a_w",
        "b_w"),
    ),
    "a sparse initializer": Kind(
        "net (float[N,6] x) => (float[N,5] y) { a = MatMul(x, a_w)  r = Relu(a)  b = MatMul(r, b_w)  s = Relu(b)"
        "  y = MatMul(s, y_w) }",
        {"a_w": (6, 12), "b_w": (12, 16), "y_w": (16, 5)}, after=sparse, cut=("a_w", "b_w"),
    ),
    "one bias of many layers": Kind(
        "net (float[N,6] x) => (float[N,8] y) { a = Gemm(x, a_w, zeros)  r = Relu(a)  b = Gemm(r, b_w, zeros)  "
        "s = Relu(b)"
        "  y = Gemm(s, y_w, zeros) }",
        {"a_w": (6, 8), "b_w": (8, 8), "y_w": (8, 8), "zeros": np.zeros(8, np.float32)}, cut=("a_w", "b_w"),
    ),
    "states filled to the batch": Kind(
        "net (float[T,N,6] x) => (float[T,N,4] y) { e = MatMul(x, e_w)  s = Shape(x)  n = Gather(s, s1)  "
        "n1 = Unsqueeze(n, v0)  hs = Concat<axis=0>(v1, n1, v8)  h = ConstantOfShape(hs)  "
        "l, lh, lc = LSTM<hidden_size=8>(e, l_w, l_r, l_b, , h, h)  q = Squeeze(l, v1)  y = MatMul(q, y_w) }",
        {"e_w": (6, 6), "l_w": (1, 32, 6), "l_r": (1, 32, 8), "l_b": (1, 64), "y_w": (8, 4), "v0": ints(0),
        "v1": ints(1),
         "v8": ints(8), "s1": np.array(1)},
        ({"T": 3, "N": 2}, {"T": 1, "N": 1}, {"T": 5, "N": 3}), cut=("l_w", "l_r"),
    ),
    "layers in an If": Kind(
        "net (float[N,6] x, bool flag) => (float[N,5] y) { y = If(flag) <then_branch = yes () => (float[N,5] t) {"
        " a = MatMul(x, a_w)  r = Relu(a)  t = MatMul(r, t_w) }, else_branch = no () => (float[N,5] u) {"
        " b = MatMul(x, b_w)  s = Relu(b)  u = MatMul(s, u_w) }> }",
        {"a_w": (6, 12), "t_w": (12, 5), "b_w": (6, 10), "u_w": (10, 5)}, cut=("a_w", "t_w", "b_w", "u_w"),
    ),
    "BatchNormalization of rows by position": Kind(
        "net (float[N,6] x) => (float[N,5] y) { a = Gemm(x, a_w, a_b)  n = BatchNormalization<spatial=0>(a, n_scale, "
        "n_bias, n_mean, n_var)  r = Relu(n)  y = Gemm(r, y_w, y_b) }",
        {"a_w": (6, 12), "a_b": (12,), "n_scale": (12,), "n_bias": (12,), "n_mean": (12,), "n_var": (12,),
        "y_w": (12, 5),
         "y_b": (5,)},
        opset=7, cut=("a_w",),
    ),
    "BatchNormalization by position": image_net(
        "n = BatchNormalization<spatial=0>(a, n_scale, n_bias, n_mean, n_var)  z = Relu(n)", inputs="float[N,3,4,4] x",
        sizes=({"N": 2}, {"N": 1}), output="4,4", opset=8, n_scale=(8, 4, 4), n_bias=(8, 4, 4), n_mean=(8, 4, 4),
        n_var=(8, 4, 4),
    ),
}  # fmt: skip


def whole(kind, outcome):
    """Weights that merging should have made smaller, and did not."""
    if outcome.model is None:
        return list(kind.cut)
    before = {name: v.size if isinstance(v, np.ndarray) else int(np.prod(v)) for name, v in kind.weights.items()}
    after = {t.name: int(np.prod(t.dims)) for t in _initializers(outcome.model.graph)}
    after |= {t.values.name: int(np.prod(t.dims)) for t in outcome.model.graph.sparse_initializer}
    return [name for name in kind.cut if after.get(name, 0) >= before[name]]


def _initializers(graph):
    yield from graph.initializer
    for node in graph.node:
        for a in node.attribute:
            if a.HasField("g"):
                yield from _initializers(a.g)
