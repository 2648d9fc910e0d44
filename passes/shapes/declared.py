"""What a model declares of its inputs' sizes, and concrete shapes that fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx

from passes.shapes.arithmetic import Shape

Declared = Mapping[str, tuple[int | str, ...]]
"""Input -> its dims; a dynamic one is the symbol that it shares with others, or one of its own."""
Assignment = Mapping[str, Shape]
"""Concrete shapes of a model's inputs."""


def declared_dims(model: onnx.ModelProto) -> dict[str, tuple[int | str, ...]]:
    """The dims of every input that has a tensor shape; dynamic ones as a symbol, those without a name as one of their
    own."""
    constants = {t.name for t in model.graph.initializer}
    found: dict[str, tuple[int | str, ...]] = {}
    for value in model.graph.input:
        kind = value.type.tensor_type
        if value.name in constants or not value.type.HasField("tensor_type") or not kind.HasField("shape"):
            continue
        dims: list[int | str] = []
        for axis, dim in enumerate(kind.shape.dim):
            fixed = dim.HasField("dim_value") and dim.dim_value >= 0  # negative in some files: dynamic
            named = dim.dim_param if dim.dim_param not in ("", "?") else f"{value.name}[{axis}]"
            dims.append(dim.dim_value if fixed else named)
        found[value.name] = tuple(dims)
    return found


def assignment_at(declared: Declared, stand_ins: tuple[int, int]) -> Assignment:
    """A concrete shape for every input; dims that share a symbol share a size."""
    by_symbol: dict[str, int] = {}
    return {
        name: tuple(
            by_symbol.setdefault(dim, stand_ins[min(axis, 1)]) if isinstance(dim, str) else dim
            for axis, dim in enumerate(dims)
        )
        for name, dims in declared.items()
    }


def one_sample(declared: Declared, assignment: Assignment) -> Assignment:
    """The same with a dynamic first axis of one."""
    return {
        name: tuple(1 if new == 1 else n for new, n in zip(alone(declared, declared[name]), shape, strict=True))
        for name, shape in assignment.items()
        if name in declared
    }


def alone(declared: Declared, dims: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """``dims`` with a dynamic first axis of one."""
    batch = batch_symbols(declared)
    return tuple(1 if dim in batch else dim for dim in dims)


def batch_symbols(declared: Declared) -> set[int | str]:
    """The symbols of dynamic first axes."""
    return {dims[0] for dims in declared.values() if dims and isinstance(dims[0], str)}


def leaves_open(symbols: Declared, several: Sequence[Mapping[str, Shape]]) -> bool:
    """Whether some symbol has one size in all that was looked at: that a dim does not vary says nothing of it then."""
    places = [(name, axis, d) for name, dims in symbols.items() for axis, d in enumerate(dims) if isinstance(d, str)]
    return any(len({shapes[name][axis] for shapes in several}) == 1 for name, axis, _ in places)
