"""Is the result a sound model with the original's interface, and how close are its outputs?"""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_merge.errors import InputError, OnnxMergeError, StructureError, UsageError
from onnx_merge.load import check_valid, checker_line
from onnx_merge.runtime import BFLOAT16, CPU, ProviderChoice, Session, TensorInfo
from onnx_merge.samples import Sizes, index_bounds, random_feeds
from onnx_merge.save import needs_external_data, save_atomically
from passes.graph.inputs import overridable

Array = NDArray[Any]
BATCHES = (1, 3)
"""Batch sizes at which a model with a dynamic batch is run."""
CHUNK_BYTES = 8 * 2**20
"""Input of one run, at most: activations take some hundred times as much memory."""
CHUNK_SAMPLES = 128


@dataclass(frozen=True, slots=True)
class Fidelity:
    """How close the result's outputs are to the original's."""

    cosine: float
    """Mean over samples and outputs of the cosine between the flattened outputs; 1 is best."""
    relative_l2: float
    """|result - original| / |original|, mean over outputs."""
    top1_agreement: float | None
    """Part of the samples (0 to 1) with the same largest score; None for models that are no classifiers."""
    samples: int
    source: str
    """Where the samples come from, as the report says it."""
    provider: str


def check_structure(
    original: onnx.ModelProto,
    result: onnx.ModelProto,
    provider: ProviderChoice = CPU,
    *,
    sizes: Sizes | None = None,
    seed: int = 0,
    base_dir: Path | None = None,
) -> list[str]:
    """Check that ``result`` is valid, has the interface of ``original``, and runs wherever ``original`` does.

    It must give finite outputs of the declared shapes for random inputs, at batch sizes 1 and 3 where the first dim is
    dynamic. What the original itself does not achieve is not asked of the result. ``sizes`` are as in `random_feeds`;
    ``base_dir`` is the folder of tensors that either model left external.

    Returns
    -------
    What could not be checked, and why: a line each, none if all could.

    Raises
    ------
    StructureError: the result is unsound; the message says how.
    UsageError: ``sizes`` do not fit the model.
    """
    with _portable(result, base_dir) as source:
        notes = _check_sound(original, source)
        _check_interface(original, result)
        return notes + _check_runs(original, source, provider, sizes, seed, base_dir)


@contextlib.contextmanager
def _portable(model: onnx.ModelProto, base_dir: Path | None) -> Iterator[bytes | str]:
    """The model's bytes, or the path of a temporary file where it is too large."""
    if not needs_external_data(model):
        yield model.SerializeToString()
        return
    with tempfile.TemporaryDirectory(prefix="onnx_merge-", ignore_cleanup_errors=True) as folder:
        yield os.fspath(save_atomically(model, Path(folder, "model.onnx"), base_dir).path)


def _check_sound(original: onnx.ModelProto, source: bytes | str) -> list[str]:
    """`onnx.checker` with strict shape inference; without it, where the original does not pass that either."""
    try:
        check_valid(source)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise StructureError(f"the result is not a valid model: {checker_line(error)}") from error
    try:
        onnx.checker.check_model(source, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        try:
            onnx.checker.check_model(original, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError):
            return [f"strict shape inference fails, as it does on the original: {checker_line(error)}"]
        raise StructureError(f"the shapes in the result contradict each other: {checker_line(error)}") from error
    return []


def _check_interface(original: onnx.ModelProto, result: onnx.ModelProto) -> None:
    """Names, element types, ranks, fixed dims and symbols of the inputs and outputs."""
    for kind, before, after in (
        ("input", _inputs(original), _inputs(result)),
        ("output", list(original.graph.output), list(result.graph.output)),
    ):
        names, new_names = [v.name for v in before], [v.name for v in after]
        if names != new_names:
            raise StructureError(f"the {kind}s of the result are {new_names}, those of the original {names}")
        for old, new in zip(before, after, strict=True):
            if _element(old) != _element(new):
                raise StructureError(
                    f"{kind} {old.name!r} has another type in the result: {_element(new)}, not {_element(old)}"
                )
            old_dims, new_dims = _dims(old), _dims(new)
            # The result may declare what the original left open, for an output.
            if old_dims is None or (kind == "output" and new_dims is not None and _refines(old_dims, new_dims)):
                continue
            if old_dims != new_dims:
                raise StructureError(f"{kind} {old.name!r} has shape {new_dims} in the result, not {old_dims}")


def _inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """What a caller must feed or may override; other initializers are merely listed among the inputs."""
    constants = {t.name for t in model.graph.initializer} | {t.values.name for t in model.graph.sparse_initializer}
    return [v for v in model.graph.input if v.name not in constants - overridable(model)]


def _element(value: onnx.ValueInfoProto) -> str:
    if value.type.WhichOneof("value") == "tensor_type":
        return str(onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type))
    return " ".join(str(value.type).split())


def _dims(value: onnx.ValueInfoProto) -> list[int | str | None] | None:
    """Declared dims, dynamic ones as their symbol or None; None where no shape is declared."""
    kind = value.type.tensor_type
    dims = [d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in kind.shape.dim]
    return dims if kind.HasField("shape") else None


def _refines(old: list[int | str | None], new: list[int | str | None]) -> bool:
    return len(old) == len(new) and all(o is None or o == n for o, n in zip(old, new, strict=True))


def _check_runs(
    original: onnx.ModelProto,
    source: bytes | str,
    provider: ProviderChoice,
    sizes: Sizes | None,
    seed: int,
    base_dir: Path | None,
) -> list[str]:
    try:
        before = Session(original, provider, base_dir=base_dir)
        inputs = before.inputs
    except OnnxMergeError as error:
        return [f"not run, since the original does not load either: {error}"]
    try:
        after = Session(source, provider)
    except OnnxMergeError as error:
        raise StructureError(f"the result does not load: {error}") from error
    declared = {v.name: _dims(v) for v in original.graph.output}
    bounds = index_bounds(original)
    dynamic = any(i.shape and not (isinstance(i.shape[0], int) and i.shape[0] > 0) for i in inputs)
    notes: list[str] = []
    for batch in BATCHES if dynamic else (1,):
        at = f"at batch size {batch}" if dynamic else "at its fixed batch size"
        try:
            feeds = random_feeds(inputs, batch, seed, sizes, bounds)
            expected = before.run(feeds)
        except UsageError:
            raise
        except OnnxMergeError as error:
            notes.append(f"not run {at}, since the original does not run either: {error}")
            continue
        try:
            actual = after.run(feeds)
        except OnnxMergeError as error:
            raise StructureError(f"the result does not run {at}, where the original does: {error}") from error
        symbols = _symbols(inputs, feeds)
        for name, value in expected.items():
            notes += _check_output(name, value, actual[name], declared[name], symbols, at)
    return notes


def _symbols(inputs: Sequence[TensorInfo], feeds: Mapping[str, Array]) -> dict[int | str | None, int]:
    """Sizes of the inputs' symbols in this run."""
    return {d: n for i in inputs for d, n in zip(i.shape, feeds[i.name].shape, strict=True) if isinstance(d, str)}


def _check_output(
    name: str,
    expected: Array,
    actual: Array,
    declared: list[int | str | None] | None,
    symbols: Mapping[int | str | None, int],
    at: str,
) -> list[str]:
    """Compare an output's shape and finiteness; the number of detections, say, may differ: no input fixes it."""
    notes: list[str] = []
    if expected.ndim != actual.ndim:
        raise StructureError(f"output {name!r} has shape {actual.shape} {at}, the original's has {expected.shape}")
    for axis, dim in enumerate(declared or []):
        size = dim if isinstance(dim, int) and dim > 0 else symbols.get(dim)
        if size is None:
            continue
        if len(declared or []) != expected.ndim or expected.shape[axis] != size:
            notes.append(f"output {name!r} of the original has shape {expected.shape} {at}, unlike its declaration")
            break
        if actual.shape[axis] != size:
            raise StructureError(f"output {name!r} has shape {actual.shape} {at}, the original's has {expected.shape}")
    if not _is_float(expected):
        return notes
    if not np.isfinite(expected).all():
        notes.append(f"output {name!r} of the original is not finite {at}")
    elif not np.isfinite(actual).all():
        raise StructureError(f"output {name!r} is not finite {at}, where the original's is")
    return notes


@dataclass(slots=True)
class _Distance:
    """Running comparison of one output."""

    cosines: list[float] = field(default_factory=list)
    squares: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    """Sums over all samples of (result - original)^2, original^2, result^2."""

    def add(self, name: str, expected: Array, actual: Array, size: int, valid: int) -> None:
        """Compare one batch of ``size`` samples, the first ``valid`` of which count.

        Outputs whose first dim is not the batch count as one sample. Where sizes differ (a number of detections), the
        smaller one is filled up with zeros: what is missing differs.
        """
        batched = all(a.ndim > 0 and a.shape[0] == size for a in (expected, actual))
        a, b = (x.reshape(size if batched else 1, -1)[:valid].astype(np.float64) for x in (expected, actual))
        width = max(a.shape[1], b.shape[1])
        a, b = (np.pad(x, ((0, 0), (0, width - x.shape[1]))) for x in (a, b))
        finite = np.isfinite(a)
        if not np.isfinite(b[finite]).all():
            raise StructureError(f"output {name!r} of the result is not finite where the original's is")
        a, b = np.where(finite, a, 0), np.where(finite, b, 0)
        aa, bb = (a * a).sum(1), (b * b).sum(1)
        self.squares += (float(((a - b) ** 2).sum()), float(aa.sum()), float(bb.sum()))
        norms = np.sqrt(aa * bb)  # in this order, equal vectors have a cosine of exactly 1
        # Two zero vectors agree; one alone has no direction in common with anything.
        cosines = np.where((aa == 0) & (bb == 0), 1.0, (a * b).sum(1) / np.where(norms > 0, norms, 1.0))
        self.cosines += np.clip(cosines, -1, 1).tolist()

    def relative_l2(self) -> float:
        """Relative to the result where the original is all zeros."""
        difference, original, result = self.squares.tolist()
        return math.sqrt(difference / (original or result or 1.0))


def fidelity(
    original: onnx.ModelProto | Session,
    result: onnx.ModelProto | Session,
    feeds: Mapping[str, Array],
    provider: ProviderChoice = CPU,
    *,
    source: str = "samples",
    base_dir: Path | None = None,
) -> Fidelity:
    """Compare the outputs of two models on ``feeds``, each (N, ...), in batches of bounded size.

    Float outputs count; where there are none, all of them. Top-1 agreement is that of the only output that holds
    scores, (N, classes) or (N, classes, 1, 1); models with several such outputs, or none, have no top-1.

    Raises
    ------
    StructureError: an output of the result is not finite where the original's is, or is missing.
    InputError: there is nothing to compare.
    OnnxMergeError: a model cannot be loaded or run.
    """
    before, after = _session(original, provider, base_dir), _session(result, provider, base_dir)
    distances: dict[str, _Distance] = {}
    agree = rows = samples = 0
    for chunk, size, valid in batches(feeds, before.inputs):
        expected, actual = before.run(chunk), after.run(chunk)
        if expected.keys() - actual.keys():
            raise StructureError(f"the result lacks the outputs {sorted(expected.keys() - actual.keys())}")
        numeric = [n for n, v in expected.items() if v.dtype != object]
        for name in [n for n in numeric if _is_float(expected[n])] or numeric:
            distances.setdefault(name, _Distance()).add(name, expected[name], actual[name], size, valid)
        scores, new_scores = _scores(expected, size), _scores(actual, size)
        if scores is not None and new_scores is not None:
            best = scores[:valid].argmax(1)
            agree += int((best == new_scores[:valid].argmax(1)).sum())
            rows += len(best)
        samples += valid
    if not distances:
        raise InputError("the model has no numeric outputs, or there are no samples: nothing to compare")
    return Fidelity(
        cosine=float(np.mean([np.mean(d.cosines) for d in distances.values()])),
        relative_l2=float(np.mean([d.relative_l2() for d in distances.values()])),
        top1_agreement=agree / rows if rows else None,
        samples=samples,
        source=source,
        provider=before.provider.name,
    )


def accuracy(
    model: onnx.ModelProto | Session,
    feeds: Mapping[str, Array],
    labels: NDArray[np.int64],
    provider: ProviderChoice = CPU,
    *,
    base_dir: Path | None = None,
) -> float:
    """Top-1 accuracy in percent on ``feeds``, each (N, ...), with class indices ``labels`` (N,).

    Raises
    ------
    UsageError: the model is no classifier, or the labels do not fit its classes or the samples.
    """
    session = _session(model, provider, base_dir)
    right = position = 0
    for chunk, size, valid in batches(feeds, session.inputs):
        scores = _scores(session.run(chunk), size)
        if scores is None:
            raise UsageError("accuracy needs a model with one output of scores, (N, classes): leave the labels out")
        expected = labels[position : position + valid]
        if len(expected) < valid:
            raise UsageError(f"there are {len(labels)} labels for more samples: give one label for each sample")
        if expected.min() < 0 or expected.max() >= scores.shape[1]:
            raise UsageError(f"labels must be class numbers from 0 to {scores.shape[1] - 1}, found {expected.max()}")
        right += int((scores[:valid].argmax(1) == expected).sum())
        position += valid
    if position != len(labels):
        raise UsageError(f"there are {len(labels)} labels for {position} samples: give one label for each sample")
    return 100.0 * right / position


def batches(feeds: Mapping[str, Array], inputs: Sequence[TensorInfo]) -> Iterator[tuple[dict[str, Array], int, int]]:
    """Cut ``feeds`` into batches: (feeds of one run, its size, how many of its first samples count).

    A fixed batch size is kept, the last batch being filled up with copies of the last sample. Inputs that do not share
    their first dim are one run, which counts as one sample.
    """
    counts = {len(a) for a in feeds.values() if a.ndim}
    fixed = {i.shape[0] for i in inputs if i.shape and isinstance(i.shape[0], int) and i.shape[0] > 0}
    if len(counts) != 1 or len(fixed) > 1:
        yield dict(feeds), 1, 1
        return
    count = counts.pop()
    fixed_size = bool(fixed)
    per_sample = max(1, sum(a.nbytes for a in feeds.values()) // max(count, 1))
    step = fixed.pop() if fixed else min(CHUNK_SAMPLES, max(1, CHUNK_BYTES // per_sample))
    for start in range(0, count, step):
        valid = min(step, count - start)
        size = step if fixed_size else valid
        rows = np.minimum(np.arange(start, start + size), count - 1)
        yield {n: a[rows] if a.ndim else a for n, a in feeds.items()}, size, valid


def _scores(outputs: Mapping[str, Array], size: int) -> Array | None:
    """The one output that looks like class scores of ``size`` samples, as (size, classes)."""
    found = [
        v.reshape(v.shape[:2])
        for v in outputs.values()
        if _is_float(v) and v.ndim >= 2 and v.shape[0] == size and v.shape[1] > 1 and all(d == 1 for d in v.shape[2:])
    ]
    return found[0] if len(found) == 1 else None


def _session(model: onnx.ModelProto | Session, provider: ProviderChoice, base_dir: Path | None) -> Session:
    return model if isinstance(model, Session) else Session(model, provider, base_dir=base_dir)


def _is_float(array: Array) -> bool:
    return array.dtype.kind == "f" or array.dtype == BFLOAT16
