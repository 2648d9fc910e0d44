"""The metric that results are judged by: a built-in one, or a function of the user."""

from __future__ import annotations

import inspect
import math
import pickle
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from numbers import Real
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from onnx_merge.config.option_parsing import METRICS
from onnx_merge.config.user_code import importable, load_user_function, reported, split_function
from onnx_merge.errors import UsageError, UserCodeError
from onnx_merge.inputs.user_arrays import check_labels
from onnx_merge.metrics.builtin import BUILT_IN
from onnx_merge.metrics.predictor import Predictor

Array = NDArray[Any]
OF_CLASSES = ("accuracy", "top5", "neg-cross-entropy")
"""The built-in metrics whose labels are class numbers."""
CALL = "metric(predict, samples, labels)"


class Metric(Protocol):
    """A metric; higher is better."""

    @property
    def name(self) -> str:
        """For the report: the name of a built-in metric, ``file.py:function``, or the name of a function."""

    @property
    def of_classes(self) -> bool:
        """Whether labels must be class numbers."""

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The lower and upper bound of the value on any samples; None if unknown. A user's function may have an
        attribute ``bounds``.

        Raises
        ------
        UserCodeError: the bounds are not two numbers.
        """

    def __call__(self, predict: Predictor, samples: Mapping[str, Array], labels: Array | None) -> float:
        """The value for the model that ``predict`` runs, on ``samples`` (N, ...) by input name, with ``labels`` (N,
        ...).

        Raises
        ------
        OnnxMergeError: the value cannot be computed (exit code 2).
        """


class BuiltIn:
    """A metric of `onnx_merge.metrics.builtin`."""

    def __init__(self, name: str) -> None:
        self.name, self.of_classes = name, name in OF_CLASSES

    @property
    def bounds(self) -> tuple[float, float] | None:
        """0 and 100 for percentages of samples; None for the other metrics, whose bounds are unknown."""
        return (0.0, 100.0) if self.name in ("accuracy", "top5") else None

    def __call__(self, predict: Predictor, samples: Mapping[str, Array], labels: Array | None) -> float:
        """The metric of the model that ``predict`` runs, on ``samples`` (N, ...) with ``labels`` (N, ...)."""
        if self.of_classes and labels is not None:
            labels = check_labels(labels, len(labels), f"metric {self.name}")
        value = BUILT_IN[self.name](predict, samples, labels)
        if math.isnan(value):
            raise UsageError(f"metric {self.name} cannot be computed: the outputs or the labels are not all finite")
        return value


class UserMetric:
    """A function of the user, given as a function or as the text ``FILE.py:FUNCTION``.

    It receives read-only arrays, so that every model is measured on the same data. If the metric is sent to another
    process, the file is executed there again.
    """

    of_classes = False

    def __init__(self, given: Callable[..., Any] | str) -> None:
        file = split_function(given) if isinstance(given, str) else None
        self._function: Callable[..., Any] | None = None
        self._file: tuple[Path, str] | None = None
        if callable(given):
            self._function = given
            self.name = getattr(given, "__name__", type(given).__name__)
            code = getattr(given, "__code__", None)
            self._where = f"{code.co_filename}:{self.name}" if code else f"metric {self.name}"
        elif file is not None:
            self._file, self._where = (file[0].absolute(), file[1]), given  # workers may have another current folder
            self.name = f"{file[0].name}:{file[1]}"
        else:
            raise UsageError(f"metric must be FILE.py:FUNCTION, not {given!r}")

    def __call__(self, predict: Predictor, samples: Mapping[str, Array], labels: Array | None) -> float:
        """The number that the user's function returns for ``samples`` (N, ...) and ``labels`` (N, ...), which it gets
        read-only.

        Raises
        ------
        UserCodeError: the function fails, does not accept the arguments, or does not return a number.
        InputError: there is no such file or function.
        """
        with importable(self._file[0].parent) if self._file else nullcontext():
            function = self._loaded()
            feeds = {name: _read_only(array) for name, array in samples.items()}
            with reported(self._where, every=True):
                value = function(predict, feeds, None if labels is None else _read_only(labels))
                number = value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value
        if isinstance(number, (bool, np.bool_)) or not isinstance(number, Real):
            hint = ": is its return missing?" if value is None else ""
            raise UserCodeError(f"{self._where} must return a number, not {type(value).__name__}{hint}")
        if math.isnan(number):
            raise UserCodeError(f"{self._where} returned NaN, which cannot be compared: return a number")
        return float(number) + 0.0  # -0.0 becomes 0.0

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The function's attribute ``bounds`` as two numbers; None without such an attribute."""
        with importable(self._file[0].parent) if self._file else nullcontext():
            given = getattr(self._loaded(), "bounds", None)
        if given is None:
            return None
        try:
            low, high = (float(bound) for bound in given)
        except (TypeError, ValueError):
            low = high = math.nan
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise UserCodeError(f"the bounds of {self._where} must be two numbers, the lower first, not {given!r}")
        return low, high

    def _loaded(self) -> Callable[..., Any]:
        if self._function is None:
            assert self._file is not None
            with reported(self._where):
                self._function = load_user_function(*self._file)
        try:
            inspect.signature(self._function).bind(None, {}, None)
        except TypeError as error:
            raise UserCodeError(f"{self._where} must take what {CALL} is called with: {error}") from error
        except ValueError:  # a function without a signature
            pass
        return self._function

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "_function": None if self._file else self._function}


def metric_of(given: object) -> Metric:
    """The metric that the option's value names, or is.

    Raises
    ------
    UsageError: the value is neither a metric nor the name of one.
    """
    if isinstance(given, str) and given in METRICS:
        return BuiltIn(given)
    if isinstance(given, str) or callable(given):
        return UserMetric(given)
    raise UsageError(f"metric must be a function or a name, not {type(given).__name__}")


def check_sendable(given: object) -> None:
    """Refuse a function that cannot be sent to other processes.

    Raises
    ------
    UsageError: the function cannot be pickled, or is defined in the main script, which other processes do not have.
    """
    if not callable(given):
        return
    try:
        if b"__main__" in pickle.dumps(given):
            raise pickle.PicklingError("it is of the script that was started")
    except Exception as error:
        name = getattr(given, "__name__", type(given).__name__)
        raise UsageError(
            f"the metric {name} cannot be sent to other processes: put it in a file and give FILE.py:FUNCTION, or "
            "leave out jobs and scheduler"
        ) from error


def _read_only(array: Array) -> Array:
    locked = np.asarray(array).view()
    locked.flags.writeable = False
    return locked
