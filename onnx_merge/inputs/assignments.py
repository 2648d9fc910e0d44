"""Find by trial input sizes at which a model runs, because dynamic dimensions do not declare their allowed sizes.

Most models run on an image with odd edges, a batch of two and a short sequence. Others need multiples of 32, squares,
one particular height, lengths of at least 400, or two equal lengths that have different symbols. Sizes are tried until
one runs: small ones, those that nodes require (`onnx_merge.inputs.demanded_sizes`), then typical ones. All dimensions
are then varied from the sizes that ran. A run that fails costs little.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx

from onnx_merge.errors import InputError, OnnxMergeError, UsageError
from onnx_merge.inputs.demanded_sizes import demanded_sizes
from onnx_merge.inputs.dimensions import Assignment, Dimension, dimensions, key_of, shapes, sizes_of
from onnx_merge.inputs.feeds import Sizes, describe, feeds_at, index_bounds, refuse_strings, resolve_shapes
from onnx_merge.inputs.memory_fit import EDGES as FITTING
from onnx_merge.inputs.memory_fit import resolve_open
from onnx_merge.inputs.plain_runs import PlainRuns
from onnx_merge.inputs.typical_sizes import EDGES, LENGTHS, stage, stages, targets
from onnx_merge.runtime.batching import rows_of_run
from onnx_merge.runtime.segment_runner import FOLDING
from onnx_merge.runtime.session import Session
from onnx_merge.runtime.tensor_info import TensorInfo
from onnx_merge.tuning.inputs import INPUT_SEARCH
from passes.shapes.inference import empty_map, inferred_shapes


@dataclass(frozen=True)
class Assignments:
    """The result of a search. The first assignment has no size of 1 and no repeated size, if such an assignment runs,
    and is among the cheapest."""

    found: tuple[Assignment, ...]
    """At least three if the model has dynamic dimensions whose sizes can vary; one if it has none."""
    problem: str = ""
    """Why no assignment was found: onnxruntime's error message."""
    stuck: tuple[str, ...] = ()
    """Dimensions of which only one size was found."""
    tried: int = 0
    """Number of runs of the search."""
    asked: Assignment | None = None
    """The assignment at the sizes that the user gave, or else those of the user's samples, if there are any."""

    @property
    def witnesses(self) -> tuple[Assignment, ...]:
        """The assignments at which shapes are inferred, at most `InputSearchTuning.witnesses`.

        They are the user's or its samples', if there are any; the first; the last, which has the smallest sizes; and
        others by which every size varies, if there are some. Multiply-adds are counted at the first of them.
        """
        first = () if self.asked is None else (self.asked,)
        others = [a for a in self.found if a != self.asked]
        picked = [*first, *others[:1], *others[1:][-1:]]
        rest = others[1:-1]
        while rest and len(picked) < INPUT_SEARCH.witnesses:
            same = [
                (n, k)
                for n, shape in picked[0].items()
                for k in range(len(shape))
                if len({a[n][k] for a in picked}) == 1
            ]
            rest.sort(key=lambda other: -sum(other[n][k] != picked[0][n][k] for n, k in same))  # stable
            picked.insert(-1, rest.pop(0))
        return tuple(picked)


def find_assignments(
    session: Session,
    *,
    model: onnx.ModelProto | None = None,
    sizes: Sizes | None = None,
    known: Sequence[Assignment] = (),
    seed: int = 0,
) -> Assignments:
    """Sizes at which ``session`` runs on random inputs, and the model as it is written runs too.

    Parameters
    ----------
    session: the model, loaded.
    model: the model that was loaded. It shows which sizes its first layers require, and the bounds of
        integers.
    sizes: fixed by the user. They are tried first; if they do not run, nothing else is tried.
    known: sizes that are likely to run, such as those of the user's samples. They are tried next.
    seed: of the inputs' values; see `feeds_at`.

    Raises
    ------
    UsageError: ``sizes`` contradicts the model, or names a symbol or input that it does not have.
    InputError: an input takes strings, which cannot be generated.
    """
    inputs = session.inputs
    resolve_shapes(inputs, None, sizes or {})
    bounds = index_bounds(model) if model is not None else {}
    dims = dimensions(inputs, model)
    if not dims:
        refuse_strings(inputs)
        return Assignments((shapes(inputs, {}),))
    search = _Search(session, dims, seed, bounds, INPUT_SEARCH.runs, model)
    given = _given(inputs, sizes or {})
    taken = {d for t in model.graph.initializer for d in t.dims} if model is not None else set()
    left_open = model is not None and not all(d.key in given for d in dims)
    asked_for = demanded_sizes(model, inputs, dims, FOLDING) if model is not None and left_open else iter(())
    base = search.first(_first(dims, given, [sizes_of(inputs, k) for k in known], taken, asked_for))
    base = base or search.smallest_skipped()
    if base is None:
        return Assignments((), search.problem, tried=search.tried)
    asked = shapes(inputs, base) if given or any(sizes_of(inputs, k).items() <= base.items() for k in known) else None
    if given:  # the model may also run at smaller sizes than the user's, which take less time
        small = itertools.islice(_first(dims, {}, [], taken, iter(())), INPUT_SEARCH.small_beside_given)
        base = search.first(v for v in small if search.elements(v) < search.elements(base)) or base
    directions = tuple(targets(dims))
    for target in directions:
        search.vary(base, target)
    for target in reversed(directions):
        search.part(base, target)
    found = sorted(search.found, key=lambda values: _quality(values, dims, taken))
    stuck = tuple(d.key for d in dims if len({values[d.key] for values in found}) == 1)
    return Assignments(tuple(shapes(inputs, values) for values in found), "", stuck, search.tried, asked)


def counted_at(found: Assignments, inputs: Sequence[TensorInfo]) -> str:
    """A note that says at which sizes multiply-adds are counted, if these are nobody's choice; empty otherwise."""
    open_dims = [d.key for d in dimensions(inputs) if d.role != "batch" or d.axis]
    if found.asked is not None or not found.found or not open_dims:
        return ""
    at = sizes_of(inputs, found.witnesses[0])
    return f"MACs are counted at {', '.join(f'{key} = {at[key]}' for key in open_dims)}: see --input-shape"


def sample_sizes(
    session: Session, found: Assignments, model: onnx.ModelProto, sizes: Sizes, seed: int = 0
) -> tuple[Sizes, str]:
    """Sizes to generate samples at: the default ones, or other typical ones if the model does not run at the default
    ones.

    Returns either ``sizes``, as fixed by the user, or a shape for every input; and a note, empty in the first case.
    """
    inputs = session.inputs
    dims = dimensions(inputs, model)
    if not found.found or all(d.role == "batch" and not d.axis for d in dims):
        return sizes, ""
    firsts = [a[i.name][0] for a in found.found for i in inputs if i.shape and key_of(i, 0)]
    batch = 1 if rows_of_run(inputs) else min(firsts, default=1)
    usual, given = resolve_shapes(inputs, batch if firsts else None, sizes), _given(inputs, sizes)
    search = _Search(session, dims, seed, index_bounds(model), 3 + len(EDGES), model, spares_memory=False)
    # Attention between all pixels of a large image may not fit into memory, so small images are run instead. Two sizes
    # are run, because a single one may be the only size at which the model runs.
    small = [{**sizes, **resolve_open(inputs, sizes, edge)} for edge in FITTING[-2:]]
    if len(small[0]) > len(sizes) and all(
        search.runs(sizes_of(inputs, resolve_shapes(inputs, batch, one))) for one in reversed(small)
    ):
        return sizes, ""
    if search.runs(sizes_of(inputs, usual)):
        return sizes, ""
    candidates = (
        {**stage(dims, 1, batch, 3, edges=edges, lengths=(length,)), **given}
        for edges, length in zip(EDGES, LENGTHS, strict=True)
    )
    typical = next((v for v in candidates if search.runs(v)), None)
    batched = [d.key for d in dims if d.role == "batch"]
    at_batch = [a for a in found.found if all(sizes_of(inputs, a)[key] == batch for key in batched)]
    largest = max(at_batch or found.found, key=lambda a: sum(math.prod(shape) for shape in a.values()))
    chosen = shapes(inputs, typical) if typical else largest
    made_at = "; ".join(f"{name}:{','.join(map(str, shape))}" for name, shape in chosen.items() if shape)
    instead = "; ".join(f"{name}:{','.join(map(str, shape))}" for name, shape in usual.items() if shape)
    return dict(chosen), f"samples are made at {made_at}, since the model does not run at {instead}"


def require(found: Assignments, inputs: Sequence[TensorInfo], sizes: Sizes | None = None, remedy: str = "") -> None:
    """Refuse a model that ran at no size. ``remedy``: instead of giving sizes.

    Raises
    ------
    UsageError: no assignment was found; the message names the input and the remedy.
    """
    if found.found:
        return
    if sizes:
        given = "; ".join(f"{n}:{','.join(map(str, s if isinstance(s, Sequence) else [s]))}" for n, s in sizes.items())
        aside = f"; {remedy}" if remedy else ""
        raise UsageError(f"the model does not run at the sizes given, {given}: {found.problem}{aside}")
    dynamic = [i for i in inputs if any(key_of(i, axis) for axis in range(len(i.shape)))]
    names = ", ".join(f"{i.name!r} {describe(i.shape)}" for i in dynamic)
    example = dynamic[0]
    tame = shapes([example], {d.key: _example(d, k) for k, d in enumerate(dimensions([example]))})[example.name]
    remedy = remedy or (
        f"say at which it does, for instance with --input-shape {example.name}:{','.join(map(str, tame))}, or give "
        "samples with --calib"
    )
    tried = f"the model ran at none of {found.tried} sizes tried for its input {names}"
    raise UsageError(f"{tried} ({found.problem}): {remedy}")


def _example(dimension: Dimension, place: int) -> int:
    return {"batch": 1, "channels": 3, "edge": 48 if place < 2 else 320, "length": 128}[dimension.role]


class _Search:
    """Runs the model at candidate sizes and records which of them run."""

    def __init__(
        self,
        session: Session,
        dims: tuple[Dimension, ...],
        seed: int,
        bounds: Mapping[str, int],
        limit: int,
        model: onnx.ModelProto | None,
        spares_memory: bool = True,
    ) -> None:
        self.found: list[dict[str, int]] = []
        self.problem = ""
        self.tried = 0
        self._session, self._dims, self._seed, self._bounds, self._limit = session, dims, seed, bounds, limit
        self._known: dict[tuple[int, ...], bool] = {}
        self._largest = INPUT_SEARCH.elements
        self._model = model
        self._plainly = PlainRuns(model, session, seed) if model is not None else None
        self._skipped: list[dict[str, int]] = []
        self._spares_memory = spares_memory and model is not None and _multiplies_activations(model)

    def runs(self, values: Mapping[str, int], forced: bool = False) -> bool:
        """Whether the model runs at these sizes. False without a run if the inputs would be too large or the limit of
        runs is reached, or where some node would take much memory (see `_takes_much`), unless ``forced``."""
        mark = tuple(values[d.key] for d in self._dims)
        if mark not in self._known:
            assignment, elements = shapes(self._session.inputs, values), self.elements(values)
            if not self.tried:  # the first sizes may be the user's
                self._largest = max(self._largest, elements)
            if self.tried == self._limit or elements > self._largest:
                return False
            if self.tried and not forced and self._takes_much(assignment):
                self._skipped.append(dict(values))
                self.problem = self.problem or "a node of it would take too much memory"
                return False
            self.tried += 1
            empty = empty_map(self._model, assignment) if self._model is not None else None
            if empty is not None:  # onnxruntime would divide by zero, which kills the process
                self.problem = self.problem or f"{empty} would be empty"
                self._known[mark] = False
                return False
            try:
                self._session.run(feeds_at(self._session.inputs, assignment, self._seed, self._bounds))
                self._known[mark] = self._plainly is None or self._plainly(values)
                if self._known[mark]:
                    self.found.append(dict(values))
                else:
                    self.problem = self.problem or "it runs only where onnxruntime's optimisations rewrite a Reshape"
            except InputError:
                raise
            except OnnxMergeError as error:
                self.problem = self.problem or error.message  # keep the first error, at the most likely sizes
                self._known[mark] = False
        return self._known[mark]

    def elements(self, values: Mapping[str, int]) -> int:
        """The number of elements of all inputs."""
        return sum(math.prod(shape) for shape in shapes(self._session.inputs, values).values())

    def first(self, candidates: Iterator[dict[str, int]]) -> dict[str, int] | None:
        """The first of ``candidates`` that runs."""
        return next((values for values in candidates if self.runs(values)), None)

    def smallest_skipped(self) -> dict[str, int] | None:
        """The smallest of the sizes that were not tried since they take much memory, if the model runs at it."""
        least = min(self._skipped, key=self.elements, default=None)
        return least if least is not None and self.runs(least, forced=True) else None

    def _takes_much(self, assignment: Assignment) -> bool:
        """Whether the inputs and outputs of some node would hold too many elements, as far as inference shows it."""
        if self._model is None or not self._spares_memory:
            return False
        found = inferred_shapes(self._model, assignment, FOLDING)
        sizes = {name: math.prod(shape) for name, shape in found.items()}
        nodes = ((*node.input, *node.output) for node in self._model.graph.node)
        return any(sum(sizes.get(name, 0) for name in names) > INPUT_SEARCH.step_elements for names in nodes)

    def vary(self, base: Mapping[str, int], target: Callable[[Dimension, int], Sequence[int]]) -> None:
        """Change every dimension from ``base``: all of them at once if that runs, otherwise those that can change, one
        after another.

        ``target`` maps a dimension and its size to sizes to try. Dimensions with equal sizes in ``base`` change
        together, because the model may require them to be equal. If no dimension can change alone, all are scaled by a
        common ratio.
        """
        classes: dict[object, list[Dimension]] = {}
        for d in self._dims:
            classes.setdefault((d.role == "batch", base[d.key]), []).append(d)
        choices = [list(dict.fromkeys(target(group[0], base[group[0].key]))) for group in classes.values()]
        changed = dict(base)
        for group, sizes in zip(classes.values(), choices, strict=True):
            changed |= {d.key: sizes[0] for d in group if sizes}
        if self.runs(changed):
            return
        current, moved = dict(base), False
        for group, sizes in zip(classes.values(), choices, strict=True):
            options = ({**current, **dict.fromkeys((d.key for d in group), size)} for size in sizes)
            better = self.first(options)
            current, moved = better or current, moved or (better is not None and group[0].role != "batch")
        if not moved and len(classes) > 1:
            for up, down in ((2, 1), (3, 1), (1, 2)):
                scaled = {d.key: _scaled_size(current[d.key], d, up, down) for d in self._dims}
                known = any(all(f[d.key] == scaled[d.key] for d in self._dims if d.role != "batch") for f in self.found)
                if not known and self.runs(scaled):
                    return

    def part(self, base: Mapping[str, int], target: Callable[[Dimension, int], Sequence[int]]) -> None:
        """Change each dimension alone that shares its size with another in ``base``, to find out whether they must be
        equal."""
        sizes = list(base.values())
        for d in self._dims:
            if sizes.count(base[d.key]) > 1 and d.role != "channels":
                self.first({**base, d.key: size} for size in target(d, base[d.key]))


def _multiplies_activations(model: onnx.ModelProto) -> bool:
    """Whether memory may grow with the square of a size, as in attention. Other models need no estimate of it."""
    constants = {t.name for t in model.graph.initializer}
    products = (n for n in model.graph.node if n.op_type in ("MatMul", "Einsum", "Attention", "MultiHeadAttention"))
    return any(not constants.intersection(node.input[:2]) for node in products)


def _scaled_size(size: int, dimension: Dimension, up: int, down: int) -> int:
    return size * up // down if dimension.role in ("edge", "length") and size % down == 0 else size


def _given(inputs: Sequence[TensorInfo], sizes: Sizes) -> dict[str, int]:
    """The sizes that the user fixed, by key."""
    by_symbol = {name: size for name, size in sizes.items() if isinstance(size, int)}
    return by_symbol | sizes_of(inputs, {n: tuple(s) for n, s in sizes.items() if isinstance(s, Sequence)})


def _first(
    dims: tuple[Dimension, ...],
    given: Mapping[str, int],
    known: Sequence[Mapping[str, int]],
    taken: set[int],
    asked_for: Iterator[dict[str, int]],
) -> Iterator[dict[str, int]]:
    """Candidate sizes in the order they are tried: known sizes, a few small ones, those that nodes require, then
    `stages`.

    Sizes in ``given`` are not varied. The first candidates avoid sizes in ``taken``.
    """
    seen: set[tuple[int, ...]] = set()
    ladder = stages(dims, taken)
    first = ({**stage(dims, 1, 2, 1), **k} for k in known)
    for sizes in itertools.chain(first, itertools.islice(ladder, INPUT_SEARCH.small_first), asked_for, ladder):
        values = {**sizes, **given}
        mark = tuple(values[d.key] for d in dims)
        if mark not in seen:
            seen.add(mark)
            yield {d.key: values[d.key] for d in dims}


def _quality(values: Mapping[str, int], dims: Sequence[Dimension], taken: set[int]) -> tuple[int, ...]:
    """A sort key; less is better: the number of sizes of 1, of repeated sizes, of sizes that also occur in weights, and
    of elements."""
    sizes = [values[d.key] for d in dims if d.role != "channels"]
    elements = 1
    for size in sizes:
        elements *= size
    return sizes.count(1), len(sizes) - len(set(sizes)), sum(s in taken for s in sizes if s > 4), elements
