"""Candidate input sizes: small odd ones, multiples of powers of two, and those that models are commonly built for.

All of them map the key of a dimension to its size (see `onnx_merge.inputs.dimensions`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

from onnx_merge.inputs.dimensions import Dimension, Role
from onnx_merge.tuning.inputs import INPUT_SEARCH

ODD = (37, 29, 41, 31, 43, 53, 59, 61)
"""Edges, in the order in which dimensions receive them. They are primes, because few channel counts are."""
VOLUME = (13, 11, 17, 19, 23, 29)
"""Smaller primes for volumes and video clips, whose number of elements is the product of three edges."""
SHORT = (7, 11, 13, 17, 19, 23, 29, 31)
FACTORS = (13, 17, 11, 19, 23, 29), (5, 7, 11, 13, 17, 19), (5, 7, 11, 13, 3, 17), (3, 5, 7, 11, 9, 13)
"""Factors of the multiples of 4, 8, 16, 32 and 64; primes as long as the sizes stay small."""
EDGES = (
    (224, 224), (48, 320), (256, 256), (28, 28), (32, 100), (299, 299), (32, 320), (320, 320), (384, 384), (416, 416),
    (512, 512), (640, 640), (32, 32), (64, 64), (112, 112), (128, 128), (160, 160), (336, 336), (518, 518), (240, 320),
)  # fmt: skip
"""Rows and columns that models are commonly built for."""
LENGTHS = (16, 48, 128, 77, 512, 1, 100, 400, 1000, 3000, 16000, 48000, 32, 64, 256, 384, 197, 300, 1024, 2048)
TINY = (2, 4, 3, 1, 6, 8, 5, 12, 7, 10)
CLIPS = (5, 6, 7, *range(9, 16), 18, 20, 24, 25, 30, 32, 40, 48, 50, 64)
"""Batch sizes that hold one clip of frames, or the crops of one image."""


def stages(dims: tuple[Dimension, ...], taken: set[int]) -> Iterator[dict[str, int]]:
    """Candidate sizes by key, in the order in which they are tried. The first ones avoid sizes in ``taken``."""
    odd, short = ([p for p in primes if p not in taken] or primes for primes in (ODD, SHORT))
    for together in range(6):
        yield stage(dims, 1, 2, together, lengths=short, odd=odd)
    yield from _sums(dims, stage(dims, 1, 2, 1, lengths=short, odd=odd))
    yield from (stage(dims, 1, batch, together) for batch, together in ((1, 2), (8, 1), (3, 1), (4, 1), (16, 1)))
    yield from (stage(dims, of, 2, 2) for of in (2, 4, 8, 16, 32))
    yield stage(dims, 32, 2, 3)  # squares, or equal lengths
    for first, second in ((192, 96), (96, 192)):
        yield stage(dims, 32, 2, 2, edges=(first, second), lengths=(first, second))
    yield from (stage(dims, 32, batch, 2) for batch in (1, 8))
    yield stage(dims, 64, 1, 3)
    for edges, length in zip(EDGES, LENGTHS, strict=True):
        yield stage(dims, 1, 1, 3, edges=edges, lengths=(length,))
    for batch in (2, 8):
        yield stage(dims, 1, batch, 2, edges=(224, 224), lengths=(512,))
    yield from (stage(dims, 1, batch, 1) for batch in CLIPS)
    yield from _tiny(dims)


def _tiny(dims: tuple[Dimension, ...]) -> Iterator[dict[str, int]]:
    """Every pair of tiny sizes, the first for the first open dimension and the second for all others; then every larger
    size for all of them.

    A model may be fixed to a few positions or features without declaring it.
    """
    open_keys = [d.key for d in dims if d.role in ("edge", "length")]
    for batch in (2, 1, 8) if open_keys else ():
        for sizes in itertools.product(TINY, repeat=min(len(open_keys), 2)):
            values = stage(dims, 1, batch, 1)
            yield {**values, **dict.fromkeys(open_keys, sizes[-1]), open_keys[0]: sizes[0]}
    for size in range(max(TINY) + 1, INPUT_SEARCH.exhaustive + 1 if open_keys else 0):
        yield {**stage(dims, 1, 1, 1), **dict.fromkeys(open_keys, size)}


def _sums(dims: tuple[Dimension, ...], sizes: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """One length as the sum of two others: cached positions and new positions under one attention mask."""
    lengths = [d.key for d in dims if d.role == "length"]
    if 3 <= len(lengths) <= 4:
        for total in reversed(lengths):
            for one, other in itertools.combinations([key for key in lengths if key != total], 2):
                yield {**sizes, total: sizes[one] + sizes[other]}


def stage(
    dims: tuple[Dimension, ...],
    multiple: int,
    batch: int,
    together: int,
    edges: Sequence[int] = (),
    lengths: Sequence[int] = (),
    odd: Sequence[int] = ODD,
) -> dict[str, int]:
    """Sizes for all dimensions: multiples of a power of two, or ``edges`` and ``lengths``, which are repeated if there
    are too few.

    ``together`` says which dimensions share a size: 0 none, 1 batches, 2 those at the same axis of several inputs, 3
    those of one role, 4 all but batches, 5 all.
    """
    if multiple == 1 and any(d.volume for d in dims):
        odd = VOLUME
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
            given[group] = min(size, INPUT_SEARCH.longest_sequence) if role == "length" and not d.alone else size
        values[d.key] = given[group]
    return values


def _multiples(of: int, odd: Sequence[int]) -> Sequence[int]:
    if of <= 2:
        return [of * p for p in odd]
    return [of * p for p in FACTORS[{4: 0, 8: 1, 16: 2, 32: 3, 64: 3}[of]]]


def targets(dims: tuple[Dimension, ...]) -> Iterator[Callable[[Dimension, int], Sequence[int]]]:
    """How to vary sizes that run: to smaller ones, to larger ones, to the smallest. Each function maps a dimension and
    its size to other sizes."""
    place = {d.key: [e.key for e in dims if e.role == d.role].index(d.key) for d in dims}

    def smaller(d: Dimension, size: int) -> Sequence[int]:
        if d.role == "batch":
            return [1, 3 * size] if size > 1 else [3]
        if d.role == "channels":
            return [size]
        of = _power(size)
        steps = (23, 31, 19, 27) if d.role == "edge" and of == 1 and not d.volume else (5, 3, 9, 4)
        return [of * steps[place[d.key] % 4], size - of if size > of else size + of, size // 2 or 1, *_near(size)]

    def larger(d: Dimension, size: int) -> Sequence[int]:
        if d.role == "batch":
            return [size + 1 + place[d.key] % 4, 3, 2 * size] if size < 8 else [3, 2 * size]
        if d.role == "channels":
            return [size]
        of, k = _power(size), place[d.key] % 4
        step = (47, 31, 37, 53)[k]
        if d.role == "edge":
            step = (11, 8, 6, 7)[k] if d.volume else (29, 24, 16, 21)[k]
        return [size + of * (step if of < 4 else 1 + k), size + 2 * of, size * 2, *reversed(_near(size))]

    def smallest(d: Dimension, size: int) -> Sequence[int]:
        return [1 if d.role != "edge" else (16, 9, 12)[place[d.key] % 3]] if d.role != "channels" else [size]

    yield from (smaller, larger, smallest)


def _near(size: int) -> list[int]:
    """Neighbours of a tiny size."""
    if size >= INPUT_SEARCH.neighbours_below:
        return []
    return [n for n in (size - 1, size + 1, size + 2, size + 3) if n > 0]


def _power(size: int) -> int:
    """The largest power of two, at most 64, that divides ``size``."""
    return min(size & -size, 64)
