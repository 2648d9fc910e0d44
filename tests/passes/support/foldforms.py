"""Ops on constants over opsets and attributes: inputs for the tests of constant folding."""

import numpy as np
from netkit import ints


def floats(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


FLOAT = {"a": floats(3, 4), "b": floats(3, 4, seed=1), "v": floats(4), "n": floats(2, 3, 8, 8), "m": floats(4, 3),
         "o": floats(1, 4), "k": floats(5, 3, 3, 3), "s": floats(3)}  # fmt: skip
"""Tensors of the float type that a form is tried in."""
OTHER = {
    "i": np.random.default_rng(0).integers(-9, 10, (3, 4)),
    "j": np.random.default_rng(1).integers(1, 5, (3, 4)),
    "u": np.random.default_rng(2).integers(0, 200, (3, 4)).astype(np.uint8),
    "t": np.random.default_rng(3).random((3, 4)) > 0.5,
    "zero": ints(0), "one": ints(1), "two": ints(0, 2), "neg": ints(-1), "flat": ints(2, -1), "keep": ints(0, -1),
    "ends": ints(3), "step": ints(-1), "far": ints(-100), "rows": ints(2, 0, -1),
    "el": np.array([[0, 1, 2, 0], [2, 2, 1, 0]]), "nd": ints(0, 3).reshape(1, 2), "count": np.array(2),
    "yes": np.array([True, False, True]), "wide": ints(2, 3, 4), "few": ints(2, 2), "pads": ints(0, 1, 2, 0),
    "scalar": np.array(3), "hot": np.array([0.0, 1.0], np.float32), "lens": ints(1, 3, 2, 4),
}  # fmt: skip
ALL, OLD, NEW = (7, 9, 11, 13, 17, 21), (7, 9, 11), (13, 17, 21)
FORMS = [
    *((OLD, f"Squeeze<axes=[{axis}]>(o)") for axis in (0,)),
    (OLD, "Unsqueeze<axes=[0, 2]>(a)"), (NEW, "Squeeze(o, zero)"), (ALL, "Squeeze(o)"), (NEW, "Unsqueeze(a, two)"),
    *(((7, 9, 11, 13, 17), f"{op}<axes=[{axes}], keepdims={keep}>(a)") for op in
      ("ReduceMean", "ReduceMax", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceSumSquare")
      for axes, keep in (("1", 0), ("0, 1", 1))),
    (OLD, "ReduceSum<axes=[0]>(a)"), (NEW, "ReduceSum<keepdims=0>(a, neg)"), (NEW, "ReduceSum(a)"),
    ((18, 21), "ReduceMean<noop_with_empty_axes=1>(a)"), ((18, 21), "ReduceMin(a, one)"),
    *((ALL, f"LpNormalization<p={p}, axis={axis}>(a)") for p in (1, 2) for axis in (0, -1)),
    *((ALL, f"{op}<kernel_shape=[3, 3], strides=[2, 2], auto_pad=\"{pad}\">(n)") for op in ("MaxPool", "AveragePool")
      for pad in ("SAME_LOWER", "SAME_UPPER", "VALID")),
    ((10, 11, 17, 19), "MaxPool<kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1>(n)"),
    ((10, 11, 17, 19), "AveragePool<kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2], count_include_pad=1>(n)"),
    ((11, 17), "MaxPool<kernel_shape=[2, 2], dilations=[2, 3]>(n)"), (ALL, "GlobalMaxPool(n)"),
    (ALL, "GlobalAveragePool(n)"), (ALL, "LpPool<kernel_shape=[2, 2], p=1>(n)"),
    *((ALL, f"{op}{axis}({x})") for op in ("Softmax", "LogSoftmax", "Hardmax")
      for axis in ("", "<axis=1>", "<axis=0>") for x in ("a", "n")),
    (ALL, "LRN<size=3>(n)"), (ALL, "InstanceNormalization(n, s, s)"), (ALL, "Transpose(n)"),
    (ALL, "Transpose<perm=[1, 0]>(a)"), ((7, 9), "Slice<axes=[1], starts=[-3], ends=[100]>(a)"),
    ((10, 13), "Slice(a, ends, far, one, step)"), ((11, 13), "Slice(a, zero, ends)"), (ALL, "Gather(a, two)"),
    ((11, 13), "Gather<axis=1>(a, rows)"), ((11, 13), "GatherElements(a, el)"), ((11, 13), "GatherND(a, nd)"),
    (ALL, "Concat<axis=0>(a, b, o)"), (OLD, "Clip<min=-0.5, max=0.2>(a)"), ((11, 13), "Clip(a)"),
    (ALL, "Flatten(n)"), (ALL, "Flatten<axis=0>(n)"), (ALL, "Reshape(a, flat)"), (ALL, "Reshape(a, keep)"),
    (ALL, "Shape(n)"), ((15, 17), "Shape<start=1, end=-1>(n)"), (ALL, "Size(n)"), (ALL, "Identity(a)"),
    ((9, 21), "ConstantOfShape(few)"), ((9, 21), "ConstantOfShape<value=int64[1] {3}>(few)"),
    ((13,), "Expand(o, wide)"),
    ((8, 13), "Expand(s, few)"), ((13,), "Tile(a, few)"), ((11, 13), "Range(scalar, scalar, count)"),
    *((ALL, f"{op}(a, {x})") for op in ("Add", "Sub", "Mul", "Div", "Pow") for x in ("b", "v")),
    *((ALL, f"{op}(i, j)") for op in ("Add", "Sub", "Mul", "Div")), ((10, 13), "Mod(i, j)"),
    ((10, 13), "Mod<fmod=1>(i, j)"), ((10, 13), "Mod<fmod=1>(a, b)"), ((13,), "Pow(a, i)"), ((12, 13), "Pow(i, j)"),
    ((11,), "BitShift<direction=\"LEFT\">(u, u)"), ((18,), "BitwiseAnd(i, j)"), ((18,), "BitwiseNot(u)"),
    *((ALL, f"{op}(a)") for op in ("Abs", "Neg", "Exp", "Relu", "Sigmoid", "Tanh", "Floor", "Ceil", "Softplus", "Elu",
                                   "Selu", "Softsign", "HardSigmoid", "Reciprocal", "LeakyRelu", "Sqrt", "Log")),
    *(((9, 13, 20), f"{op}(a)") for op in ("Erf", "Sign", "Sin", "Cosh", "Atan", "IsNaN", "Shrink", "NonZero")),
    ((11, 13), "Round(a)"), ((12, 20), "Celu(a)"), ((14, 20), "HardSwish(a)"), ((18,), "Mish(a)"), ((20,), "Gelu(a)"),
    ((20,), "Gelu<approximate=\"tanh\">(a)"), ((10, 13), "ThresholdedRelu(a)"), (ALL, "PRelu(a, v)"),
    (ALL, "Sum(a, b, v)"), (ALL, "Mean(a, b)"), (ALL, "Max(a, b)"), (ALL, "Min(a, b, v)"), ((12, 13), "Max(i, j)"),
    *((ALL, f"{op}(a, b)") for op in ("Greater", "Less")), (ALL, "Equal(i, j)"), ((12,), "GreaterOrEqual(a, b)"),
    ((11, 13), "Equal(a, b)"), (ALL, "And(t, t)"), (ALL, "Not(t)"), (ALL, "Xor(t, t)"), ((9, 16), "Where(t, a, v)"),
    (ALL, "MatMul(a, m)"), (ALL, "Gemm<alpha=0.5, beta=2.0, transA=1>(a, b, v)"), (ALL, "Gemm<transB=1>(a, b, s)"),
    (ALL, "Conv<pads=[1, 1, 1, 1], strides=[2, 2]>(n, k)"),
    (ALL, "Conv<auto_pad=\"SAME_LOWER\", strides=[2, 2]>(n, k)"),
    ((12, 17), "Einsum<equation=\"ij,kj->ik\">(a, b)"), ((11, 13), "Einsum<equation=\"ii\">(a)"),
    ((11, 14), "CumSum<exclusive=1, reverse=1>(a, one)"), ((11, 14), "CumSum(a, one)"), (ALL, "ArgMax<axis=1>(a)"),
    ((12, 13), "ArgMin<axis=0, keepdims=0, select_last_index=1>(i)"), ((11,), "DepthToSpace<blocksize=2>(n4)"),
    ((11, 13), "DepthToSpace<blocksize=2, mode=\"CRD\">(n4)"), (ALL, "SpaceToDepth<blocksize=2>(n)"),
    ((14,), "Trilu<upper=0>(a)"), ((11,), "ReverseSequence<batch_axis=1, time_axis=0>(aa, lens)"), ((9,), "EyeLike(a)"),
    ((9, 11, 17), "Compress<axis=0>(a, yes)"), ((11, 13), "Det(sq)"),
    ((16, 18), "ScatterND<reduction=\"add\">(a, nd, w)"),
    ((16, 18), "ScatterElements<axis=0>(a, el, q)"), ((9, 11), "OneHot<axis=0>(two, scalar, hot)"),
    ((17,), "LayerNormalization(a, v, v)"), ((17,), "LayerNormalization<axis=0>(a, b)"), ((12,), "Dropout(a)"),
    ((11, 13), "Pad(a, pads)"), ((2, 7), "Pad<pads=[0, 1, 2, 0], mode=\"reflect\">(a)"), ((13,), "Resize(n, , up)"),
    ((10, 13), "QuantizeLinear(a, one_s, zp)"), ((10, 13), "DequantizeLinear(u, one_s)"), ((11,), "NoSuchOp(a)"),
    *(((9, 13), f"Cast<to={to}>({x})") for to in (1, 10, 11, 7, 6, 2, 3, 9) for x in ("a", "i", "u", "t")),
    ((11,), "RandomNormalLike(a)"), ((15,), "Bernoulli(p)"), ((9,), "Multinomial(a)"), ((13,), "custom.Foo(a)"),
]  # fmt: skip
"""(Opsets, node). What cannot be run stays."""
FLOAT |= {"n4": floats(1, 8, 2, 2), "aa": floats(4, 4), "sq": floats(3, 3), "w": floats(1), "q": floats(2, 4),
          "p": np.full((3, 4), 0.5, np.float32)}  # fmt: skip
OTHER |= {"one_s": np.array(0.02, np.float32), "zp": np.array(128, np.uint8), "up": np.float32([1, 1, 2, 2])}
