"""Nodes that make channels of constants, one for each channel, beside a Gemm that makes them of its weights."""

from dataclasses import dataclass, field

import numpy as np
from netkit import ints, net

ADDED = """net (float[5,6] x) => (float[5,4] y) {{
    z = ReduceSum(x, one)  a = Gemm(x, w, b)  {}  r = Add(a, m)  y = MatMul(r, v)
}}"""
"""z: one number for each sample; m: the channels made of constants."""
CONV = "net (float[2,3,6,6] x) => (float[2,4,h,w] y) {{ {}  y = Conv(m, v) }}"
PLAIN = "net (float[5,6] x) => (float[5,4] y) {{ {}  y = MatMul(m, v) }}"
TOKENS = "net (float[2,3,6] x) => (float[2,n,4] y) {{ a = MatMul(x, w)  {}  y = MatMul(m, v) }}"
FRAMES = {
    "added": (ADDED, {"w": (6, 8), "b": (8,), "v": (8, 4), "one": ints(1)}),
    "plain": (PLAIN, {"v": (8, 4)}),
    "conv": (CONV, {"v": (4, 8, 1, 1)}),
    "tokens": (TOKENS, {"w": (6, 8), "v": (8, 4)}),
}


@dataclass(frozen=True)
class Maker:
    """``scales``: whether a multiple in all of the constants is one of the channel."""

    op: str
    nodes: str
    scales: bool
    frame: str = "added"
    weights: dict = field(default_factory=dict)

    @property
    def id(self):
        return f"{self.op}-{self.frame}"

    def model(self):
        """The nodes in their frame."""
        text, weights = FRAMES[self.frame]
        return net(text.format(self.nodes), 23, 10, **{**weights, **self.weights})


def maker(op, nodes, scales, frame="added", **weights):
    return Maker(op, nodes, scales, frame, weights)


K = np.float32([0.5, -1.25, 2.0, 0.75, -0.3, 1.5, 0.25, 1.0])
STEPS = np.arange(1, 9)
FLAGS = np.array([1, 0, 1, 1, 0, 1, 0, 0], bool)
ZERO = np.array(0, np.float32)
BYTES = STEPS.astype(np.uint8)

MAKERS = [
    maker("Mul", "m = Mul(z, k)", True, k=K),
    maker("Mul", "m = Mul(k, z)", True, k=K[None]),
    maker("Div", "m = Div(k, z)", True, k=K),
    maker("Div", "m = Div(z, k)", False, k=K),
    *(maker(op, f"m = {op}(z, k)", False, k=K) for op in ("Add", "Sub", "Sum", "Mean", "Max", "Min")),
    maker("Sub", "m = Sub(k, z)", False, k=K),
    maker("Pow", "p = Abs(z)  m = Pow(p, k)", False, k=K),
    maker("Pow", "p = Abs(k)  m = Pow(p, z)", False, k=K),
    maker("Mod", "m = Mod<fmod=1>(z, k)", False, k=K),
    *(
        maker(op, f"c = {op}(z, k)  m = Cast<to=1>(c)", False, k=K)
        for op in ("Greater", "GreaterOrEqual", "Less", "LessOrEqual")
    ),
    maker("Equal", "i = Cast<to=6>(z)  c = Equal(i, k)  m = Cast<to=1>(c)", False, k=STEPS.astype(np.int32)),
    *(
        maker(op, f"i = Cast<to=9>(z)  c = {op}(i, k)  m = Cast<to=1>(c)", False, k=FLAGS)
        for op in ("And", "Or", "Xor")
    ),
    *(
        maker(op.partition("<")[0], f"p = Abs(z)  i = Cast<to=2>(p)  c = {op}(i, k)  m = Cast<to=1>(c)", False, k=BYTES)
        for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor", 'BitShift<direction="LEFT">')
    ),
    maker("Mul", "p = Abs(z)  i = Cast<to=2>(p)  c = Mul(i, k)  m = Cast<to=1>(c)", False, k=BYTES * 20),
    maker("Where", "c = Greater(z, zero)  m = Where(c, k, h)", True, k=K, h=(8,), zero=ZERO),
    maker("Where", "c = Greater(z, zero)  m = Where(c, zero, h)", True, h=(8,), zero=ZERO),
    maker("Where", "c = Greater(z, zero)  m = Where(c, z, h)", False, h=(8,), zero=ZERO),
    maker("Where", "c = Greater(z, zero)  m = Where(c, k, h)", False, k=np.array(0.5, np.float32), h=(8,), zero=ZERO),
    maker("Where", "m = Where(k, z, zero)", False, k=FLAGS, zero=ZERO),
    maker("Gather", "f = Flatten<axis=0>(z)  i = Cast<to=9>(f)  j = Cast<to=7>(i)  g = Gather(k, j)  "
          "m = Squeeze(g, at)", True, k=(2, 8), at=ints(0)),
    maker("Expand", "s = Shape(a)  m = Expand(k, s)", True, k=K),
    maker("Concat", "m = Concat<axis=1>(k, a)", True, "tokens", k=(2, 1, 8)),
    maker("Concat", "q = Concat<axis=1>(k, a)  m = Relu(q)", True, "tokens", k=(2, 1, 8)),
    maker("Gemm", "m = Gemm<alpha=0.5, beta=3.0>(x, w, b)", True, "plain", w=(6, 8), b=(8,)),
    maker("Gemm", "m = Gemm<beta=0.0>(x, w, b)", True, "plain", w=(6, 8), b=(8,)),
    maker("Gemm", "m = Gemm(x, w, b)", False, "plain", w=(6, 8), b=(1,)),
    maker("Gemm", "m = Gemm(x, w, b)", True, "plain", w=(6, 8), b=(5, 8)),
    maker("Gemm", "c = Gemm(x, w)  m = Gemm(x, h, c)", False, "plain", w=(6, 8), h=(6, 8)),
    maker("Gemm", "t = Transpose(x)  n = Gemm<transA=1>(w, t, b)  m = Transpose(n)", True, "plain", w=(6, 8), b=(8, 1)),
    maker("MatMul", "m = MatMul(x, w)", True, "plain", w=(6, 8)),
    maker("Einsum", 'm = Einsum<equation="ni,ic->nc">(x, w)', True, "plain", w=(6, 8)),
    maker("Einsum", 'm = Einsum<equation="ni,ic,c->nc">(x, w, k)', False, "plain", w=(6, 8), k=K),
    maker("Einsum", 'a = MatMul(x, w)  m = Einsum<equation="nc,c->nc">(a, k)', True, "plain", w=(6, 8), k=K),
    maker("Einsum", 'a = MatMul(x, w)  e = Einsum<equation="nc,co,c->no">(a, u, k)  m = Tanh(e)', False, "plain",
          w=(6, 8), u=(8, 8), k=K),
    maker("Einsum", 'a = MatMul(x, w)  e = Einsum<equation="nc,nc,co->no">(a, a, u)  m = Tanh(e)', False, "plain",
          w=(6, 8), u=(8, 8)),
    maker("Mul", "a = MatMul(x, w)  m = Mul(a, a)", True, "plain", w=(6, 8)),
    maker("PRelu", "a = MatMul(x, w)  m = PRelu(a, a)", False, "plain", w=(6, 8)),
    maker("Cast", "a = MatMul(x, w)  h = Cast<to=10>(a)  m = Cast<to=1>(h)", False, "plain", w=(6, 8)),
    maker("Cast", "a = MatMul(x, w)  h = Cast<to=11>(a)  m = Cast<to=1>(h)", True, "plain", w=(6, 8)),
    maker("Conv", "m = Conv<pads=[1,1,1,1]>(x, w, b)", True, "conv", w=(8, 3, 3, 3), b=(8,)),
    maker("Conv", "d = ReduceMean<keepdims=0>(x, ax)  e = MatMul(d, k)  m = Conv(x, w, e)", False, "conv",
          w=(8, 3, 3, 3), k=(3, 8), ax=ints(0, 2, 3)),
    maker("Conv", "a = Conv(x, w, b)  m = Conv<group=8>(a, k, c)", False, "conv", w=(8, 3, 3, 3), b=(8,),
          k=(8, 1, 1, 1), c=(8,)),
    maker("ConvTranspose", "m = ConvTranspose<strides=[2,2]>(x, w, b)", True, "conv", w=(3, 8, 2, 2), b=(8,)),
    maker("DeformConv", "m = DeformConv(x, w, o, b)", True, "conv", w=(8, 3, 1, 1), o=(2, 2, 6, 6), b=(8,)),
    maker("GridSample", "g = Transpose<perm=[0,2,3,1]>(x)  h = Slice(g, lo, hi, ax)  m = GridSample(k, h)", True,
          "conv", k=(2, 8, 4, 4), lo=ints(0), hi=ints(2), ax=ints(3)),
    maker("RoiAlign", "f = Flatten(x)  p = Slice(f, lo, hi, ax)  q = Tanh(p)  "
          "m = RoiAlign<output_height=2, output_width=2>(k, q, at)", True, "conv", k=(2, 8, 4, 4), lo=ints(0),
          hi=ints(4), ax=ints(1), at=ints(0, 1)),
    maker("ConstantOfShape", "i = Cast<to=9>(z)  s = Shape(a)  c = ConstantOfShape(s)  m = Where(i, c, c)", False),
    maker("ReverseSequence", "p = ReduceMax<keepdims=0>(x, ax)  i = Cast<to=9>(p)  j = Cast<to=7>(i)  l = Add(j, one)  "
          "n = ReverseSequence(k, l)  m = Add(n, a)", True, "tokens", k=(2, 3, 8), ax=ints(0, 2), one=ints(1)),
    maker("Attention", "q = Unsqueeze(a, at)  d = Attention(q, q, k)  m = Squeeze(d, at)", False, "tokens",
          k=(2, 1, 3, 8), at=ints(1)),
]  # fmt: skip

_ALL_DATA = """
    Abs Acos Acosh ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization BitwiseNot Ceil Celu Clip
    Constant Cos Cosh CumSum DepthToSpace DequantizeLinear Dropout Elu Erf Exp Flatten Floor GRU GatherElements Gelu
    GlobalAveragePool GlobalLpPool GlobalMaxPool GroupNormalization HardSigmoid HardSwish Hardmax Identity
    InstanceNormalization IsInf IsNaN LRN LSTM LayerNormalization LeakyRelu Log LogSoftmax LpNormalization LpPool
    MaxPool MeanVarianceNormalization Mish Neg Not Pad QuantizeLinear RMSNormalization RNN Reciprocal ReduceL1
    ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu
    Reshape Resize RotaryEmbedding Round Selu Shape Shrink Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign
    SpaceToDepth Split Sqrt Squeeze Swish Tan Tanh ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Upsample
"""
ALL_DATA = frozenset(_ALL_DATA.split())
"""Ops that make no channels of a constant beside data: their first operand holds the channels, or, in recurrent layers,
what they make is no multiple of anything. The tables of the rules have them on the way of channels that others make."""
