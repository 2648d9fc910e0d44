"""Sizes at which a model runs, found by trying: no declaration says at which sizes of its dynamic dimensions it does.

An image of odd edges, a batch of two and a short sequence suit most models. Others ask for multiples of 32, squares,
one height, lengths of at least 400, or two lengths that are equal although they have different symbols. Sizes are
tried from small ones to typical ones until one runs, and from there all dimensions are varied. A run that fails is
cheap.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx

from onnx_merge.dimensions import Assignment, Dimension, Role, dimensions, key_of, shapes, sizes_of
from onnx_merge.errors import InputError, OnnxMergeError, UsageError
from onnx_merge.runtime import Session, TensorInfo
from onnx_merge.samples import Sizes, describe, feeds_at, index_bounds, resolve_shapes

LIMIT = 64
"""Runs of a search, at most. A model that runs at small sizes takes four."""
ODD = (37, 29, 41, 31, 43, 53, 59, 61)
"""Edges, in the order they are given to dimensions: primes, since those are no channel counts, as a rule."""
SHORT = (7, 11, 13, 17, 19, 23, 29, 31)
FACTORS = (13, 17, 11, 19, 23, 29), (5, 7, 11, 13, 17, 19), (5, 7, 11, 13, 3, 17), (3, 5, 7, 11, 9, 13)
"""Of 4, 8, 16, 32 and 64: primes too, as far as sizes stay small."""
EDGES = (
    (224, 224), (48, 320), (256, 256), (28, 28), (32, 100), (299, 299), (32, 320), (320, 320), (384, 384), (416, 416),
    (512, 512), (640, 640), (32, 32), (64, 64), (112, 112), (128, 128), (160, 160), (336, 336), (518, 518), (240, 320),
)  # fmt: skip
"""Rows and columns that models are made for."""
LENGTHS = (16, 48, 128, 77, 512, 1, 100, 400, 1000, 3000, 16000, 48000, 32, 64, 256, 384, 197, 300, 1024, 2048)
LONGEST = 3000
"""Of what is no signal in one channel: attention over more would take too much memory."""


@dataclass(frozen=True)
class Assignments:
    """What was found. The first has no size of 1 and no size twice, if such a one runs, and is among the cheapest."""

    found: tuple[Assignment, ...]
    """At least three where the model has dynamic dimensions and their sizes can vary; one where it has none."""
    problem: str = ""
    """Why there are none: what onnxruntime said."""
    stuck: tuple[str, ...] = ()
    """Dimensions of which only one size was found."""
    tried: int = 0
    """How many runs it took."""


def find_assignments(
    session: Session,
    *,
    model: onnx.ModelProto | None = None,
    sizes: Sizes | None = None,
    known: Sequence[Assignment] = (),
    seed: int = 0,
    bounds: Mapping[str, int] | None = None,
    limit: int = LIMIT,
) -> Assignments:
    """Sizes at which ``session`` runs on random inputs.

    Parameters
    ----------
    session: the model, loaded.
    model: what it was loaded from, for what its first layers ask for, and for ``bounds``.
    sizes: what the user fixed: tried first, alone. Where it is given and does not run, nothing else is tried.
    known: sizes that are likely to run, such as those of the user's samples: tried next.
    seed: of the inputs' values; see `feeds_at`, also for ``bounds``.
    limit: runs, at most.

    Raises
    ------
    UsageError: ``sizes`` contradicts the model, or names what it does not have.
    InputError: an input takes strings, which cannot be made up.
    """
    inputs = session.inputs
    resolve_shapes(inputs, None, sizes or {})
    if bounds is None and model is not None:
        bounds = index_bounds(model)
    dims = dimensions(inputs, model)
    if not dims:
        return Assignments((shapes(inputs, {}),))
    search = _Search(session, dims, seed, bounds or {}, limit)
    given = _given(inputs, sizes or {})
    taken = {d for t in model.graph.initializer for d in t.dims} if model is not None else set()
    base = search.first(_first(dims, given, [sizes_of(inputs, k) for k in known], taken))
    if base is None:
        return Assignments((), search.problem, tried=search.tried)
    targets = tuple(_targets(dims))
    for target in targets:
        search.vary(base, target)
    search.part(base, targets[1])
    found = sorted(search.found, key=lambda values: _quality(values, dims, taken))
    stuck = tuple(d.key for d in dims if len({values[d.key] for values in found}) == 1)
    return Assignments(tuple(shapes(inputs, values) for values in found), "", stuck, search.tried)


def sample_sizes(
    session: Session, found: Assignments, model: onnx.ModelProto, sizes: Sizes, seed: int = 0
) -> tuple[Sizes, str]:
    """Sizes to make samples at: the usual ones, or, where the model does not run at these, others it may be made for.

    Returns ``sizes``, which the user fixed, or a shape for every input, and a line that says so.
    """
    inputs = session.inputs
    dims = dimensions(inputs, model)
    if not found.found or all(d.role == "batch" for d in dims):
        return sizes, ""
    firsts = [a[i.name][0] for a in found.found for i in inputs if i.shape and key_of(i, 0)]
    batch = min(firsts, default=1)
    usual, given = resolve_shapes(inputs, batch if firsts else None, sizes), _given(inputs, sizes)
    search = _Search(session, dims, seed, index_bounds(model), 1 + len(EDGES))
    if search.runs(sizes_of(inputs, usual)):
        return sizes, ""
    typical = search.first(
        {**_stage(dims, 1, batch, 3, edges=edges, lengths=(length,)), **given}
        for edges, length in zip(EDGES, LENGTHS, strict=True)
    )
    largest = max(found.found, key=lambda a: sum(math.prod(shape) for shape in a.values()))
    chosen = shapes(inputs, typical) if typical else largest
    told = "; ".join(f"{name}:{','.join(map(str, shape))}" for name, shape in chosen.items() if shape)
    instead = "; ".join(f"{name}:{','.join(map(str, shape))}" for name, shape in usual.items() if shape)
    return dict(chosen), f"samples are made at {told}, since the model does not run at {instead}"


def require(found: Assignments, inputs: Sequence[TensorInfo], sizes: Sizes | None = None) -> None:
    """Refuse a model that ran at no size.

    Raises
    ------
    UsageError: nothing was found; the message names the input and the remedy.
    """
    if found.found:
        return
    if sizes:
        told = "; ".join(f"{n}:{','.join(map(str, s if isinstance(s, Sequence) else [s]))}" for n, s in sizes.items())
        raise UsageError(f"the model does not run at the sizes given, {told}: {found.problem}")
    dynamic = [i for i in inputs if any(key_of(i, axis) for axis in range(len(i.shape)))]
    names = ", ".join(f"{i.name!r} {describe(i.shape)}" for i in dynamic)
    example = dynamic[0]
    tame = shapes([example], {d.key: _example(d, k) for k, d in enumerate(dimensions([example]))})[example.name]
    raise UsageError(
        f"the model ran at none of {found.tried} sizes tried for its input {names} ({found.problem}): say at which it "
        f"does, for instance with --input-shape {example.name}:{','.join(map(str, tame))}"
    )


def _example(dimension: Dimension, place: int) -> int:
    return {"batch": 1, "channels": 3, "edge": 48 if place < 2 else 320, "length": 128}[dimension.role]


class _Search:
    """Runs the model, and keeps where it ran."""

    def __init__(
        self, session: Session, dims: tuple[Dimension, ...], seed: int, bounds: Mapping[str, int], limit: int
    ) -> None:
        self.found: list[dict[str, int]] = []
        self.problem = ""
        self.tried = 0
        self._session, self._dims, self._seed, self._bounds, self._limit = session, dims, seed, bounds, limit
        self._known: dict[tuple[int, ...], bool] = {}

    def runs(self, values: Mapping[str, int]) -> bool:
        """Whether the model runs at these sizes; False, untried, when the limit is reached."""
        mark = tuple(values[d.key] for d in self._dims)
        if mark not in self._known:
            if self.tried == self._limit:
                return False
            self.tried += 1
            try:
                assignment = shapes(self._session.inputs, values)
                self._session.run(feeds_at(self._session.inputs, assignment, self._seed, self._bounds))
                self._known[mark] = True
                self.found.append(dict(values))
            except InputError:
                raise
            except OnnxMergeError as error:
                self.problem = self.problem or error.message  # at the most likely sizes
                self._known[mark] = False
        return self._known[mark]

    def first(self, candidates: Iterator[dict[str, int]]) -> dict[str, int] | None:
        """The first of ``candidates`` that runs."""
        return next((values for values in candidates if self.runs(values)), None)

    def vary(self, base: Mapping[str, int], target: Callable[[Dimension, int], Sequence[int]]) -> None:
        """Change every dimension from ``base``: all at once if that runs, else those that can, one after another.

        ``target``: dimension and its size -> sizes to try. Dimensions that have one size in ``base`` keep in step, as
        the model may want them equal; what stands in a ratio is tried in that ratio.
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
                scaled = {d.key: _scaled(current[d.key], d, up, down) for d in self._dims}
                known = any(all(f[d.key] == scaled[d.key] for d in self._dims if d.role != "batch") for f in self.found)
                if not known and self.runs(scaled):
                    return

    def part(self, base: Mapping[str, int], target: Callable[[Dimension, int], Sequence[int]]) -> None:
        """Change one of those dimensions alone that have one size in ``base``: they may not have to be equal."""
        sizes = list(base.values())
        shared = (d for d in self._dims if sizes.count(base[d.key]) > 1 and d.role != "channels")
        self.first({**base, d.key: size} for d in shared for size in target(d, base[d.key])[:2])


def _scaled(size: int, dimension: Dimension, up: int, down: int) -> int:
    return size * up // down if dimension.role in ("edge", "length") and size % down == 0 else size


def _given(inputs: Sequence[TensorInfo], sizes: Sizes) -> dict[str, int]:
    """What the user fixed, by key."""
    by_symbol = {name: size for name, size in sizes.items() if isinstance(size, int)}
    return by_symbol | sizes_of(inputs, {n: tuple(s) for n, s in sizes.items() if isinstance(s, Sequence)})


def _first(
    dims: tuple[Dimension, ...], given: Mapping[str, int], known: Sequence[Mapping[str, int]], taken: set[int]
) -> Iterator[dict[str, int]]:
    """Sizes in the order they are tried. What is ``given`` is not varied here; the first ones avoid ``taken``."""
    seen: set[tuple[int, ...]] = set()
    for sizes in itertools.chain(({**_stage(dims, 1, 2, 1), **k} for k in known), _stages(dims, taken)):
        values = {**sizes, **given}
        mark = tuple(values[d.key] for d in dims)
        if mark not in seen:
            seen.add(mark)
            yield {d.key: values[d.key] for d in dims}


def _stages(dims: tuple[Dimension, ...], taken: set[int]) -> Iterator[dict[str, int]]:
    odd, short = ([p for p in primes if p not in taken] or primes for primes in (ODD, SHORT))
    for together in range(6):
        yield _stage(dims, 1, 2, together, lengths=short, odd=odd)
    yield from _sums(dims, _stage(dims, 1, 2, 1, lengths=short, odd=odd))
    yield from (_stage(dims, 1, batch, together) for batch, together in ((1, 2), (8, 1), (3, 1), (4, 1), (16, 1)))
    yield from (_stage(dims, of, 2, 2) for of in (2, 4, 8, 16, 32))
    yield _stage(dims, 32, 2, 3)  # squares, or equal lengths
    for first, second in ((192, 96), (96, 192)):
        yield _stage(dims, 32, 2, 2, edges=(first, second), lengths=(first, second))
    yield from (_stage(dims, 32, batch, 2) for batch in (1, 8))
    yield _stage(dims, 64, 1, 3)
    for edges, length in zip(EDGES, LENGTHS, strict=True):
        yield _stage(dims, 1, 1, 3, edges=edges, lengths=(length,))
    for batch in (2, 8):
        yield _stage(dims, 1, batch, 2, edges=(224, 224), lengths=(512,))


def _sums(dims: tuple[Dimension, ...], sizes: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """One length as the sum of two others: what was read before and what is new, under one mask."""
    lengths = [d.key for d in dims if d.role == "length"]
    if 3 <= len(lengths) <= 4:
        for total in reversed(lengths):
            for one, other in itertools.combinations([key for key in lengths if key != total], 2):
                yield {**sizes, total: sizes[one] + sizes[other]}


def _stage(
    dims: tuple[Dimension, ...],
    multiple: int,
    batch: int,
    together: int,
    edges: Sequence[int] = (),
    lengths: Sequence[int] = (),
    odd: Sequence[int] = ODD,
) -> dict[str, int]:
    """Sizes for all dimensions: multiples of a power of two, or ``edges`` and ``lengths``, over again if they are few.

    ``together`` says which dimensions share a size: 0 none, 1 batches, 2 those at the same axis of several inputs, 3
    those of one role, 4 all but batches, 5 all.
    """
    pools: dict[Role, Sequence[int]] = {
        "batch": range(batch, batch + len(dims)),
        "edge": edges or _multiples(multiple, odd),
        "length": lengths or _multiples(multiple, SHORT),
    }
    all_as: Role = "edge" if any(d.role == "edge" for d in dims) else "length"
    given: dict[object, int] = {}
    used: dict[Role, int] = {}
    values: dict[str, int] = {}
    for d in dims:
        if d.role == "channels":
            values[d.key] = d.likely or 3
            continue
        role = all_as if together == 5 or (together == 4 and d.role != "batch") else d.role
        group: object = d.key
        if together >= 3 and not (edges and role == "edge") or (together >= 1 and role == "batch"):
            group = role
        elif together == 2:
            group = d.axis
        if group not in given:
            pool, place = pools[role], used.get(role, 0)
            used[role] = place + 1
            size = pool[place % len(pool)]
            given[group] = min(size, LONGEST) if role == "length" and not d.alone else size
        values[d.key] = given[group]
    return values


def _multiples(of: int, odd: Sequence[int]) -> Sequence[int]:
    if of <= 2:
        return [of * p for p in odd]
    return [of * p for p in FACTORS[{4: 0, 8: 1, 16: 2, 32: 3, 64: 3}[of]]]


def _targets(dims: tuple[Dimension, ...]) -> Iterator[Callable[[Dimension, int], Sequence[int]]]:
    """Smaller sizes, larger ones, and the smallest."""
    place = {d.key: [e.key for e in dims if e.role == d.role].index(d.key) for d in dims}

    def smaller(d: Dimension, size: int) -> Sequence[int]:
        if d.role == "batch":
            return [1, 3 * size] if size > 1 else [3]
        if d.role == "channels":
            return [size]
        of = _power(size)
        steps = (23, 31, 19, 27) if d.role == "edge" and of == 1 else (5, 3, 9, 4)
        return [of * steps[place[d.key] % 4], size - of if size > of else size + of, size // 2 or 1]

    def larger(d: Dimension, size: int) -> Sequence[int]:
        if d.role == "batch":
            return [size + 1 + place[d.key] % 4, 3] if size < 8 else [3, 2 * size]
        if d.role == "channels":
            return [size]
        of, k = _power(size), place[d.key] % 4
        step = (29, 24, 16, 21)[k] if d.role == "edge" else (47, 31, 37, 53)[k]
        return [size + of * (step if of < 4 else 1 + k), size + 2 * of, size * 2]

    def smallest(d: Dimension, size: int) -> Sequence[int]:
        return [1 if d.role != "edge" else (16, 9, 12)[place[d.key] % 3]] if d.role != "channels" else [size]

    yield from (smaller, larger, smallest)


def _power(size: int) -> int:
    """The largest power of two, at most 64, of which ``size`` is a multiple."""
    return min(size & -size, 64)


def _quality(values: Mapping[str, int], dims: Sequence[Dimension], taken: set[int]) -> tuple[int, ...]:
    """Less is better: sizes of 1, sizes twice, sizes that weights have as well, elements."""
    sizes = [values[d.key] for d in dims if d.role != "channels"]
    elements = 1
    for size in sizes:
        elements *= size
    return sizes.count(1), len(sizes) - len(set(sizes)), sum(s in taken for s in sizes if s > 4), elements
