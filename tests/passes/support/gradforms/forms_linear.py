"""Forms of convolutions, matrix products and attention."""

import numpy as np
from gradkit import Form, two


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


CONVOLUTIONS = [
    conv("conv", "pads=[1,1,1,1]", (2, 4, 6, 7), (5, 4, 3, 3), {"padding": 1}),
    conv("conv_asymmetric", "pads=[0,1,2,0]", (2, 4, 6, 7), (5, 4, 3, 3), {"before": (1, 0, 0, 2)}),
    conv("conv_wide_pads", "pads=[3,3,3,3]", (2, 4, 6, 7), (5, 4, 2, 2), {"padding": 3}),
    conv("conv_strided", "strides=[2,3], pads=[1,1,1,1]", (2, 4, 8, 8), (5, 4, 3, 3), {"padding": 1, "stride": (2, 3)}),
    conv("conv_dilated", "dilations=[2,1], pads=[2,1,2,1]", (2, 4, 6, 7), (5, 4, 3, 3),
         {"padding": (2, 1), "dilation": (2, 1)}),
    conv("conv_strided_dilated", "strides=[2,2], dilations=[2,2]", (2, 12, 9, 8), (3, 12, 2, 2),
         {"stride": 2, "dilation": 2}),
    conv("conv_wide", "pads=[0,1,2,0]", (2, 10, 5, 6), (3, 10, 3, 2), {"before": (1, 0, 0, 2)}),
    conv("conv_wide_1d", "strides=[2], pads=[1,2]", (2, 9, 11), (4, 9, 4), {"before": (1, 2), "stride": 2}),
    conv("conv_wide_opset_10", "pads=[1,1,1,1]", (2, 9, 5, 6), (3, 9, 3, 3), {"padding": 1}, 10),
    conv("conv_groups", "group=2, strides=[2,2]", (2, 6, 7, 7), (4, 3, 3, 3), {"groups": 2, "stride": 2}),
    conv("conv_groups_dense", "group=2, pads=[1,1,1,1]", (2, 6, 7, 7), (4, 3, 3, 3), {"groups": 2, "padding": 1}),
    conv("conv_depthwise", "group=5, pads=[1,1,1,1]", (3, 5, 6, 6), (5, 1, 3, 3), {"groups": 5, "padding": 1}),
    conv("conv_depthwise_dilated", "group=5, pads=[2,0,1,3], dilations=[2,3]", (3, 5, 6, 7), (5, 1, 2, 3),
         {"groups": 5, "before": (0, 3, 2, 1), "dilation": (2, 3)}),
    conv("conv_depthwise_wide", "group=2, pads=[1,1,1,1]", (2, 2, 3, 40), (2, 1, 3, 3), {"groups": 2, "padding": 1}),
    conv("conv_depthwise_strided", "group=5, pads=[1,1,1,1], strides=[2,2]", (3, 5, 6, 7), (5, 1, 3, 3),
         {"groups": 5, "padding": 1, "stride": 2}),
    conv("conv_depthwise_multiplier", "group=3, pads=[2,2,2,2]", (2, 3, 6, 6), (6, 1, 5, 5), {"groups": 3,
         "padding": 2}),
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
            ("bij,bjk->bik", "2,3,4", (2, 4, 5)), ("bhid,bhjd->bhij", "2,2,3,4", (2, 2, 5, 4)), ("...i,ji", "2,3,4",
            (5, 4)),
            ("ij,k->jk", "3,4", (5,)), ("abc,cd->bd", "2,3,4", (4, 5)),
        )
    ),
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
         {"c": np.float32(np.cos(np.arange(40).reshape(2, 5, 4))), "s": np.float32(np.sin(np.arange(40).reshape(2, 5,
         4)))},
         None, 23, "c s"),
]  # fmt: skip
