"""Runs a model in its own precision, float64 included: onnxruntime has few kernels for that.

ONNX's reference implementation does, with the ops in which it is wrong or knows too little replaced.
"""

import warnings
from itertools import product

import numpy as np
import onnx
from netgrow_deformed import DeformConv  # noqa: F401 - of the ops below
from netkit import session
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun


def inputs_of(model, batch=2, more=0, seed=1):
    """Random inputs: ``batch`` entries for a batch called N, ``more`` than seven for a size called S7."""
    rng = np.random.default_rng(seed)
    found = {}
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        sizes = [d.dim_value or (batch if d.dim_param == "N" else int(d.dim_param[1:]) + more) for d in dims]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        draw = rng.standard_normal(sizes) if dtype.kind == "f" else rng.integers(0, 5, sizes)
        found[value.name] = draw.astype(dtype)
    return found


class Evaluator:
    """``model``, to be run on inputs."""

    def __init__(self, model):
        self.reference = ReferenceEvaluator(model, new_ops=REPAIRED)

    def run(self, names, inputs, noise=0.0, seed=0):
        """Values of ``names``, or of the outputs; each number computed is off by a share of up to ``noise``."""
        rng = np.random.default_rng(seed)
        values = {"": None, **self.reference.rt_inits_, **inputs}
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a mean of nothing is NaN, as it is for onnxruntime
            for node in self.reference.rt_nodes_:
                for name, value in zip(node.output, node.run(*(values[n] for n in node.input)), strict=False):
                    if noise and value.dtype.kind == "f":
                        value = (value * (1 + noise * rng.uniform(-1, 1, value.shape))).astype(value.dtype)
                    values[name] = value
        return [values[name] for name in names or self.reference.output_names]


def run(model, precision, inputs):
    """The outputs; those of a float32 model by onnxruntime."""
    return (Evaluator(model).run if precision == "double" else session(model).run)(None, inputs)


class BatchNormalization(OpRun):
    def _run(self, x, scale, bias, mean, var, epsilon=1e-5, momentum=None, training_mode=0):
        scale, bias, mean, var = (v.reshape(-1, *[1] * (x.ndim - 2)) for v in (scale, bias, mean, var))
        return (((x - mean) / np.sqrt(var + epsilon) * scale + bias).astype(x.dtype),)


class ConvTranspose(OpRun):
    """Without padding."""

    def _run(self, x, w, b=None, auto_pad=None, dilations=None, group=1, kernel_shape=None, output_padding=None,
             output_shape=None, pads=None, strides=None):  # fmt: skip
        kernel, strides = w.shape[2:], strides or [1] * (x.ndim - 2)
        sizes = [(n - 1) * s + k for n, s, k in zip(x.shape[2:], strides, kernel, strict=True)]
        y = np.zeros((len(x), group, w.shape[1], *sizes), x.dtype)
        parts, filters = x.reshape(len(x), group, -1, *x.shape[2:]), w.reshape(group, -1, *w.shape[1:])
        for at in product(*map(range, kernel)):
            steps = zip(at, x.shape[2:], strides, strict=True)
            where = (..., *(slice(o, o + (n - 1) * s + 1, s) for o, n, s in steps))
            y[where] += np.einsum("ngi...,gio->ngo...", parts, filters[(..., *at)])
        y = y.reshape(len(x), -1, *sizes)
        return (y if b is None else y + b.reshape(-1, *[1] * len(kernel)),)


def _windows(x, kernel_shape, pads, strides, fill):
    """The windows of a pooling op, on as many axes at the end."""
    rank = x.ndim - 2
    pads, strides = pads or [0] * 2 * rank, strides or [1] * rank
    padded = np.pad(x, [(0, 0)] * 2 + [*zip(pads[:rank], pads[rank:], strict=True)], constant_values=fill)
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel_shape, range(2, x.ndim))
    return windows[(slice(None), slice(None), *(slice(None, None, s) for s in strides))]


class MaxPool(OpRun):
    def _run(self, x, kernel_shape=None, pads=None, strides=None, **_):
        return (_windows(x, kernel_shape, pads, strides, -np.inf).max(tuple(range(x.ndim, 2 * x.ndim - 2))),)


class AveragePool(OpRun):
    def _run(self, x, kernel_shape=None, pads=None, strides=None, **_):
        return (np.nanmean(_windows(x, kernel_shape, pads, strides, np.nan), tuple(range(x.ndim, 2 * x.ndim - 2))),)


class LpPool(OpRun):
    def _run(self, x, kernel_shape=None, p=2, pads=None, strides=None, **_):
        powers = np.abs(_windows(x, kernel_shape, pads, strides, 0)) ** p
        return ((powers.sum(tuple(range(x.ndim, 2 * x.ndim - 2))) ** (1 / p)).astype(x.dtype),)


class GatherElements(OpRun):
    def _run(self, x, indices, axis=0):
        axis %= x.ndim  # on other axes, the indices may be of the first places only
        first = tuple(slice(None if a == axis else n) for a, n in enumerate(indices.shape))
        return (np.take_along_axis(x[first], indices, axis),)


class GlobalMaxPool(OpRun):
    def _run(self, x):
        return (x.max(tuple(range(2, x.ndim)), keepdims=True),)


class GlobalLpPool(OpRun):
    def _run(self, x, p=2):
        return (((np.abs(x) ** p).sum(tuple(range(2, x.ndim)), keepdims=True) ** (1 / p)).astype(x.dtype),)


class Mean(OpRun):
    def _run(self, *xs):
        return (sum(xs[1:], xs[0]) / xs[0].dtype.type(len(xs)),)


class LRN(OpRun):
    def _run(self, x, alpha=1e-4, beta=0.75, bias=1.0, size=None):
        low, high = (size - 1) // 2, size - 1 - (size - 1) // 2
        padded = np.pad(x**2, [(0, 0), (low, high)] + [(0, 0)] * (x.ndim - 2))
        squares = np.lib.stride_tricks.sliding_window_view(padded, size, 1).sum(-1)
        return ((x / (bias + alpha / size * squares) ** beta).astype(x.dtype),)


class Upsample(OpRun):
    """To the nearest, by whole factors."""

    def _run(self, x, scales, mode=None):
        for axis, n in enumerate(scales):
            x = np.repeat(x, int(n), axis)
        return (x,)


class Softmax(OpRun):
    """Before opset 13 over all axes from ``axis`` on."""

    def _run(self, x, axis=None):
        legacy = self.run_params["opsets"][""] < 13
        rows = x.reshape(*x.shape[: axis % x.ndim], -1) if legacy else np.moveaxis(x, axis, -1)
        y = self.over(rows - rows.max(-1, keepdims=True))
        return ((y.reshape(x.shape) if legacy else np.moveaxis(y, -1, axis)).astype(x.dtype),)

    def over(self, rows):
        return np.exp(rows) / np.exp(rows).sum(-1, keepdims=True)


class LogSoftmax(Softmax):
    def over(self, rows):
        return rows - np.log(np.exp(rows).sum(-1, keepdims=True))


class Hardmax(Softmax):
    def over(self, rows):
        return np.arange(rows.shape[-1]) == rows.argmax(-1)[..., None]


class QuantizeLinear(OpRun):
    """To int8."""

    def _run(self, x, scale, zero, axis=1, **_):
        shape = [-1 if a == axis % x.ndim else 1 for a in range(x.ndim)] if scale.ndim else []
        return (np.clip(np.rint(x / scale.reshape(shape)) + zero.reshape(shape), -128, 127).astype(np.int8),)


class DequantizeLinear(OpRun):
    def _run(self, x, scale, zero, axis=1, **_):
        shape = [-1 if a == axis % x.ndim else 1 for a in range(x.ndim)] if scale.ndim else []
        return ((x.astype(scale.dtype) - zero.reshape(shape)) * scale.reshape(shape),)


REPAIRED = [v for v in dict(globals()).values() if isinstance(v, type) and issubclass(v, OpRun) and v is not OpRun]
