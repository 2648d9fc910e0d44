"""Forms of ops whose gradients are checked, beside those of the rules' cases, each as PyTorch computes it."""

from dataclasses import replace

import numpy as np
from gradkit import Form
from netkit import ints


def conv(name, attributes, data, weights, function, opset=17, op="Conv"):
    shape = ",".join(map(str, data))
    bias = weights[0] if op == "Conv" else weights[1] * function.get("groups", 1)
    rank = len(data) - 2
    padding = function.pop("before", None)

    def in_torch(torch, x, w, b):
        call = getattr(torch.nn.functional, f"conv{'_transpose' * (op != 'Conv')}{rank}d")
        return call(torch.nn.functional.pad(x, padding) if padding else x, w, b, **function)

    nodes = f"y = {op}<{attributes}>(x, w, b)"
    return Form(name, f"float[{shape}] x", nodes, {"w": weights, "b": (bias,)}, in_torch, opset)


def pooled(name, nodes, function, data=(2, 3, 9, 8), opset=17):
    return Form(name, f"float[{','.join(map(str, data))}] x", nodes, {}, function, opset)


def two(name, nodes, function, a="2,3,4", b=(3, 4), opset=17):
    return Form(name, f"float[{a}] x", nodes, {"k": b}, function, opset)


CONVOLUTIONS = [
    conv("conv", "pads=[1,1,1,1]", (2, 4, 6, 7), (5, 4, 3, 3), {"padding": 1}),
    conv("conv_asymmetric", "pads=[0,1,2,0]", (2, 4, 6, 7), (5, 4, 3, 3), {"before": (1, 0, 0, 2)}),
    conv("conv_wide_pads", "pads=[3,3,3,3]", (2, 4, 6, 7), (5, 4, 2, 2), {"padding": 3}),
    conv("conv_strided", "strides=[2,3], pads=[1,1,1,1]", (2, 4, 8, 8), (5, 4, 3, 3), {"padding": 1, "stride": (2, 3)}),
    conv("conv_dilated", "dilations=[2,1], pads=[2,1,2,1]", (2, 4, 6, 7), (5, 4, 3, 3),
         {"padding": (2, 1), "dilation": (2, 1)}),
    conv("conv_strided_dilated", "strides=[2,2], dilations=[2,2]", (2, 12, 9, 8), (3, 12, 2, 2),
         {"stride": 2, "dilation": 2}),
    conv("conv_groups", "group=2, strides=[2,2]", (2, 6, 7, 7), (4, 3, 3, 3), {"groups": 2, "stride": 2}),
    conv("conv_groups_dense", "group=2, pads=[1,1,1,1]", (2, 6, 7, 7), (4, 3, 3, 3), {"groups": 2, "padding": 1}),
    conv("conv_depthwise", "group=5, pads=[1,1,1,1]", (3, 5, 6, 6), (5, 1, 3, 3), {"groups": 5, "padding": 1}),
    conv("conv_depthwise_strided", "group=5, pads=[1,1,1,1], strides=[2,2]", (3, 5, 6, 7), (5, 1, 3, 3),
         {"groups": 5, "padding": 1, "stride": 2}),
    conv("conv_depthwise_multiplier", "group=3, pads=[2,2,2,2]", (2, 3, 6, 6), (6, 1, 5, 5), {"groups": 3, "padding": 2}),
    conv("conv_pointwise", "", (2, 6, 4, 4), (7, 6, 1, 1), {}),
    conv("conv_pointwise_strided", "strides=[2,2]", (2, 6, 5, 4), (7, 6, 1, 1), {"stride": 2}),
    conv("conv_few_places", "pads=[1,1,1,1]", (2, 24, 2, 2), (20, 24, 3, 3), {"padding": 1}),
    conv("conv_same_upper", 'auto_pad="SAME_UPPER", strides=[2,2]', (2, 3, 7, 6), (4, 3, 3, 3),
         {"before": (0, 1, 1, 1), "stride": 2}),
    conv("conv_same_lower", 'auto_pad="SAME_LOWER"', (2, 3, 7, 6), (4, 3, 2, 2), {"before": (1, 0, 1, 0)}),
    conv("conv_1d", "strides=[2], pads=[1,2]", (2, 3, 11), (4, 3, 4), {"before": (1, 2), "stride": 2}),
    conv("conv_3d", "pads=[1,0,0,0,0,1]", (1, 2, 4, 4, 3), (3, 2, 2, 2, 2), {"before": (0, 1, 0, 0, 1, 0)}),
    conv("conv_opset_9", "strides=[2,2], pads=[1,1,1,1]", (2, 4, 8, 8), (5, 4, 3, 3), {"padding": 1, "stride": 2}, 9),
    conv("conv_groups_opset_9", "group=2, pads=[1,1,1,1]", (2, 4, 5, 5), (6, 2, 3, 3), {"padding": 1, "groups": 2}, 9),
    conv("transposed", "", (2, 4, 5, 4), (4, 3, 2, 2), {}, op="ConvTranspose"),
    conv("transposed_strided", "strides=[2,2], pads=[1,1,1,1], output_padding=[1,0]", (2, 4, 5, 4), (4, 3, 3, 3),
         {"stride": 2, "padding": 1, "output_padding": (1, 0)}, op="ConvTranspose"),
    conv("transposed_groups", "group=2, strides=[2,2]", (2, 4, 5, 4), (4, 3, 2, 2), {"stride": 2, "groups": 2},
         op="ConvTranspose"),
    conv("transposed_dilated", "dilations=[2,2]", (2, 4, 5, 4), (4, 3, 2, 2), {"dilation": 2}, op="ConvTranspose"),
    conv("transposed_same", 'auto_pad="SAME_UPPER", strides=[2,2]', (2, 3, 5, 4), (3, 2, 4, 4),
         {"stride": 2, "padding": 1}, op="ConvTranspose"),
]  # fmt: skip
POOLS = [
    pooled("max_tiles", "y = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x)",
           lambda torch, x: torch.nn.functional.max_pool2d(x, 2)),
    pooled("max_overlapping", "y = MaxPool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(x)",
           lambda torch, x: torch.nn.functional.max_pool2d(x, 3, 2, 1)),
    pooled("max_overlapping_opset_12", "y = MaxPool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(x)",
           lambda torch, x: torch.nn.functional.max_pool2d(x, 3, 2, 1), opset=12),
    pooled("max_dense_opset_11", "y = MaxPool<kernel_shape=[3,2]>(x)",
           lambda torch, x: torch.nn.functional.max_pool2d(x, (3, 2), 1), opset=11),
    pooled("max_ceil", "y = MaxPool<kernel_shape=[2,2], strides=[2,2], ceil_mode=1>(x)",
           lambda torch, x: torch.nn.functional.max_pool2d(x, 2, ceil_mode=True)),
    pooled("mean_tiles", "y = AveragePool<kernel_shape=[3,4], strides=[3,4]>(x)",
           lambda torch, x: torch.nn.functional.avg_pool2d(x, (3, 4))),
    pooled("mean_excluding", "y = AveragePool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(x)",
           lambda torch, x: torch.nn.functional.avg_pool2d(x, 3, 2, 1, count_include_pad=False)),
    pooled("mean_including", "y = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1>(x)",
           lambda torch, x: torch.nn.functional.avg_pool2d(x, 3, 1, 1)),
    pooled("mean_ceil", "y = AveragePool<kernel_shape=[2,3], strides=[2,3], ceil_mode=1>(x)",
           lambda torch, x: torch.nn.functional.avg_pool2d(x, (2, 3), ceil_mode=True, count_include_pad=False)),
    pooled("mean_1d", "y = AveragePool<kernel_shape=[3], strides=[2]>(x)",
           lambda torch, x: torch.nn.functional.avg_pool1d(x, 3, 2), (2, 3, 9)),
    pooled("norm_pool", "y = LpPool<kernel_shape=[3,3], strides=[2,2], p=2>(x)",
           lambda torch, x: torch.nn.functional.lp_pool2d(x, 2, 3, 2)),
    pooled("norm_pool_3", "a = Abs(x)  y = LpPool<kernel_shape=[2,2], p=3>(a)",
           lambda torch, x: torch.nn.functional.lp_pool2d(x.abs(), 3, 2, 1)),
    pooled("global_mean", "y = GlobalAveragePool(x)", lambda torch, x: x.mean((2, 3), keepdim=True)),
    pooled("global_max", "y = GlobalMaxPool(x)", lambda torch, x: x.amax((2, 3), keepdim=True)),
    pooled("global_norm", "y = GlobalLpPool(x)", lambda torch, x: x.square().sum((2, 3), keepdim=True).sqrt()),
]  # fmt: skip
MATRICES = [
    two("matmul_batched", "y = MatMul(x, k)", lambda torch, x, k: x @ k, "2,3,4", (4, 5)),
    two("matmul_broadcast_left", "y = MatMul(k, x)", lambda torch, x, k: k @ x, "2,3,4", (5, 3)),
    two("matmul_broadcast_batch", "y = MatMul(x, k)", lambda torch, x, k: x @ k, "2,3,3,4", (3, 4, 5)),
    two("matmul_broadcast_one", "y = MatMul(x, k)", lambda torch, x, k: x @ k, "2,1,3,4", (1, 6, 4, 5)),
    two("matmul_vector", "y = MatMul(x, k)", lambda torch, x, k: x @ k, "2,3,4", (4,)),
    two("matmul_row", "y = MatMul(k, x)", lambda torch, x, k: k @ x, "2,3,4", (3,)),
    two("matmul_dot", "y = MatMul(k, x)", lambda torch, x, k: k @ x, "4", (4,)),
    Form("gemm", "float[3,4] x", "y = Gemm<alpha=0.5, beta=2.0>(x, w, b)", {"w": (4, 5), "b": (5,)},
         lambda torch, x, w, b: 0.5 * x @ w + 2 * b),
    Form("gemm_turned", "float[4,3] x", "y = Gemm<transA=1, transB=1, alpha=0.5>(x, w, b)", {"w": (5, 4), "b": (3, 1)},
         lambda torch, x, w, b: 0.5 * x.T @ w.T + b),
    Form("gemm_transB", "float[3,4] x", "y = Gemm<transB=1>(x, w, b)", {"w": (5, 4), "b": (1,)},
         lambda torch, x, w, b: x @ w.T + b),
    Form("gemm_opset_9", "float[4,3] x", "y = Gemm<transA=1>(x, w, b)", {"w": (4, 5), "b": (5,)},
         lambda torch, x, w, b: x.T @ w + b, 9),
    *(
        two(f"einsum_{equation}", f'y = Einsum<equation="{equation}">(x, k)',
            lambda torch, x, k, equation=equation: torch.einsum(equation, x, k), a, b)
        for equation, a, b in (
            ("bij,bjk->bik", "2,3,4", (2, 4, 5)), ("bhid,bhjd->bhij", "2,2,3,4", (2, 2, 5, 4)), ("...i,ji", "2,3,4", (5, 4)),
            ("ij,k->jk", "3,4", (5,)), ("abc,cd->bd", "2,3,4", (4, 5)),
        )
    ),
]  # fmt: skip
ELEMENTWISE = [
    *(
        two(f"{op}_{a}_{b}", "e = Exp(k)  y = Div(x, e)" if op == "Div" else f"y = {op}(x, k)", lambda torch, x, k, f=f: f(torch, x, k), a, b)
        for op, f in (
            ("Add", lambda torch, x, k: x + k), ("Sub", lambda torch, x, k: x - k), ("Mul", lambda torch, x, k: x * k),
            ("Div", lambda torch, x, k: x / k.exp()), ("Max", lambda torch, x, k: torch.maximum(x, k)),
            ("Min", lambda torch, x, k: torch.minimum(x, k)),
        )
        for a, b in (("2,3,4", (3, 1)), ("4", (2, 3, 4)), ("2,1,4", (3, 4)), ("2,3", ()))
    ),
    Form("square", "float[2,3] x", "y = Mul(x, x)", {}, lambda torch, x: x * x),
    Form("power_two", "float[2,3] x", "y = Pow(x, p)", {"p": np.array(2.0, np.float32)}, lambda torch, x: x**2, fixed="p"),
    Form("power_root", "float[2,3] x", "a = Abs(x)  y = Pow(a, p)", {"p": np.array(0.5, np.float32)},
         lambda torch, x: x.abs() ** 0.5, fixed="p"),
    two("power_computed", "a = Abs(x)  y = Pow(a, k)", lambda torch, x, k: x.abs() ** k),
    two("mean_of", "y = Mean(x, k, x)", lambda torch, x, k: (2 * x + k) / 3),
    two("remainder", "y = Mod<fmod=1>(x, k)", lambda torch, x, k: torch.fmod(x, k)),
    two("choice", "z = Sub(k, k)  c = Less(x, z)  y = Where(c, x, k)",
        lambda torch, x, k: torch.where(x < 0, x, k.expand(x.shape))),
    two("several_readers", "a = Tanh(x)  b = Mul(a, k)  c = Add(a, b)  y = Mul(c, a)",
        lambda torch, x, k: (x.tanh() * (1 + k)) * x.tanh()),
    two("clip", "y = Clip(x, low, high)", lambda torch, x: x.clamp(-0.5, 0.7)),
    two("prelu", "y = PRelu(x, k)", lambda torch, x, k: torch.where(x > 0, x, k * x), "2,3,4", (3, 1)),
    *(
        Form(name, "float[3,5] x", f"y = {op}<{attributes}>(x)", {}, function, 20)
        for name, op, attributes, function in (
            ("leaky", "LeakyRelu", "alpha=0.3", lambda torch, x: torch.nn.functional.leaky_relu(x, 0.3)),
            ("elu", "Elu", "alpha=0.7", lambda torch, x: torch.nn.functional.elu(x, 0.7)),
            ("celu", "Celu", "alpha=0.7", lambda torch, x: torch.nn.functional.celu(x, 0.7)),
            ("selu", "Selu", "", lambda torch, x: torch.nn.functional.selu(x)),
            ("gelu", "Gelu", "", lambda torch, x: torch.nn.functional.gelu(x)),
            ("gelu_tanh", "Gelu", 'approximate="tanh"',
             lambda torch, x: torch.nn.functional.gelu(x, approximate="tanh")),
            ("mish", "Mish", "", lambda torch, x: torch.nn.functional.mish(x)),
            ("hard_sigmoid", "HardSigmoid", "alpha=0.3, beta=0.4", lambda torch, x: (0.3 * x + 0.4).clamp(0, 1)),
            ("hard_swish", "HardSwish", "", lambda torch, x: torch.nn.functional.hardswish(x)),
            ("softplus", "Softplus", "", lambda torch, x: torch.nn.functional.softplus(x)),
            ("softsign", "Softsign", "", lambda torch, x: torch.nn.functional.softsign(x)),
            ("erf", "Erf", "", lambda torch, x: torch.erf(x)),
            ("atan", "Atan", "", lambda torch, x: torch.atan(x)),
            ("asinh", "Asinh", "", lambda torch, x: torch.asinh(x)),
            ("shrink", "Shrink", "lambd=0.4", lambda torch, x: x * (x.abs() > 0.4)),
        )
    ),
]  # fmt: skip
ELEMENTWISE = [
    form if form.id != "clip" else Form(
        "clip", "float[3,5] x", "y = Clip(x, low, high)",
        {"low": np.array(-0.5, np.float32), "high": np.array(0.7, np.float32)}, form.torch, fixed="low high")
    for form in ELEMENTWISE
]  # fmt: skip
LAYOUT = [
    two("concat", "a = Neg(x)  y = Concat<axis=-1>(x, k, a)", lambda torch, x, k: torch.cat([x, k, -x], -1), "2,3,4",
        (2, 3, 5)),
    two("split", "a, b, c = Split<axis=1>(x, s)  y = Mul(a, c)", lambda torch, x: x[:, :2] * x[:, 3:], "2,5,4"),
    Form("split_opset_11", "float[2,5,4] x", "a, b, c = Split<axis=1, split=[2,1,2]>(x)  y = Mul(a, c)", {},
         lambda torch, x: x[:, :2] * x[:, 3:], 11),
    Form("slice", "float[6,7] x", "y = Slice(x, lo, hi, ax, st)",
         {"lo": ints(1, -1), "hi": ints(6, -8), "ax": ints(0, 1), "st": ints(2, -3)},
         lambda torch, x: x[1:6:2].flip(1)[:, ::3]),
    Form("slice_opset_9", "float[6,7] x", "y = Slice<axes=[1], starts=[-5], ends=[100]>(x)", {},
         lambda torch, x: x[:, -5:], 9),
    Form("gather_rows", "float[6,4] x", "y = Gather(x, i)", {"i": ints(3, 0, 3, -1)}, lambda torch, x: x[[3, 0, 3, 5]]),
    Form("gather_rows_opset_12", "float[6,4] x", "y = Gather(x, i)", {"i": ints([3, 0], [3, -1])},
         lambda torch, x: x[torch.tensor([[3, 0], [3, 5]])], 12),
    Form("gather_one", "float[2,6,4] x", "y = Gather<axis=1>(x, i)", {"i": np.array(2)},
         lambda torch, x: x[:, 2]),
    Form("gather_run", "float[2,6,4] x", "y = Gather<axis=1>(x, i)", {"i": ints([2, 3, 4])}, lambda torch, x: x[:, [[2, 3, 4]]]),
    Form("gather_shuffle", "float[2,4,3] x", "y = Gather<axis=1>(x, i)", {"i": ints(2, 0, 3, 1)},
         lambda torch, x: x[:, [2, 0, 3, 1]]),
    Form("gather_axis", "float[2,4,3] x", "y = Gather<axis=1>(x, i)", {"i": ints([2, 0], [2, 1])},
         lambda torch, x: x[:, [[2, 0], [2, 1]]]),
    Form("gather_elements", "float[3,4] x", "y = GatherElements<axis=1>(x, i)", {"i": ints([0, 0], [3, 1], [2, 2])},
         lambda torch, x: x.gather(1, torch.tensor([[0, 0], [3, 1], [2, 2]]))),
    Form("reshape", "float[2,3,4] x", "a = Reshape(x, s)  y = Mul(a, a)", {"s": ints(0, -1)},
         lambda torch, x: x.reshape(2, -1) ** 2),
    Form("transpose", "float[2,3,4] x", "a = Transpose<perm=[2,0,1]>(x)  y = MatMul(a, k)", {"k": (3, 2)},
         lambda torch, x, k: x.permute(2, 0, 1) @ k),
    Form("squeeze", "float[2,1,4] x", "a = Squeeze(x, o)  u = Unsqueeze(a, z)  y = Exp(u)", {"o": ints(1), "z": ints(0)},
         lambda torch, x: x.squeeze(1)[None].exp()),
    Form("expand", "float[3,1] x", "y = Expand(x, s)", {"s": ints(2, 3, 4)}, lambda torch, x: x.expand(2, 3, 4)),
    Form("tile", "float[2,3] x", "y = Tile(x, s)", {"s": ints(2, 3)}, lambda torch, x: x.repeat(2, 3)),
    Form("depth_to_space", "float[2,8,3,2] x", "y = DepthToSpace<blocksize=2>(x)", {},
         lambda torch, x: x.reshape(2, 2, 2, 2, 3, 2).permute(0, 3, 4, 1, 5, 2).reshape(2, 2, 6, 4)),
    Form("pixel_shuffle", "float[2,8,3,2] x", 'y = DepthToSpace<blocksize=2, mode="CRD">(x)', {},
         lambda torch, x: torch.nn.functional.pixel_shuffle(x, 2)),
    Form("space_to_depth", "float[2,2,4,6] x", "y = SpaceToDepth<blocksize=2>(x)", {},
         lambda torch, x: x.reshape(2, 2, 2, 2, 3, 2).permute(0, 3, 5, 1, 2, 4).reshape(2, 8, 2, 3)),
    Form("cumulative", "float[3,4] x", "y = CumSum<exclusive=1, reverse=1>(x, o)", {"o": np.array(1)},
         lambda torch, x: x.flip(1).cumsum(1).flip(1) - x),
    Form("triangle", "float[4,4] x", "y = Trilu<upper=0>(x, o)", {"o": np.array(-1)},
         lambda torch, x: x.tril(-1)),
    Form("top", "float[3,6] x", "y, i = TopK(x, n)", {"n": ints(2)}, lambda torch, x: x.topk(2).values),
    *(
        Form(f"pad_{mode}", "float[1,2,4,5] x", f'y = Pad<mode="{mode}">(x, p)', {"p": ints(0, 0, 1, 2, 0, 0, 2, 1)},
             lambda torch, x, name=name: torch.nn.functional.pad(x, (2, 1, 1, 2), name))
        for mode, name in (("constant", "constant"), ("reflect", "reflect"), ("edge", "replicate"))
    ),
    Form("crop", "float[2,4,5] x", "y = Pad(x, p)", {"p": ints(0, -1, 2, 0, -1, 0)},
         lambda torch, x: torch.nn.functional.pad(x[:, 1:-1], (2, 0))),
    Form("pad_opset_9", "float[2,4] x", "y = Pad<pads=[0,1,1,0]>(x)", {},
         lambda torch, x: torch.nn.functional.pad(x, (1, 0, 0, 1)), 9),
]  # fmt: skip
LAYOUT = [
    form if form.id != "split" else Form(form.id, form.inputs, form.nodes, {"s": ints(2, 1, 2)}, form.torch)
    for form in LAYOUT
]
REDUCTIONS = [
    *(
        Form(f"{op}_{keep}", "float[2,3,4] x", f"y = {op}<axes=[0,-1], keepdims={keep}>(x)", {},
             lambda torch, x, f=f, keep=keep: f(torch, x, {"dim": (0, 2), "keepdim": bool(keep)}), 12)
        for op, f in (
            ("ReduceSum", lambda torch, x, how: x.sum(**how)), ("ReduceMean", lambda torch, x, how: x.mean(**how)),
            ("ReduceMax", lambda torch, x, how: x.amax(**how)), ("ReduceMin", lambda torch, x, how: x.amin(**how)),
            ("ReduceL1", lambda torch, x, how: x.abs().sum(**how)),
            ("ReduceL2", lambda torch, x, how: x.square().sum(**how).sqrt()),
            ("ReduceSumSquare", lambda torch, x, how: x.square().sum(**how)),
            ("ReduceLogSumExp", lambda torch, x, how: x.logsumexp(**how)),
        )
        for keep in (0, 1)
    ),
    Form("ReduceProd", "float[2,3] x", "y = ReduceProd<axes=[1]>(x)", {}, lambda torch, x: x.prod(1, keepdim=True), 12),
    Form("ReduceLogSum", "float[2,3] x", "a = Abs(x)  y = ReduceLogSum<axes=[1]>(a)", {},
         lambda torch, x: x.abs().sum(1, keepdim=True).log(), 12),
    Form("ReduceMean_input", "float[2,3,4] x", "y = ReduceMean(x, a)", {"a": ints(1)},
         lambda torch, x: x.mean(1, keepdim=True), 18),
    Form("ReduceMax_all", "float[2,3,4] x", "y = ReduceMax<keepdims=0>(x)", {}, lambda torch, x: x.amax(), 18),
]  # fmt: skip
NORMS = [
    Form("batch_norm", "float[2,3,4,2] x", "y = BatchNormalization<epsilon=0.01>(x, scale, b, m, var)",
         {"scale": (3,), "b": (3,), "m": (3,), "var": (3,)},
         lambda torch, x, scale, b, m, var: (x - m[:, None, None]) / (var[:, None, None] + 0.01).sqrt()
         * scale[:, None, None] + b[:, None, None]),
    Form("batch_norm_rows", "float[4,3] x", "y = BatchNormalization(x, scale, b, m, var)",
         {"scale": (3,), "b": (3,), "m": (3,), "var": (3,)},
         lambda torch, x, scale, b, m, var: (x - m) / (var + 1e-5).sqrt() * scale + b),
    Form("instance_norm", "float[2,3,4,5] x", "y = InstanceNormalization(x, scale, b)", {"scale": (3,), "b": (3,)},
         lambda torch, x, scale, b: torch.nn.functional.instance_norm(x, None, None, scale, b)),
    Form("group_norm", "float[2,6,4,5] x", "y = GroupNormalization<num_groups=3>(x, scale, b)",
         {"scale": (6,), "b": (6,)}, lambda torch, x, scale, b: torch.nn.functional.group_norm(x, 3, scale, b), 21),
    Form("group_norm_opset_18", "float[2,6,4] x", "y = GroupNormalization<num_groups=3>(x, scale, b)",
         {"scale": (3,), "b": (3,)},
         lambda torch, x, scale, b: torch.nn.functional.group_norm(
             x, 3, scale.repeat_interleave(2), b.repeat_interleave(2)), 18),
    Form("layer_norm", "float[2,3,5] x", "y = LayerNormalization<epsilon=0.01>(x, scale, b)", {"scale": (5,), "b": (5,)},
         lambda torch, x, scale, b: torch.nn.functional.layer_norm(x, (5,), scale, b, 0.01)),
    Form("layer_norm_two", "float[2,3,5] x", "y = LayerNormalization<axis=1>(x, scale, b)",
         {"scale": (3, 5), "b": (3, 5)}, lambda torch, x, scale, b: torch.nn.functional.layer_norm(x, (3, 5), scale, b)),
    Form("rms_norm", "float[2,3,5] x", "y = RMSNormalization(x, scale)", {"scale": (5,)},
         lambda torch, x, scale: torch.nn.functional.rms_norm(x, (5,), scale, 1e-5), 23),
    Form("mean_variance", "float[2,3,4,5] x", "y = MeanVarianceNormalization(x)", {},
         lambda torch, x: (x - x.mean((0, 2, 3), keepdim=True))
         / (x.var((0, 2, 3), keepdim=True, correction=0) + 1e-9).sqrt()),
    Form("unit_length", "float[2,3,4] x", "y = LpNormalization<axis=1>(x)", {},
         lambda torch, x: torch.nn.functional.normalize(x, dim=1)),
    Form("unit_sum", "float[2,3,4] x", "y = LpNormalization<axis=-1, p=1>(x)", {},
         lambda torch, x: torch.nn.functional.normalize(x, p=1, dim=-1)),
    Form("local_response", "float[2,7,3,2] x", "y = LRN<size=5, alpha=0.3, beta=0.6, bias=1.5>(x)", {},
         lambda torch, x: torch.nn.functional.local_response_norm(x, 5, 0.3, 0.6, 1.5)),
    Form("softmax", "float[2,3,4] x", "y = Softmax<axis=1>(x)", {}, lambda torch, x: x.softmax(1)),
    Form("softmax_opset_11", "float[2,3,4] x", "y = Softmax(x)", {},
         lambda torch, x: x.flatten(1).softmax(1).reshape(x.shape), 11),
    Form("log_softmax", "float[2,3,4] x", "y = LogSoftmax(x)", {}, lambda torch, x: x.log_softmax(-1)),
    Form("log_softmax_opset_11", "float[2,3,4] x", "y = LogSoftmax<axis=2>(x)", {}, lambda torch, x: x.log_softmax(2), 11),
]  # fmt: skip


def resized(name, attributes, function, scales=(1, 1, 2, 2), data="2,2,3,4", opset=17):
    weights = {"s": np.float32(scales)}
    return Form(name, f"float[{data}] x", f"y = Resize<{attributes}>(x, , s)", weights, function, opset, "s")


RESIZES = [
    resized("nearest", 'mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"',
            lambda torch, x: torch.nn.functional.interpolate(x, scale_factor=2)),
    resized("nearest_half_pixel", 'mode="nearest"', lambda torch, x: torch.nn.functional.interpolate(x, scale_factor=2)),
    resized("nearest_uneven", 'mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"',
            lambda torch, x: torch.nn.functional.interpolate(x, scale_factor=(1.5, 2.5)), (1, 1, 1.5, 2.5), "1,2,4,4"),
    resized("linear", 'mode="linear"',
            lambda torch, x: torch.nn.functional.interpolate(x, scale_factor=2, mode="bilinear")),
    resized("linear_aligned", 'mode="linear", coordinate_transformation_mode="align_corners"',
            lambda torch, x: torch.nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)),
    resized("cubic", 'mode="cubic", cubic_coeff_a=-0.75',
            lambda torch, x: torch.nn.functional.interpolate(x, scale_factor=2, mode="bicubic")),
    Form("linear_sizes", "float[1,2,4,6] x", 'y = Resize<mode="linear">(x, , , s)', {"s": ints(1, 2, 3, 9)},
         lambda torch, x: torch.nn.functional.interpolate(x, (3, 9), mode="bilinear")),
    Form("nearest_opset_10", "float[1,2,3,3] x", "y = Resize(x, s)", {"s": np.float32([1, 1, 2, 3])},
         lambda torch, x: torch.nn.functional.interpolate(x, scale_factor=(2.0, 3.0)), 10, "s"),
    Form("upsample_opset_9", "float[1,2,3,3] x", "y = Upsample(x, s)", {"s": np.float32([1, 1, 2, 3])},
         lambda torch, x: torch.nn.functional.interpolate(x, scale_factor=(2.0, 3.0)), 9, "s"),
    Form("upsample_linear", "float[1,2,3,3] x", 'y = Upsample<mode="linear">(x, s)', {"s": np.float32([1, 1, 2, 2])},
         None, 9, "s"),
]  # fmt: skip
ATTENTION = [
    Form("attention", "float[2,2,3,4] x", "y = Attention<is_causal=1>(x, k, v)", {"k": (2, 2, 3, 4), "v": (2, 2, 3, 5)},
         lambda torch, x, k, v: torch.nn.functional.scaled_dot_product_attention(x, k, v, is_causal=True), 23),
    Form("attention_mask", "float[2,4,3,4] x", "y = Attention<scale=0.7>(x, k, v, m)",
         {"k": (2, 2, 5, 4), "v": (2, 2, 5, 3), "m": np.float32(np.arange(60).reshape(4, 3, 5) % 7 / 3)},
         lambda torch, x, k, v: torch.nn.functional.scaled_dot_product_attention(
             x, k, v, torch.tensor(np.arange(60).reshape(4, 3, 5) % 7 / 3, dtype=x.dtype), scale=0.7, enable_gqa=True),
         23, "m"),
    Form("attention_flat", "float[2,3,8] x", "y = Attention<q_num_heads=4, kv_num_heads=2>(x, k, v, m)",
         {"k": (2, 5, 4), "v": (2, 5, 6), "m": np.arange(15).reshape(3, 5) % 4 > 0},
         lambda torch, x, k, v: torch.nn.functional.scaled_dot_product_attention(
             *(t.unflatten(2, (n, -1)).transpose(1, 2) for t, n in ((x, 4), (k, 2), (v, 2))),
             torch.tensor(np.arange(15).reshape(3, 5) % 4 > 0), enable_gqa=True).transpose(1, 2).flatten(2), 23),
    Form("rotary", "float[2,3,5,8] x", "y = RotaryEmbedding(x, c, s)",
         {"c": np.float32(np.cos(np.arange(40).reshape(2, 5, 4))), "s": np.float32(np.sin(np.arange(40).reshape(2, 5, 4)))},
         None, 23, "c s"),
]  # fmt: skip
STEPS = {
    **dict.fromkeys(["conv_groups", "conv_groups_dense", "conv_depthwise_multiplier", "conv_groups_opset_9",
                     "transposed_groups", "gather_rows_opset_12", "nearest_opset_10", "upsample_linear", "rotary"], 0.5),
    **dict.fromkeys(["global_norm", "gelu", "erf", "local_response", "mean_variance", "shrink", "group_norm", "attention", "attention_mask",
                     "attention_flat"], 0.02),
}  # fmt: skip
"""Those that are linear in each tensor have exact differences at any step."""
FORMS = [*CONVOLUTIONS, *POOLS, *MATRICES, *ELEMENTWISE, *LAYOUT, *REDUCTIONS, *NORMS, *RESIZES, *ATTENTION]
FORMS = [replace(form, step=STEPS.get(form.id)) for form in FORMS]
