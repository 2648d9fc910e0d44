"""Cases of `passes.axes.rules.layout`."""

from netkit import ints
from rulekit import CONV, GEMM, LAST, LAST_SHAPES, MIDDLE, fires, freezes, unknown
from scalekit import K, scale

DYNAMIC = ("float[N,6] x", "a = Gemm(x, w)  {}", {"w": (6, 8)})
BLOCKS = "r = DepthToSpace<blocksize=2{}>(a)"
SHUFFLE = "f = Reshape(a, five)  t = Transpose<perm=[0,2,1,3,4]>(f)  r = Reshape(t, four)"

CASES = [
    fires(
        "Reshape",
        CONV,
        SHUFFLE,
        "w: (A B) . 1 1; f: . A B . .; t: . B A . .; v: . (B A) 1 1",
        "LINEAR",
        five=ints(2, 2, 4, 6, 6),
        four=ints(0, -1, 6, 6),
    ),
    fires("Reshape", LAST, "r = Reshape<shape=[2,3,5,8]>(a)", "w: . A; v: A .", "LINEAR", 4, LAST_SHAPES),
    freezes(
        "Reshape",
        MIDDLE,
        "f = Reshape(a, s)  r = Reshape(f, t)",
        "w 0: f (Reshape) cuts 8 across 5",
        s=ints(2, 8, 5)[[0, 2, 1]],
        t=ints(2, 8, 5),
    ),
    freezes(
        "Reshape",
        GEMM,
        "r = Reshape(a, s)",
        "w 1: r (Reshape) cannot hold [2, 8] in [2, 9]",
        observed={"r": (2, 9)},
        s=ints(2, 9),
    ),
    fires(
        "Flatten",
        CONV,
        "f = Flatten(a)  r = Reshape(f, four)",
        "w: A . 1 1; f: . (A . .); v: . A 1 1",
        "LINEAR",
        four=ints(2, 8, 6, 6),
    ),
    unknown("Flatten"),
    fires(
        "Squeeze", GEMM, "u = Unsqueeze(a, one)  r = Squeeze(u, one)", "w: . A; u: . 1 A; v: A .", "LINEAR", one=ints(1)
    ),
    fires(
        "Unsqueeze",
        GEMM,
        "u = Unsqueeze<axes=[0]>(a)  r = Squeeze<axes=[0]>(u)",
        "w: . A; u: 1 . A; v: A .",
        "LINEAR",
        11,
    ),
    unknown("Squeeze"),
    unknown("Unsqueeze", "r = Unsqueeze(u, one)", one=ints(0)),
    fires("Transpose", GEMM, "t = Transpose(a)  r = Transpose<perm=[1,0]>(t)", "w: . A; t: A .; v: A .", "LINEAR"),
    unknown("Transpose"),
    fires("Concat", GEMM, "r = Concat<axis=-1>(a, b)", "w: . A; w2: . B; v: A+B .", "LINEAR", v=(16, 4)),
    fires("Concat", MIDDLE, "j = Concat<axis=0>(a, a)  r = Relu(j)", "w: A .; j: .+. A .; v: . A", "LINEAR"),
    freezes(
        "Concat",
        GEMM,
        "u = custom.Foo(x)  r = Concat<axis=1>(a, u)",
        "w 1: r (Concat) the shape of input 1 is unknown",
        observed={"r": (2, 8)},
    ),
    fires(
        "Split",
        GEMM,
        "r, s = Split<axis=1>(a, parts)",
        "w: . A+B; r: . A; s: . B; v: A .",
        "LINEAR",
        parts=ints(5, 3),
        v=(5, 4),
    ),
    fires(
        "Split",
        GEMM,
        "r, s = Split<axis=1, split=[5,3]>(a)",
        "w: . A+B; r: . A; s: . B; v: A .",
        "LINEAR",
        11,
        v=(5, 4),
    ),
    freezes(
        "Split",
        GEMM,
        "u = custom.Foo(a)  r, s = Split<axis=1>(u)",
        "r 1: r (Split) the shape of input 0 is unknown",
        observed={"r": (2, 8)},
    ),
    fires(
        "DepthToSpace",
        CONV,
        BLOCKS.format(""),
        "w: (. . A) . 1 1; r: . A (. .) (. .); v: . A 1 1",
        "LINEAR",
        w=(24, 3, 1, 1),
        v=(4, 6, 1, 1),
    ),
    fires(
        "DepthToSpace",
        CONV,
        BLOCKS.format(', mode="CRD"'),
        "w: (A . .) . 1 1; v: . A 1 1",
        "LINEAR",
        w=(24, 3, 1, 1),
        v=(4, 6, 1, 1),
    ),
    freezes("DepthToSpace", CONV, BLOCKS.format(""), "w 0: r (DepthToSpace) rearranges blocks of it", v=(4, 2, 1, 1)),
    fires(
        "SpaceToDepth",
        CONV,
        "r = SpaceToDepth<blocksize=2>(a)",
        "w: A . 1 1; v: . (. . A) 1 1",
        "LINEAR",
        v=(4, 32, 1, 1),
    ),
    freezes(
        "SpaceToDepth",
        CONV,
        "r = SpaceToDepth<blocksize=2>(a)",
        "v 1: r (SpaceToDepth) rearranges blocks of it",
        v=(4, 32, 1, 1),
    ),
    fires("Shape", GEMM, "s = Shape(a)  r = Reshape(b, s)", "w: . A; w2: . B; v: B .", "NONE"),
    freezes("Shape", DYNAMIC, "s = Shape(a)  y = custom.Foo(s)", "w 1: y (Foo) computes with the size of axis 1 of a"),
    fires("Size", GEMM, "n = Size(a)  f = Cast<to=1>(n)  r = Div(a, f)", "w: . A; v: A .", "NONE"),
    freezes("Size", DYNAMIC, "n = Size(a)  y = custom.Foo(n)", "w 1: y (Foo) computes with the size of axis 1 of a"),
    fires("Constant", GEMM, "c = Constant<value_floats=[2.0]>()  r = Mul(a, c)", "w: . A; c: 1; v: A .", "NONE"),
    freezes(
        "Constant",
        GEMM,
        "c = Constant<value_floats=[1.0,2.0,3.0,4.0,5.0,6.0,7.0,8.0]>()  r = Mul(a, c)",
        "w 1: c (Constant) is not an initializer",
    ),
    fires(
        "ConstantOfShape",
        GEMM,
        "k = ConstantOfShape(s)  r = Gemm(a, k)",
        "w: . A; k: A B; v: B .",
        "LINEAR",
        s=ints(8, 8),
    ),
    freezes(
        "ConstantOfShape", DYNAMIC, "s = Shape(a)  k = ConstantOfShape(s)  y = Add(a, k)", "k 0: x is a graph input"
    ),
    fires("Tile", GEMM, "r = Tile(a, s)", "w: . A; r: . (. A); v: (. A) .", "LINEAR", s=ints(1, 3), v=(24, 4)),
    freezes("Tile", GEMM, "t = Tile(k, s)  r = Mul(a, t)", "w 1: t (Tile) repeats it", s=ints(4), k=(2,)),
    fires("Expand", LAST, "r = Expand(a, s)", "w: . A; r: . . . . A; v: A .", "LINEAR", s=ints(4, 2, 3, 1, 8)),
    unknown("Expand", "r = Expand(u, s)", s=ints(2, 8)),
]

SCALE_CASES = [
    scale("Expand", "s = Shape(a)  m = Expand(k, s)", True, k=K),
    scale("Concat", "m = Concat<axis=1>(k, a)", True, "tokens", k=(2, 1, 8)),
    scale("Concat", "q = Concat<axis=1>(k, a)  m = Relu(q)", True, "tokens", k=(2, 1, 8)),
    scale("ConstantOfShape", "i = Cast<to=9>(z)  s = Shape(a)  c = ConstantOfShape(s)  m = Where(i, c, c)", False),
]  # fmt: skip
ALL_DATA = """
    Constant DepthToSpace Flatten Reshape Shape Size SpaceToDepth Split Squeeze Tile Transpose
    Unsqueeze
"""
