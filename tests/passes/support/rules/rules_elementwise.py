"""Cases of `passes.axes.rules.elementwise`."""

import numpy as np
from rulekit import GEMM, fires, freezes, unknown
from scalekit import BYTES, FLAGS, STEPS, ZERO, K, scale

BINARY = {
    "LINEAR": "Add Sub Sum Mean Div",
    "HOMOGENEOUS": "Max Min",
    "PRODUCT": "Mul",
    "NONE": "Pow Mod",
}
COMPARISONS = "Equal Greater GreaterOrEqual Less LessOrEqual"
TYPED_BINARY = {"And": 9, "Or": 9, "Xor": 9, "BitwiseAnd": 6, "BitwiseOr": 6, "BitwiseXor": 6, "BitShift": 12}
OPSET = 24


def two(op, nodes, scaling):
    return fires(op, GEMM, nodes, "w: . A; w2: . A; r: . A; v: A .", scaling, OPSET)


def attributes(op):
    return {"BitShift": '<direction="LEFT">', "Mod": "<fmod=1>"}.get(op, "")


CASES = []
for scaling, ops in BINARY.items():
    CASES += [two(op, f"r = {op}{attributes(op)}(a, b)", scaling) for op in ops.split()]
CASES += [two(op, f"c = {op}(a, b)  r = Cast<to=1>(c)", "NONE") for op in COMPARISONS.split()]
CASES += [
    two(op, f"c = Cast<to={t}>(a)  d = Cast<to={t}>(b)  e = {op}{attributes(op)}(c, d)  r = Cast<to=1>(e)", "NONE")
    for op, t in TYPED_BINARY.items()
]
CASES += [
    fires("Add", GEMM, "r = Add(k, a)", "w: . A; k: 1 A; v: A .", "LINEAR", k=(1, 8)),
    fires("Add", GEMM, "r = Add(a, k)", "w: . A; k: 1; v: A .", "LINEAR", k=(1,)),
    fires("Mul", GEMM, "r = Mul(a, k)", "w: . A; k: A; v: A .", "PRODUCT", k=(8,)),
    fires("Div", GEMM, "r = Div(a, k)", "w: . A; k: A; v: A .", "LINEAR", k=(8,)),
    fires("Div", GEMM, "n = ReduceL2<axes=[1]>(x)  r = Div(a, n)", "w: . A; v: A .", "LINEAR"),
    fires("Div", GEMM, "n = Abs(a)  o = Add(n, one)  r = Div(b, o)", "w: . A; w2: . A; v: A .", "LINEAR", one=(1,)),
    fires("Div", GEMM, "n = ReduceL2<axes=[1]>(x)  r = Div(n, a)", "w: . A; v: A .", "LINEAR"),
    two("Where", "c = Greater(a, b)  r = Where(c, a, b)", "NONE"),
    fires("Where", GEMM, "c = Cast<to=9>(k)  r = Where(c, a, b)", "w: . A; w2: . A; k: A; v: A .", "LINEAR", k=(8,)),
]
for op in sorted({case.op for case in CASES}):
    operands = "u, k, k" if op == "Where" else "u, k"
    CASES.append(unknown(op, f"r = {op}{attributes(op)}({operands})", OPSET, k=(8,)))
CASES += [
    freezes(
        "Add",
        GEMM,
        "u = custom.Foo(x)  r = Add(a, u)",
        "w 1: r (Add) the shape of input 1 is unknown",
        observed={"r": (2, 8)},
    ),
]

SCALE_CASES = [
    scale("Mul", "m = Mul(z, k)", True, k=K),
    scale("Mul", "m = Mul(k, z)", True, k=K[None]),
    scale("Div", "m = Div(k, z)", True, k=K),
    scale("Div", "m = Div(z, k)", False, k=K),
    *(scale(op, f"m = {op}(z, k)", False, k=K) for op in ("Add", "Sub", "Sum", "Mean", "Max", "Min")),
    scale("Sub", "m = Sub(k, z)", False, k=K),
    scale("Pow", "p = Abs(z)  m = Pow(p, k)", False, k=K),
    scale("Pow", "p = Abs(k)  m = Pow(p, z)", False, k=K),
    scale("Mod", "m = Mod<fmod=1>(z, k)", False, k=K),
    *(
        scale(op, f"c = {op}(z, k)  m = Cast<to=1>(c)", False, k=K)
        for op in ("Greater", "GreaterOrEqual", "Less", "LessOrEqual")
    ),
    scale("Equal", "i = Cast<to=6>(z)  c = Equal(i, k)  m = Cast<to=1>(c)", False, k=STEPS.astype(np.int32)),
    *(
        scale(op, f"i = Cast<to=9>(z)  c = {op}(i, k)  m = Cast<to=1>(c)", False, k=FLAGS)
        for op in ("And", "Or", "Xor")
    ),
    *(
        scale(op.partition("<")[0], f"p = Abs(z)  i = Cast<to=2>(p)  c = {op}(i, k)  m = Cast<to=1>(c)", False, k=BYTES)
        for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor", 'BitShift<direction="LEFT">')
    ),
    scale("Mul", "p = Abs(z)  i = Cast<to=2>(p)  c = Mul(i, k)  m = Cast<to=1>(c)", False, k=BYTES * 20),
    scale("Where", "c = Greater(z, zero)  m = Where(c, k, h)", True, k=K, h=(8,), zero=ZERO),
    scale("Where", "c = Greater(z, zero)  m = Where(c, zero, h)", True, h=(8,), zero=ZERO),
    scale("Where", "c = Greater(z, zero)  m = Where(c, z, h)", False, h=(8,), zero=ZERO),
    scale("Where", "c = Greater(z, zero)  m = Where(c, k, h)", False, k=np.array(0.5, np.float32), h=(8,), zero=ZERO),
    scale("Where", "m = Where(k, z, zero)", False, k=FLAGS, zero=ZERO),
    scale("Mul", "a = MatMul(x, w)  m = Mul(a, a)", True, "plain", w=(6, 8)),
]  # fmt: skip
ALL_DATA = ""
