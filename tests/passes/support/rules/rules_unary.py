"""Cases of `passes.axes.rules.unary`, `activation` and `smooth_activation`."""

import numpy as np
from rulekit import GEMM, fires, freezes, unknown
from scalekit import scale

UNARY = {
    "LINEAR": "Identity Dropout Neg",
    "HOMOGENEOUS": "Relu LeakyRelu Abs",
    "NONE": (
        "Acos Acosh Asin Asinh Atan Atanh Ceil Celu Cos Cosh Elu Erf Exp Floor Gelu HardSigmoid HardSwish Log Mish "
        "Reciprocal Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu"
    ),
}
TYPED_UNARY = {"Not": 9, "BitwiseNot": 6}
OPSET = 24


def one(op, nodes, scaling, **weights):
    return fires(op, GEMM, nodes, "w: . A; a: . A; r: . A; v: A .", scaling, OPSET, **weights)


CASES = []
for scaling, ops in UNARY.items():
    CASES += [one(op, f"r = {op}(a)", scaling) for op in ops.split()]
CASES += [one(op, f"c = {op}(a)  r = Cast<to=1>(c)", "NONE") for op in ("IsInf", "IsNaN")]
CASES += [one(op, f"c = Cast<to={t}>(a)  d = {op}(c)  r = Cast<to=1>(d)", "NONE") for op, t in TYPED_UNARY.items()]
CASES += [
    one("Cast", "c = Cast<to=11>(a)  r = Cast<to=1>(c)", "LINEAR"),
    one("Cast", "c = Cast<to=6>(a)  r = Cast<to=1>(c)", "NONE"),
    one("CastLike", "c = CastLike(a, big)  r = CastLike(c, x)", "LINEAR", big=np.array([1.0, 2.0])),
    one("CastLike", "c = CastLike(a, whole)  r = CastLike(c, x)", "NONE", whole=np.array(1)),
    one("CastLike", "r = CastLike(a, b)", "LINEAR"),
    one("Clip", "r = Clip(a, zero)", "HOMOGENEOUS", zero=np.array(0, np.float32)),
    one("Clip", "r = Clip(a, zero)", "HOMOGENEOUS", zero=np.zeros(1, np.float32)),
    one("Clip", "r = Clip(a, , six)", "NONE", six=np.array(6, np.float32)),
    fires("PRelu", GEMM, "r = PRelu(a, slope)", "w: . A; slope: A; v: A .", "HOMOGENEOUS", slope=(8,)),
]
for op in sorted({case.op for case in CASES}):
    to = "<to=1>" if op == "Cast" else ""
    second = op in ("PRelu", "CastLike")
    CASES.append(unknown(op, f"r = {op}{to}({'u, k' if second else 'u'})", OPSET, **({"k": (8,)} if second else {})))
CASES.append(
    freezes(
        "Cast", GEMM, "u = custom.Foo(a)  r = Cast<to=1>(u)", "w 1: u (Foo) has no axis rule", observed={"r": (2, 8)}
    )
)

SCALE_CASES = [
    scale("PRelu", "a = MatMul(x, w)  m = PRelu(a, a)", False, "plain", w=(6, 8)),
    scale("Cast", "a = MatMul(x, w)  h = Cast<to=10>(a)  m = Cast<to=1>(h)", False, "plain", w=(6, 8)),
    scale("Cast", "a = MatMul(x, w)  h = Cast<to=11>(a)  m = Cast<to=1>(h)", True, "plain", w=(6, 8)),
    *(
        scale("CastLike", "a = MatMul(x, w)  h = CastLike(a, like)  m = CastLike(h, x)", passes, "plain", w=(6, 8),
              like=np.ones(1, kind))
        for kind, passes in ((np.float16, False), (np.float64, True))
    ),
]  # fmt: skip
ALL_DATA = """
    Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Ceil Celu Clip Cos Cosh Dropout Elu Erf Exp Floor Gelu
    HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu Shrink Sigmoid
    Sign Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu
"""
