"""Find the input sizes that a model's nodes require, such as weights after a Flatten, position embeddings, Reshapes.

A node constrains the sizes of its inputs. Shape inference gives these sizes as a function of the sizes of the model's
inputs. Since they grow monotonically, bisection finds the model's input sizes, one constraint after another, without
running the model.

=========================================  ====================================================================
node                                       requires
=========================================  ====================================================================
Gemm, MatMul, normalisations, Conv         as many features as the weights have
Add, Mul, ... with a constant; Expand      the sizes of the constant, or of the target
Concat with a constant                     the constant's sizes on the other axes
Reshape, Split, Squeeze                    as many elements as the target has
Conv, pooling, Gather, reflecting Pad      at least the size of the kernel, the index, or the border
=========================================  ====================================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import onnx

from onnx_merge.inputs.dimensions import Dimension, shapes
from onnx_merge.inputs.typical_sizes import stage
from onnx_merge.runtime.tensor_info import TensorInfo
from onnx_merge.tuning.inputs import INPUT_SEARCH
from passes.axes.op_facts import PoolWindow
from passes.axes.registry import facts_of
from passes.interface.engine import Engine
from passes.shapes.constants import STANDARD_DOMAINS
from passes.shapes.inference import Shape, inferred_shapes

Shapes = Mapping[str, Shape]
Demand = Callable[[Shapes], int | None]
"""Shapes of all tensors -> how far a size exceeds the required one; 0 if it fits, None if it is unknown."""

START_SIZES = ((224, 224), 128), ((48, 320), 16000), ((64, 64), 512), ((240, 320), 1000)
"""Image edges and sequence lengths from which the search starts."""
LARGEST = {
    "edge": INPUT_SEARCH.largest_edge,
    "length": INPUT_SEARCH.largest_length,
    "batch": INPUT_SEARCH.largest_batch,
}
"""Largest size by the role of a dimension."""


def demanded_sizes(
    model: onnx.ModelProto, inputs: Sequence[TensorInfo], dims: tuple[Dimension, ...], engine: Engine | None
) -> Iterator[dict[str, int]]:
    """Sizes by key at which all constraints of nodes hold, as far as shape inference can show; the most likely sizes
    first."""
    wanted = list(_demands(model))
    if not wanted or all(d.role == "channels" for d in dims):
        return
    known: dict[tuple[int, ...], list[int | None]] = {}

    def gaps(values: Mapping[str, int]) -> list[int | None]:
        mark = tuple(values[d.key] for d in dims)
        if mark not in known:
            if len(known) == INPUT_SEARCH.inferences:
                return [None] * len(wanted)
            found = inferred_shapes(model, shapes(inputs, values), engine)
            known[mark] = [demand(found) for demand in wanted]
        return known[mark]

    def gap_of(k: int, values: Mapping[str, int]) -> int | None:
        return gaps(values)[k]

    for edges, length in START_SIZES:
        start = stage(dims, 1, 1, 3, edges=edges, lengths=(length,))
        for choose in (_roundest, min, max):
            values = dict(start)
            unsolvable: set[int] = set()
            for _ in range(INPUT_SEARCH.constraints):
                unmet = [k for k, gap in enumerate(gaps(values)) if gap and k not in unsolvable]
                if not unmet:
                    break
                met = _meet(values, dims, partial(gap_of, unmet[0]), choose)
                if met is None:
                    unsolvable.add(unmet[0])
                else:
                    values = met
            if values != start and not unsolvable:
                yield values


def _meet(
    values: Mapping[str, int],
    dims: tuple[Dimension, ...],
    gap: Callable[[Mapping[str, int]], int | None],
    choose: Callable[[range], int],
) -> dict[str, int] | None:
    """``values`` with one dimension changed, or all relevant dimensions of one role, so that ``gap`` becomes 0; None if
    impossible."""
    here = gap(values)
    count = [d for d in dims if d.role != "channels" and gap({**values, d.key: 2 * values[d.key]}) != here]
    groups = [[d for d in count if d.role == role] for role in ("edge", "length")]
    groups = [group for group in groups if len(group) > 1] + [[d] for d in count]
    for group in sorted(groups, key=lambda group: group[0].role == "batch"):
        largest = INPUT_SEARCH.longest_signal if group[0].alone else LARGEST[group[0].role]

        def at(size: int, group: list[Dimension] = group) -> int:
            found = gap({**values, **dict.fromkeys((d.key for d in group), size)})
            return -1 if found is None else found

        least = _first(at, 0, largest)
        if least is None or at(least) != 0:
            continue
        above = _first(at, 1, largest)
        size = choose(range(least, largest + 1 if above is None else above))
        if at(size) == 0:
            return {**values, **dict.fromkeys((d.key for d in group), size)}
    return None


def _first(at: Callable[[int], int], value: int, largest: int) -> int | None:
    """The smallest size at which the increasing function ``at`` reaches ``value``; None if it does not up to
    ``largest``."""
    low, high = 0, largest
    if at(high) < value:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if at(middle) < value else (low, middle)
    return high


def _roundest(sizes: range) -> int:
    """The smallest multiple, within ``sizes``, of the largest power of two up to 64 that has a multiple there."""
    for power in (64, 32, 16, 8, 4, 2, 1):
        multiple = -(-sizes.start // power) * power
        if multiple in sizes and multiple:
            return multiple
    return sizes.start


def _demands(model: onnx.ModelProto) -> Iterator[Demand]:
    """The constraints of the nodes of the main graph, in graph order."""
    constants = {t.name: t for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
    dims = {name: tuple(t.dims) for name, t in constants.items()}

    def values(name: str) -> list[int] | None:
        tensor = constants.get(name)
        if (
            tensor is None
            or math.prod(tensor.dims) > INPUT_SEARCH.constant_elements
            or tensor.data_location == onnx.TensorProto.EXTERNAL
        ):
            return None
        if tensor.data_type not in (onnx.TensorProto.INT64, onnx.TensorProto.INT32):
            return None
        return [int(n) for n in onnx.numpy_helper.to_array(tensor).ravel()]

    for node in model.graph.node:
        if node.input and node.domain in STANDARD_DOMAINS:
            yield from _of_node(node, dims, values)


class _Attributes:
    """Attributes of a node. Each is asked for in the type that the op's definition gives it."""

    def __init__(self, node: onnx.NodeProto) -> None:
        self._held: dict[str, onnx.AttributeProto] = {a.name: a for a in node.attribute}

    def number(self, name: str, default: int = 0) -> int:
        return int(self._held[name].i) if name in self._held else default

    def numbers(self, name: str) -> list[int] | None:
        return list(self._held[name].ints) if name in self._held else None

    def text(self, name: str, default: str = "") -> str:
        return bytes(self._held[name].s).decode(errors="replace") if name in self._held else default


def _of_node(
    node: onnx.NodeProto, dims: Mapping[str, Shape], values: Callable[[str], list[int] | None]
) -> Iterator[Demand]:
    names, attributes = list(node.input), _Attributes(node)
    op, x, facts = node.op_type, names[0], facts_of(node.domain, node.op_type)
    second = dims.get(names[1]) if len(names) > 1 else None

    def numbers(name: str) -> list[int] | None:
        """The attribute ``name``, which is input 1 from some opset on."""
        held = attributes.numbers(name)
        return held if held is not None else values(names[1]) if len(names) > 1 else None

    if op == "Gemm" and second is not None and len(second) == 2:
        yield _axis(x, 0 if attributes.number("transA") else 1, second[1 if attributes.number("transB") else 0])
    elif op == "MatMul":
        if second is not None and len(second) > 1:
            yield _axis(x, -1, second[-2])
        if len(dims.get(x, ())) > 1:
            yield _axis(names[1], -2, dims[x][-1])
    elif op in ("BatchNormalization", "InstanceNormalization") and second is not None:
        yield _axis(x, 1, second[0])
    elif facts.broadcasts:
        for constant in (n for n in names if n in dims):
            for other in (n for n in names if n not in dims and n):
                yield from (_axis(other, -k, n, True) for k, n in enumerate(reversed(dims[constant]), 1) if n > 1)
    elif op == "Concat":
        axis = attributes.number("axis")
        for constant in (n for n in names if n in dims):
            rank = len(dims[constant])
            for other in (n for n in names if n not in dims):
                yield from (_axis(other, k, n) for k, n in enumerate(dims[constant]) if k != axis % max(rank, 1))
    elif op == "Conv" or (facts.pool is not None and facts.pool.window is PoolWindow.KERNEL):
        weight = second if op == "Conv" else None
        if weight is not None and len(weight) > 2:
            yield _axis(x, 1, weight[1] * attributes.number("group", 1))
        kernel = attributes.numbers("kernel_shape")
        if attributes.text("auto_pad", "NOTSET") in ("NOTSET", "VALID"):
            yield from _covered(x, (weight or ())[2:] if kernel is None else kernel, attributes)
    elif op == "Squeeze":
        yield from (_axis(x, k, 1) for k in numbers("axes") or ())
    elif op == "Split":
        sizes = numbers("split")
        if sizes is not None:
            yield _axis(x, attributes.number("axis"), sum(sizes))
    elif op == "Gather" and (picked := values(names[1])):
        yield _axis(x, attributes.number("axis"), max(picked) + 1, least=True)
    elif op == "Pad" and attributes.text("mode") == "reflect":
        border = numbers("pads") or []
        rank = len(border) // 2
        yield from (_axis(x, k, max(border[k], border[k + rank]) + 1, least=True) for k in range(rank))
    elif op == "Expand" and (target := values(names[1])) is not None:
        yield from (_axis(x, -k, n, True) for k, n in enumerate(target[::-1], 1) if n > 1)
    elif op == "Reshape" and x not in dims:
        yield _elements(x, node.output[0], values(names[1]) if len(names) > 1 else None)


def _axis(name: str, axis: int, wanted: int, or_one: bool = False, least: bool = False) -> Demand:
    """A constraint on the size of one axis. With ``or_one`` a size of 1 fits too; with ``least`` a larger size fits
    too."""

    def gap(found: Shapes) -> int | None:
        shape = found.get(name)
        if shape is None or not -len(shape) <= axis < len(shape):
            return None
        over = shape[axis] - wanted
        return 0 if (or_one and shape[axis] == 1) or (least and over > 0) else over

    return gap


def _covered(name: str, kernel: Sequence[int], attributes: _Attributes) -> Iterator[Demand]:
    """A kernel must fit into the padded input."""
    rank = len(kernel)
    pads, dilations = attributes.numbers("pads"), attributes.numbers("dilations")
    pads, dilations = pads or [0] * 2 * rank, dilations or [1] * rank
    for k, size in enumerate(kernel):
        yield _axis(name, 2 + k, dilations[k] * (size - 1) + 1 - pads[k] - pads[k + rank], least=True)


def _elements(name: str, output: str, target: Sequence[int] | None) -> Demand:
    """The input of a Reshape must have as many elements as its target; a first size of -1 stands for the batch."""

    def gap(found: Shapes) -> int | None:
        shape = found.get(name)
        if shape is None:
            return None
        wanted = found.get(output) if target is None else target
        if wanted is None:
            return None
        filled = [shape[k] if n == 0 and k < len(shape) else n for k, n in enumerate(wanted)]
        if -1 in filled:
            if filled[0] != -1 or not shape:
                return None
            filled[0] = shape[0]
        return math.prod(shape) - math.prod(filled)

    return gap
