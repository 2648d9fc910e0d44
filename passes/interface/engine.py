"""The interface through which passes run models. Passes import no runtime; their caller supplies one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import onnx
from numpy.typing import NDArray

Array = NDArray[Any]
Loaded = Callable[[Mapping[str, Array]], Mapping[str, Array]]
"""A loaded model: a function from inputs to outputs, both by name."""


class Engine(Protocol):
    """Loads and runs models or parts of a model."""

    def __call__(self, model: onnx.ModelProto) -> Loaded:
        """Load ``model``.

        Raises
        ------
        RunError: it cannot be loaded, or (later) cannot be run.
        """
