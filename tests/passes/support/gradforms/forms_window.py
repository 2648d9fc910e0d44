"""Forms of pooling and resampling."""

import numpy as np
from gradkit import Form
from netkit import ints


def pooled(name, nodes, function, data=(2, 3, 9, 8), opset=17):
    return Form(name, f"float[{','.join(map(str, data))}] x", nodes, {}, function, opset)


POOLS = [
    pooled("max_tiles", "y = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x)",
           lambda torch, x: torch.nn.functional.max_pool2d(x, 2)),
    pooled("max_overlapping", "y = MaxPool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(x)",
           lambda torch, x: torch.nn.functional.max_pool2d(x, 3, 2, 1)),
    pooled("max_overlapping_opset_12", "y = MaxPool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(x)",
           lambda torch, x: torch.nn.functional.max_pool2d(x, 3, 2, 1), opset=12),
    pooled("max_dense_opset_11", "y = MaxPool<kernel_shape=[3,2]>(x)",
           lambda torch, x: torch.nn.functional.max_pool2d(x, (3, 2), 1), opset=11),
    pooled("max_opset_9", "y = MaxPool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(x)",
           lambda torch, x: torch.nn.functional.max_pool2d(x, 3, 2, 1), opset=9),
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


def resized(name, attributes, function, scales=(1, 1, 2, 2), data="2,2,3,4", opset=17):
    weights = {"s": np.float32(scales)}
    return Form(name, f"float[{data}] x", f"y = Resize<{attributes}>(x, , s)", weights, function, opset, "s")


RESIZES = [
    resized("nearest", 'mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"',
            lambda torch, x: torch.nn.functional.interpolate(x, scale_factor=2)),
    resized("nearest_half_pixel", 'mode="nearest"', lambda torch, x: torch.nn.functional.interpolate(x,
    scale_factor=2)),
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
    Form("linear_opset_11", "float[1,2,3,4] x", 'y = Resize<mode="linear">(x, r, s)',
         {"r": np.zeros(0, np.float32), "s": np.float32([1, 1, 2, 2])},
         lambda torch, x: torch.nn.functional.interpolate(x, scale_factor=2, mode="bilinear"), 11, "r s"),
    Form("nearest_opset_10", "float[1,2,3,3] x", "y = Resize(x, s)", {"s": np.float32([1, 1, 2, 3])},
         lambda torch, x: torch.nn.functional.interpolate(x, scale_factor=(2.0, 3.0)), 10, "s"),
    Form("upsample_opset_9", "float[1,2,3,3] x", "y = Upsample(x, s)", {"s": np.float32([1, 1, 2, 3])},
         lambda torch, x: torch.nn.functional.interpolate(x, scale_factor=(2.0, 3.0)), 9, "s"),
    Form("upsample_linear", "float[1,2,3,3] x", 'y = Upsample<mode="linear">(x, s)', {"s": np.float32([1, 1, 2, 2])},
         None, 9, "s"),
]  # fmt: skip
