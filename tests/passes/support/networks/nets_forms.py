"""What normalisation takes apart: local functions, constants in all forms; and shapes that are computed."""

from netcase import add, conv
from netkit import ints

add(
    "functions",  # nested, with attributes handed down, and called in a body
    3,
    """net (float[N,3,8,8] x, bool flag) => (float[N,4] y) {
        a = custom.Block<slope=0.2>(x, a_w, a_b)  b = custom.Twice(a, b_w, b_b, c_w, c_b)  p = GlobalAveragePool(b)
        z = If(flag) <then_branch = yes () => (float[N,12,1,1] t) { t = custom.Act<slope=0.1>(p) },
                      else_branch = no () => (float[N,12,1,1] u) { u = Identity(p) }>
        f = Flatten(z)  g = Gemm<transB=1>(f, g_w, g_b)  gr = custom.Act<slope=0.3>(g)  y = Gemm<transB=1>(gr, y_w, y_b)
    }
    <domain: "custom", opset_import: ["" : 17]>
    Act <slope> (x) => (y) { y = LeakyRelu<alpha: float = @slope>(x) }
    <domain: "custom", opset_import: ["" : 17, "custom" : 1]>
    Block <slope> (x, w, b) => (y) { c = Conv<pads=[1,1,1,1]>(x, w, b)  y = custom.Act<slope: float = @slope>(c) }
    <domain: "custom", opset_import: ["" : 17, "custom" : 1]>
    Twice (x, w, b, v, d) => (y) { h = custom.Block<slope=0.1>(x, w, b)  y = custom.Block<slope=0.1>(h, v, d) }""",
    **conv("a", 10, 3, 3, 3), **conv("b", 14, 10, 3, 3), **conv("c", 12, 14, 3, 3), **conv("g", 10, 12),
    **conv("y", 4, 10),
)  # fmt: skip
add(
    "constants",  # a number, numbers, an integer, integers, a tensor; and a layer's weights
    2,
    """net (float[N,3,8,8] x) => (float[N,4] y) {
        w = Constant<value = float[8,3,1,1] {1,-2,3, 4,-5,6, 7,8,-9, 1,2,-3, 4,-5,6, -7,8,9, 3,-1,2, -6,5,4}>()
        a = Conv(x, w)  two = Constant<value_float=2.0>()  s = Mul(a, two)  low = Constant<value = float {0.0}>()
        r = Clip(s, low)  k = Constant<value_floats=[1.0, -2.0, 3.0, 0.5, 1.5, -1.0, 2.0, 0.25]>()
        to = Constant<value_ints=[1,8,1,1]>()  k4 = Reshape(k, to)  m = Mul(r, k4)
        i = Constant<value_int=0>()  sizes = Shape(m)  n = Gather<axis=0>(sizes, i)  at = Constant<value_ints=[0]>()
        n1 = Unsqueeze(n, at)  rest = Constant<value = int64[1] {-1}>()  flat = Concat<axis=0>(n1, rest)
        f = Reshape(m, flat)  g = Gemm<transB=1>(f, g_w, g_b)  gr = Relu(g)  y = Gemm<transB=1>(gr, y_w, y_b)
    }""",
    **conv("g", 10, 512), **conv("y", 4, 10),
)  # fmt: skip
add(
    "computed-shapes",  # views, sizes doubled, an expanded bias, a flatten by a product of sizes
    4,
    """net (float[N,3,8,8] x) => (float[N,4] y) {
        a = Conv<pads=[1,1,1,1]>(x, a_w, a_b)  ar = Relu(a)  sizes = Shape(ar)  n = Gather<axis=0>(sizes, first)
        c = Gather<axis=0>(sizes, second)  h = Slice(sizes, third, four)  half = Div(c, two)
        five = Concat<axis=0>(n, half, two, h)  v = Reshape(ar, five)  t = Transpose<perm=[0,2,1,3,4]>(v)
        back = Concat<axis=0>(n, c, h)  b = Reshape(t, back)  d = Conv<group=2>(b, d_w, d_b)  dr = Relu(d)
        hw = Shape<start=2>(dr)  hw2 = Mul(hw, two)  nc = Shape<end=2>(dr)  wide = Concat<axis=0>(nc, hw2)
        u = Resize<mode="nearest">(dr, , , wide)  like = Shape(u)  k = Expand(k_b, like)  s = Add(u, k)
        e = Conv<strides=[4,4]>(s, e_w, e_b)  er = Tanh(e)  own = Shape(er)  rest = Slice(own, second, four)
        count = ReduceProd<axes=[0], keepdims=1>(rest)  n0 = Slice(own, first, second)
        flat = Concat<axis=0>(n0, count)  f = Reshape(er, flat)
        g = Gemm<transB=1>(f, g_w, g_b)  gr = Relu(g)  y = Gemm<transB=1>(gr, y_w, y_b)
    }""",
    first=ints(0), second=ints(1), third=ints(2), four=ints(4), two=ints(2), **conv("a", 16, 3, 3, 3),
    **conv("d", 12, 8, 1, 1), k_b=(1, 12, 1, 1), **conv("e", 9, 12, 1, 1), **conv("g", 10, 144), **conv("y", 4, 10),
)  # fmt: skip
