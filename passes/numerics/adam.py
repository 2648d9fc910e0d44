"""Adam on a set of named arrays, with a step size for each array (Kingma and Ba, Adam, ICLR 2015, algorithm 1).

The rate rises linearly over the first steps and falls as a cosine to zero (Loshchilov and Hutter, SGDR, ICLR 2017).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .tuning import NUMERICS, AdamTuning

Array = NDArray[Any]


class Adam:
    """Moments of the gradients of ``values``, which `step` changes in place.

    ``values``: name -> float array of any shape; ``scales``: name -> size of a step at rate 1, in the unit of the
    array, of a shape that broadcasts to it; ``steps``: number of steps of the whole schedule.
    """

    def __init__(
        self,
        values: dict[str, Array],
        scales: Mapping[str, Array],
        rate: float,
        steps: int,
        tuning: AdamTuning = NUMERICS.adam,
    ) -> None:
        self.values, self._scales, self._rate, self._steps, self._tuning = values, scales, rate, steps, tuning
        self._mean = {name: np.zeros_like(value) for name, value in values.items()}
        self._square = {name: np.zeros_like(value) for name, value in values.items()}
        self._taken = 0

    @property
    def rate(self) -> float:
        """The rate of the next step: a linear rise, then half a cosine."""
        rise = max(1.0, self._tuning.rising_share * self._steps)
        fall = 0.5 * (1.0 + math.cos(math.pi * min(1.0, self._taken / max(1, self._steps))))
        return self._rate * fall * min(1.0, (self._taken + 1) / rise)

    def step(self, gradients: Mapping[str, Array]) -> None:
        """Move every array against its gradient, of the same shape."""
        rate = self.rate
        self._taken += 1
        with np.errstate(over="ignore", invalid="ignore"):  # where the loss diverges, the caller sees it
            for name, value in self.values.items():
                value -= rate * self._scales[name] * self._direction(name, gradients[name])

    def _direction(self, name: str, gradient: Array) -> Array:
        """What a step at rate 1 subtracts, over the scale of the array."""
        tuning, mean, square = self._tuning, self._mean[name], self._square[name]
        mean += (1.0 - tuning.mean_decay) * (gradient - mean)
        square += (1.0 - tuning.square_decay) * (np.square(gradient) - square)
        unbiased = math.sqrt(1.0 - tuning.square_decay**self._taken) / (1.0 - tuning.mean_decay**self._taken)
        return np.asarray(unbiased * mean / (np.sqrt(square) + tuning.smallest))
