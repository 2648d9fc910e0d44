"""Run a model for a metric, in batches of bounded size, also if the model's batch size is fixed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from onnx_merge.errors import OnnxMergeError, UsageError
from onnx_merge.inputs.user_arrays import by_input, conform_all
from onnx_merge.runtime.batching import ANY, ONE, BatchSize, batches, rows_of_sample
from onnx_merge.runtime.session import Session
from passes.numerics.arrays import has_rows

Array = NDArray[Any]


class Predict(Protocol):
    """Runs a model on samples. ``original`` runs the original model, also if the result is being measured."""

    @property
    def original(self) -> Predict:
        """The function that runs the original model."""

    def __call__(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs (N, ...) by name for ``feeds`` (N, ...) by input name, with any N."""


class Predictor:
    """`Predict` for a session.

    Raises
    ------
    InputError: the feeds do not fit the model.
    OnnxMergeError: the model cannot be run on them.
    """

    def __init__(self, session: Session, batch: BatchSize = ANY, original: Predictor | None = None) -> None:
        self._session, self._batch = session, batch
        self.original: Predictor = original or self

    def __call__(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs (N, ...) by name for ``feeds`` (N, ...), run in batches and joined. Outputs without a row for
        each sample are returned unchanged if a single batch is run.

        Raises
        ------
        UsageError: an output has no row for each sample, and there are several batches.
        """
        parts = list(self._runs(feeds))
        if len(parts) == 1 and parts[0][1] in (None, parts[0][2]):
            return parts[0][0]
        for outputs, size, _ in parts:
            for name, value in outputs.items():
                first = parts[0][0][name]
                if not (has_rows(value) and len(value) == size and value.shape[1:] == first.shape[1:]):
                    raise UsageError(
                        f"output {name!r} has no row of one shape for each sample, and {len(parts)} batches were run: "
                        "give predict one sample at a time"
                    )
        return {name: np.concatenate([outputs[name][:valid] for outputs, _, valid in parts]) for name in parts[0][0]}

    def batches(self, feeds: Mapping[str, Array]) -> Iterator[tuple[slice, dict[str, Array]]]:
        """The rows of ``feeds`` in each batch, and its outputs, so that the outputs of all samples need not be in
        memory at once.

        Outputs with a row for each sample are cut to these rows, without the padding.
        """
        start = 0
        for outputs, size, valid in self._runs(feeds):
            if size is None:
                yield slice(None), outputs
                return
            rows = slice(start, start + valid)
            yield rows, {n: a[:valid] if has_rows(a) and len(a) == size else a for n, a in outputs.items()}
            start += valid

    def _runs(self, feeds: Mapping[str, Array]) -> Iterator[tuple[dict[str, Array], int | None, int]]:
        """(Outputs, batch size, number of valid samples) of each run; the size is None if the inputs do not share their
        first dimension."""
        inputs = self._session.inputs
        named = by_input(feeds, inputs, "predict")
        arrays = conform_all(named, inputs, "predict")
        runs = self._run(arrays, self._batch)
        try:
            first = next(runs)
        except OnnxMergeError:  # some models accept only one sample, although they declare a dynamic batch
            runs = self._run(arrays, ONE)
            first = next(runs)
        yield first
        yield from runs

    def _run(self, arrays: Mapping[str, Array], batch: BatchSize) -> Iterator[tuple[dict[str, Array], int | None, int]]:
        rows = rows_of_sample(self._session.inputs)
        for chunk, size, valid in batches(arrays, self._session.inputs, batch):
            shared = all(len(a) == size * rows.get(n, 1) for n, a in chunk.items() if has_rows(a))
            yield self._session.run(chunk), size if shared else None, valid
