"""A network as tf2onnx writes it from Keras: channels last outside, its names, shape arithmetic in int32."""

import numpy as np
from netcase import ARCHITECTURES, Architecture, built, norm, op
from netkit import ints
from onnx import TensorProto

P = "StatefulPartitionedCall/model/"


def int32s(*values):
    return np.array(values, np.int32)


NODES = [
    op("Transpose", "input_1", f"{P}conv2d/Conv2D__6:0", perm=[0, 3, 1, 2]),
    op("Pad", f"{P}conv2d/Conv2D__6:0 const_fold_opt__58", f"{P}zero_padding2d/Pad:0"),
    op("Conv", f"{P}zero_padding2d/Pad:0 {P}conv2d/Conv2D/ReadVariableOp:0", f"{P}conv2d/Conv2D:0", strides=[2, 2]),
    op("Add", f"{P}conv2d/Conv2D:0 const_fold_opt__60", f"{P}conv2d/BiasAdd:0"),
    op("Clip", f"{P}conv2d/BiasAdd:0 const_zero__15 const_six__16", f"{P}re_lu/Relu6:0"),
    op("Conv", f"{P}re_lu/Relu6:0 {P}depthwise__61:0", f"{P}depthwise:0", group=12, auto_pad="SAME_UPPER"),
    op(
        "BatchNormalization",
        f"{P}depthwise:0 {P}bn/scale {P}bn/bias {P}bn/mean {P}bn/var",
        f"{P}bn/FusedBatchNormV3:0",
        epsilon=1e-3,
    ),
    op("Clip", f"{P}bn/FusedBatchNormV3:0 const_zero__15 const_six__16", f"{P}re_lu_1/Relu6:0"),
    op("Conv", f"{P}re_lu_1/Relu6:0 {P}conv2d_1/kernel:0", f"{P}conv2d_1/Conv2D:0", pads=[0, 0, 0, 0]),
    op("Add", f"{P}conv2d_1/Conv2D:0 const_fold_opt__62", f"{P}conv2d_1/BiasAdd:0"),
    op("Relu", f"{P}conv2d_1/BiasAdd:0", f"{P}conv2d_1/Relu:0"),
    op("Transpose", f"{P}conv2d_1/Relu:0", f"{P}conv2d_1/Relu__20:0", perm=[0, 2, 3, 1]),
    # Flatten and Dense
    op("Reshape", f"{P}conv2d_1/Relu__20:0 const_fold_opt__70", f"{P}flatten/Reshape:0"),
    op("MatMul", f"{P}flatten/Reshape:0 {P}dense/kernel:0", f"{P}dense/MatMul:0"),
    op("Add", f"{P}dense/MatMul:0 {P}dense/bias:0", f"{P}dense/BiasAdd:0"),
    op("Relu", f"{P}dense/BiasAdd:0", f"{P}dense/Relu:0"),
    # GlobalAveragePooling2D and Dense
    op("GlobalAveragePool", f"{P}conv2d_1/Relu:0", f"{P}gap/Mean__74:0"),
    op("Squeeze", f"{P}gap/Mean__74:0 axes__75", f"{P}gap/Mean:0"),
    op("MatMul", f"{P}gap/Mean:0 {P}dense_1/kernel:0", f"{P}dense_1/MatMul:0"),
    op("Add", f"{P}dense_1/MatMul:0 {P}dense_1/bias:0", f"{P}dense_1/BiasAdd:0"),
    op("Sigmoid", f"{P}dense_1/BiasAdd:0", f"{P}dense_1/Sigmoid:0"),
    # Reshape((16, 16)): the batch is read off the tensor
    op("Shape", f"{P}conv2d_1/Relu__20:0", f"{P}reshape/Shape__80:0"),
    op("Cast", f"{P}reshape/Shape__80:0", f"{P}reshape/Shape:0", to=TensorProto.INT32),
    op("Slice", f"{P}reshape/Shape:0 const_zero__81 const_one__82 const_zero__81", f"{P}reshape/strided_slice__84:0"),
    op("Concat", f"{P}reshape/strided_slice__84:0 const_sixteen__85 const_sixteen__85", f"{P}reshape/shape:0", axis=0),
    op("Cast", f"{P}reshape/shape:0", f"{P}reshape/Reshape__86:0", to=TensorProto.INT64),
    op("Reshape", f"{P}conv2d_1/Relu__20:0 {P}reshape/Reshape__86:0", f"{P}reshape/Reshape:0"),
    op("ReduceMax", f"{P}reshape/Reshape:0", f"{P}max/Max:0", axes=[1], keepdims=0),
    op("Concat", f"{P}dense/Relu:0 {P}dense_1/Sigmoid:0 {P}max/Max:0", f"{P}concatenate/concat:0", axis=-1),
    op("MatMul", f"{P}concatenate/concat:0 {P}dense_2/kernel:0", f"{P}dense_2/MatMul:0"),
    op("Add", f"{P}dense_2/MatMul:0 {P}dense_2/bias:0", f"{P}dense_2/BiasAdd:0"),
    op("Softmax", f"{P}dense_2/BiasAdd:0", f"{P}dense_2/Softmax:0", axis=-1),
    op("Identity", f"{P}dense_2/Softmax:0", "dense_2"),
]
WEIGHTS = {
    "const_fold_opt__58": ints(0, 0, 0, 0, 0, 0, 1, 1),
    f"{P}conv2d/Conv2D/ReadVariableOp:0": (12, 3, 3, 3),
    "const_fold_opt__60": (1, 12, 1, 1),
    "const_zero__15": np.array(0, np.float32),
    "const_six__16": np.array(6, np.float32),
    f"{P}depthwise__61:0": (12, 1, 3, 3),
    **norm(f"{P}bn", 12, "/"),
    f"{P}conv2d_1/kernel:0": (16, 12, 1, 1),
    "const_fold_opt__62": (1, 16, 1, 1),
    "const_fold_opt__70": ints(-1, 256),
    f"{P}dense/kernel:0": (256, 14),
    f"{P}dense/bias:0": (14,),
    "axes__75": ints(2, 3),
    f"{P}dense_1/kernel:0": (16, 10),
    f"{P}dense_1/bias:0": (10,),
    "const_zero__81": int32s(0),
    "const_one__82": int32s(1),
    "const_sixteen__85": int32s(16),
    f"{P}dense_2/kernel:0": (40, 5),
    f"{P}dense_2/bias:0": (5,),
}
INPUTS = [("input_1", TensorProto.FLOAT, ["unk__123", 8, 8, 3])]
OUTPUTS = [("dense_2", TensorProto.FLOAT, ["unk__124", 5])]
ARCHITECTURES["tf2onnx"] = Architecture(built(NODES, INPUTS, OUTPUTS, WEIGHTS, opset=13, ir_version=7), 4)
