"""Input sizes that a model declares, and concrete shapes that match them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx

from passes.shapes.arithmetic import Shape

Declared = Mapping[str, tuple[int | str, ...]]
"""Input -> dims. A dynamic dim is a symbol, which it may share with others, or a symbol of its own if it has no
name."""
Assignment = Mapping[str, Shape]
"""Input -> concrete shape."""


def declared_dims(model: onnx.ModelProto) -> dict[str, tuple[int | str, ...]]:
    """Return the dims of every input with a tensor shape. Dynamic dims are symbols; unnamed ones get a symbol of their
    own."""
    constants = {t.name for t in model.graph.initializer}
    found: dict[str, tuple[int | str, ...]] = {}
    for value in model.graph.input:
        kind = value.type.tensor_type
        if value.name in constants or not value.type.HasField("tensor_type") or not kind.HasField("shape"):
            continue
        dims: list[int | str] = []
        for axis, dim in enumerate(kind.shape.dim):
            fixed = dim.HasField("dim_value") and dim.dim_value >= 0  # some files mark dynamic dims by a negative size
            named = dim.dim_param if dim.dim_param not in ("", "?") else f"{value.name}[{axis}]"
            dims.append(dim.dim_value if fixed else named)
        found[value.name] = tuple(dims)
    return found


def assignment_at(declared: Declared, stand_ins: tuple[int, int]) -> Assignment:
    """Return a concrete shape for every input. Dims that share a symbol share a size.

    ``stand_ins``: size of a dynamic first axis, and of any other dynamic axis.
    """
    by_symbol: dict[str, int] = {}
    return {
        name: tuple(
            by_symbol.setdefault(dim, stand_ins[min(axis, 1)]) if isinstance(dim, str) else dim
            for axis, dim in enumerate(dims)
        )
        for name, dims in declared.items()
    }


def one_sample(declared: Declared, assignment: Assignment) -> Assignment:
    """Return the assignment with every dynamic first axis set to one."""
    return {
        name: tuple(1 if new == 1 else n for new, n in zip(alone(declared, declared[name]), shape, strict=True))
        for name, shape in assignment.items()
        if name in declared
    }


def alone(declared: Declared, dims: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Return ``dims`` with every batch symbol set to one."""
    batch = batch_symbols(declared)
    return tuple(1 if dim in batch else dim for dim in dims)


def batch_symbols(declared: Declared) -> set[int | str]:
    """Return the symbols of dynamic first axes."""
    return {dims[0] for dims in declared.values() if dims and isinstance(dims[0], str)}


def leaves_open(symbols: Declared, several: Sequence[Mapping[str, Shape]]) -> bool:
    """Whether some symbol has the same size at all assignments. A dim that does not vary may then still depend on
    it."""
    places = [(name, axis, d) for name, dims in symbols.items() for axis, d in enumerate(dims) if isinstance(d, str)]
    return any(len({shapes[name][axis] for shapes in several}) == 1 for name, axis, _ in places)
