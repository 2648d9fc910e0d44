"""What runs models, as the passes see it: they import no runtime and are handed one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import onnx
from numpy.typing import NDArray

Array = NDArray[Any]
Loaded = Callable[[Mapping[str, Array]], Mapping[str, Array]]
"""A loaded model: inputs -> outputs, by name."""


class Engine(Protocol):
    """Runs models, or pieces of one."""

    def __call__(self, model: onnx.ModelProto) -> Loaded:
        """Load ``model``.

        Raises
        ------
        RunError: it cannot be loaded, or (later) not be run.
        """
