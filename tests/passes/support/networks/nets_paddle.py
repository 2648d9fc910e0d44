"""A network as paddle2onnx writes it: MobileNetV3-like, hard-swish in parts, biases reshaped in the graph."""

import numpy as np
from netcase import ARCHITECTURES, Architecture, built, op
from onnx import TensorProto, helper, numpy_helper

NORM = ("w_0_scale", "b_0", "w_1", "w_2_var")


def const(name, *values, dtype=np.float32, shape=None):
    array = np.array(values, dtype).reshape(shape if shape is not None else [len(values)])
    return helper.make_node("Constant", [], [name], name, value=numpy_helper.from_array(array, name))


def batch_norm(x, k):
    names = " ".join(f"batch_norm_{k}.{part}" for part in NORM)
    return op("BatchNormalization", f"{x} {names}", f"batch_norm_{k}.tmp_3", epsilon=1e-5, momentum=0.9)


def hard_swish(x, k):
    """x * min(max(x + 3, 0), 6) / 6, node by node."""
    y = f"hard_swish_{k}"
    return [
        const(f"p2o.{y}.offset", 3.0), const(f"p2o.{y}.low", 0.0, shape=[]), const(f"p2o.{y}.high", 6.0, shape=[]),
        const(f"p2o.{y}.scale", 6.0),
        op("Add", f"{x} p2o.{y}.offset", f"p2o.Add.{k}"),
        op("Clip", f"p2o.Add.{k} p2o.{y}.low p2o.{y}.high", f"p2o.Clip.{k}"),
        op("Mul", f"{x} p2o.Clip.{k}", f"p2o.Mul.{k}"), op("Div", f"p2o.Mul.{k} p2o.{y}.scale", f"{y}.tmp_0"),
    ]  # fmt: skip


def bias(x, name, y, *shape):
    """elementwise_add of a parameter with one axis, which gets the others in the graph."""
    target = f"p2o.{name}.shape"
    return [
        const(target, *shape, dtype=np.int64), op("Reshape", f"{name} {target}", f"p2o.{name}.reshaped"),
        op("Add", f"{x} p2o.{name}.reshaped", y),
    ]  # fmt: skip


NODES = [
    op("Identity", "x", "p2o.Identity.0"),
    op("Conv", "p2o.Identity.0 conv2d_0.w_0", "conv2d_0.tmp_0", pads=[1, 1, 1, 1], strides=[2, 2], dilations=[1, 1]),
    batch_norm("conv2d_0.tmp_0", 0),
    *hard_swish("batch_norm_0.tmp_3", 0),
    op("Conv", "hard_swish_0.tmp_0 conv2d_1.w_0", "depthwise_conv2d_0.tmp_0", group=12, pads=[1, 1, 1, 1]),
    batch_norm("depthwise_conv2d_0.tmp_0", 1),
    op("Relu", "batch_norm_1.tmp_3", "relu_0.tmp_0"),
    # squeeze and excite
    op("GlobalAveragePool", "relu_0.tmp_0", "pool2d_0.tmp_0"),
    op("Conv", "pool2d_0.tmp_0 conv2d_2.w_0", "conv2d_2.tmp_0"),
    *bias("conv2d_2.tmp_0", "conv2d_2.b_0", "conv2d_2.tmp_1", 1, -1, 1, 1),
    op("Relu", "conv2d_2.tmp_1", "relu_1.tmp_0"),
    op("Conv", "relu_1.tmp_0 conv2d_3.w_0", "conv2d_3.tmp_0"),
    *bias("conv2d_3.tmp_0", "conv2d_3.b_0", "conv2d_3.tmp_1", 1, 12, 1, 1),
    op("HardSigmoid", "conv2d_3.tmp_1", "hardsigmoid_0.tmp_0", alpha=0.1666667, beta=0.5),
    op("Mul", "relu_0.tmp_0 hardsigmoid_0.tmp_0", "tmp_0"),
    op("Conv", "tmp_0 conv2d_4.w_0", "conv2d_4.tmp_0"),
    batch_norm("conv2d_4.tmp_0", 2),
    # scale
    const("p2o.scale", 0.5),
    const("p2o.shift", 1.25),
    op("Mul", "batch_norm_2.tmp_3 p2o.scale", "p2o.Mul.9"),
    op("Add", "p2o.Mul.9 p2o.shift", "scale_0.tmp_0"),
    op("LeakyRelu", "scale_0.tmp_0", "leaky_relu_0.tmp_0", alpha=0.1),
    # flatten_contiguous_range
    op("Shape", "leaky_relu_0.tmp_0", "p2o.Shape.0"),
    const("p2o.zero", 0, dtype=np.int64),
    const("p2o.one", 1, dtype=np.int64),
    const("p2o.rest", -1, dtype=np.int64),
    op("Slice", "p2o.Shape.0 p2o.zero p2o.one p2o.zero", "p2o.Slice.0"),
    op("Concat", "p2o.Slice.0 p2o.rest", "p2o.Concat.0", axis=0),
    op("Reshape", "leaky_relu_0.tmp_0 p2o.Concat.0", "flatten_0.tmp_0"),
    op("Identity", "flatten_0.tmp_0", "dropout_0.tmp_0"),
    op("MatMul", "dropout_0.tmp_0 linear_0.w_0", "linear_0.tmp_0"),
    *bias("linear_0.tmp_0", "linear_0.b_0", "linear_0.tmp_1", 1, 14),
    *hard_swish("linear_0.tmp_1", 1),
    op("MatMul", "hard_swish_1.tmp_0 linear_1.w_0", "linear_1.tmp_0"),
    op("Add", "linear_1.tmp_0 linear_1.b_0", "linear_1.tmp_1"),
    op("Softmax", "linear_1.tmp_1", "softmax_0.tmp_0", axis=-1),
    op("Identity", "softmax_0.tmp_0", "save_infer_model/scale_0.tmp_0"),
]
WEIGHTS = {
    "conv2d_0.w_0": (12, 3, 3, 3), "conv2d_1.w_0": (12, 1, 3, 3), "conv2d_2.w_0": (6, 12, 1, 1), "conv2d_2.b_0": (6,),
    "conv2d_3.w_0": (12, 6, 1, 1), "conv2d_3.b_0": (12,), "conv2d_4.w_0": (16, 12, 1, 1), "linear_0.w_0": (256, 14),
    "linear_0.b_0": (14,), "linear_1.w_0": (14, 5), "linear_1.b_0": (5,),
    **{f"batch_norm_{k}.{part}": (n,) for k, n in enumerate((12, 12, 16)) for part in NORM},
}  # fmt: skip


def paddle(batch, opset):
    inputs, outputs = ([(name, TensorProto.FLOAT, [batch, *dims])] for name, dims in SIGNATURE.items())
    return built(NODES, inputs, outputs, WEIGHTS, opset, ir_version=7)


SIGNATURE = {"x": (3, 8, 8), "save_infer_model/scale_0.tmp_0": (5,)}
ARCHITECTURES["paddle2onnx"] = Architecture(paddle("DynamicDimension.0", 13), 4)
ARCHITECTURES["paddle2onnx-old"] = Architecture(paddle(-1, 11), 4)
