"""What the samples at hand leave unknown about a model, said where its numbers are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from onnx_merge.errors import OnnxMergeError
from onnx_merge.inner_layers import complaint, few, layers
from onnx_merge.parity import batches
from onnx_merge.runtime import Session

if TYPE_CHECKING:
    from onnx_merge.compare import Comparison

Array = NDArray[Any]
MADE_UP = "made up: how the model does on yours is not known; give --calib"
FLAT = 1e-3
"""Deviation of an output over the samples, relative to its root mean square, below which it does not move."""
ONE_CLASS = 0.9
"""Share of the samples: a classifier that gives one class to more of them is not tested by them. Of 32 samples 29 or
more fall into one of two equal classes once in 700,000 times."""
ENOUGH = 16
"""Samples from which classes are counted."""


LAYERS = 100
"""That are looked at, at most."""
SHARE = 4
"""What is computed in a model for one sample takes one part in so many of the memory, at most, as do its weights."""


def doubts(comparison: Comparison) -> tuple[str, ...]:
    """Lines about the samples on which ``comparison`` compares outputs, none if they are the user's and look like what
    the model was trained on."""
    session, options, model = comparison.session, comparison.options, comparison.model
    if session is None:
        return ()
    feeds = comparison.measured()
    found = [] if comparison.real else [MADE_UP, *unmoved(session, feeds)]
    room, each = options.memory_limit // SHARE, comparison.fitting.each
    if sum(tensor.ByteSize() for tensor in model.graph.initializer) <= room:
        most = LAYERS if each is None else min(LAYERS, int(room / max(1.0, each.widest)))
        off = complaint(layers(model, feeds, comparison.provider, most)) if most else None
        remedy = "are they scaled as in training? see --mean and --std" if comparison.real else "give --calib"
        found += [f"{off}: {remedy}"] if off else []
    return tuple(found)


def unmoved(session: Session, feeds: Mapping[str, Array]) -> Iterator[str]:
    """A line for each output that the samples (N, ...) do not move, or that has one class for nearly all of them."""
    rows: dict[str, list[Array]] = {}
    scores: set[str] = set()
    try:
        for chunk, size, valid in batches(few(feeds), session.inputs):
            for name, value in session.run(chunk).items():
                if value.dtype.kind != "f" or not value.ndim or value.shape[0] != size:
                    continue
                rows.setdefault(name, []).append(value[:valid].reshape(valid, -1).astype(np.float64))
                if value.ndim > 1 and value.shape[1] == value.size // size > 1:
                    scores.add(name)
    except OnnxMergeError:
        return
    for name, values in rows.items():
        if len({value.shape[1] for value in values}) > 1:  # as many rows as there are detections
            continue
        both = np.nan_to_num(np.concatenate(values))
        if len(both) < 2:
            continue
        spread, whole = float(((both - both.mean(0)) ** 2).sum()), float((both**2).sum())
        classes = np.unique(both.argmax(1), return_counts=True)[1]
        if spread <= FLAT**2 * whole:
            yield f"they do not move the output {name!r}, so that it is not tested"
        elif scores == {name} and len(both) >= ENOUGH and classes.max() > ONE_CLASS * len(both):
            yield f"{classes.max()} of {len(both)} get the same class from {name!r}, so that its choice is not tested"
