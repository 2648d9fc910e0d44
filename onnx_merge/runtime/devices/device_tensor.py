"""Tensors that stay where onnxruntime computed them, such as on a GPU, until NumPy needs their values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import onnx
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import NDArray
from onnx import helper

Array = NDArray[Any]
OPSET = 17


class Device(Protocol):
    """Where tensors are."""

    def compute(self, model: onnx.ModelProto, feeds: Mapping[str, Any]) -> Any:
        """The only output of ``model``, which stays there."""

    def copied(self, size: int) -> None:
        """Count ``size`` bytes that were copied to the host."""


class DeviceTensor(NDArrayOperatorsMixin):
    """A tensor on ``device``, which NumPy takes for an array. ``value``: onnxruntime's OrtValue.

    Sums, differences, `numpy.take`, `numpy.concatenate` and slices of such tensors are computed there and stay there.
    Any other use copies the tensor to the host.
    """

    __array_priority__ = 1000

    def __init__(self, value: Any, dtype: np.dtype[Any], device: Device) -> None:
        self.value, self.dtype, self._device = value, dtype, device
        self.shape: tuple[int, ...] = tuple(value.shape())

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __bool__(self) -> bool:
        return bool(self.host())

    def __iter__(self) -> Iterator[Any]:
        return iter(self.host())

    def host(self) -> Array:
        """A copy in the memory of the host."""
        self._device.copied(self.nbytes)
        return np.array(self.value.numpy()) if self.value.device_name() == "cpu" else np.asarray(self.value.numpy())

    def astype(self, dtype: Any, copy: bool = True) -> Any:
        """The tensor itself, which nothing changes, if it is of the type already; otherwise a copy on the host."""
        return self if np.dtype(dtype) == self.dtype else self.host().astype(dtype)

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process gets an array."""
        return np.asarray, (self.host(),)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return self.host() if dtype is None else self.host().astype(dtype, copy=False)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        if any(isinstance(one, DeviceTensor) for one in options.get("out", ())):
            return NotImplemented  # a tensor is never changed
        kind = "Add" if ufunc is np.add else "Sub" if ufunc is np.subtract else None
        if kind and method == "__call__" and not options and all(self._resembles(one) for one in inputs):
            return self._compute(kind, dict(zip("ab", inputs, strict=True)))
        return getattr(ufunc, method)(*_on_host(inputs), **options)

    def __array_function__(self, function: Callable[..., Any], types: Any, args: Any, kwargs: Any) -> Any:
        if function is np.take and not kwargs and len(args) == 3:
            tensor, indices, axis = args
            places = np.asarray(indices)
            if isinstance(tensor, DeviceTensor) and isinstance(axis, int) and _within(places, tensor.shape[axis]):
                return self._compute("Gather", {"a": tensor, "i": places.astype(np.int64)}, axis=axis)
        if function is np.concatenate and not kwargs and len(args) == 1 and isinstance(args[0], list | tuple):
            parts = list(args[0])
            if all(isinstance(one, DeviceTensor) and one.dtype == self.dtype for one in parts):
                return self._compute("Concat", {f"a{k}": one for k, one in enumerate(parts)}, axis=0)
        return function(*_on_host(args), **_on_host(kwargs))

    def __getitem__(self, key: Any) -> Any:
        slices = list(key) if isinstance(key, tuple) else [key]
        if len(slices) > self.ndim or not all(isinstance(one, slice) and one.step is None for one in slices):
            return self.host()[key]
        ranges = [one.indices(size) for one, size in zip(slices, self.shape, strict=False)]
        if len(slices) == len(ranges) and all(r[:2] == (0, n) for r, n in zip(ranges, self.shape, strict=False)):
            return self
        starts, ends = (np.array([each[k] for each in ranges], np.int64) for k in (0, 1))
        return self._compute("Slice", {"a": self, "s": starts, "e": np.maximum(starts, ends)})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.host(), name)

    def _resembles(self, other: Any) -> bool:
        return isinstance(other, DeviceTensor) and (other.dtype, other.shape) == (self.dtype, self.shape)

    def _compute(self, kind: str, feeds: Mapping[str, Any], **attributes: Any) -> Any:
        node = helper.make_node(kind, list(feeds), ["y"], **attributes)
        types = {name: helper.np_dtype_to_tensor_dtype(one.dtype) for name, one in feeds.items()}
        ends = [helper.make_tensor_value_info(n, types[n], [None] * one.ndim) for n, one in feeds.items()]
        graph = helper.make_graph([node], "on the device", ends, [onnx.ValueInfoProto(name="y")])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
        return self._device.compute(model, feeds)


def _within(places: Array, size: int) -> bool:
    """Whether ``places`` are indices of an axis of ``size``."""
    return places.dtype.kind in "iu" and (not places.size or -size <= places.min() <= places.max() < size)


def _on_host(value: Any) -> Any:
    """``value`` with the tensors in it as arrays."""
    if isinstance(value, DeviceTensor):
        return value.host()
    if isinstance(value, Mapping):
        return {name: _on_host(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_on_host(one) for one in value] if isinstance(value, list) else tuple(map(_on_host, value))
    return value
