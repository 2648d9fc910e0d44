"""Rules and gradients of matrix products: Gemm, MatMul, Einsum."""

from __future__ import annotations

import string

from passes.axes import algebra
from passes.axes.algebra import ONE, Term, atom, size
from passes.axes.gradient_context import Backward
from passes.axes.loops import LoopNest, Loops
from passes.axes.op_facts import LinearForm, OpFacts
from passes.axes.registry import facts, gradient, rule
from passes.axes.rule_context import Op, Scaling
from passes.interface.errors import Refusal


@rule("Gemm")
def gemm(op: Op) -> None:
    """A: m k (or k m with transA), B: k n (or n k with transB), C broadcast to m n -> Y: m n."""
    a = "k m" if op.attr("transA", 0) else "m k"
    b = "n k" if op.attr("transB", 0) else "k n"
    letters = op.pattern(f"{a}, {b} -> m n")
    if op.has(2):
        place_broadcast(op, 2, [letters["m"], letters["n"]])
    op.scales(Scaling.LINEAR, weights=[0, 1], offsets=[2])
    op.makes(factors=[0, 1], terms=[2])


def matrix_loops(s: Loops) -> list[LoopNest]:
    """Y: ... m n times k, the last axis of A, or the last but one where A is transposed."""
    turned = s.node.attrs.get("transA", 0)
    a = s.input(0)
    return [[*s.output(), a[max(len(a) - 2, 0) if turned else -1]]]


facts(
    "Gemm",
    known=OpFacts(
        linear=LinearForm(convolves=False, output_axis=lambda node: 0 if node.attrs.get("transB", 0) else 1),
        zeros_add_nothing=True,
        weights=(0, 1),
        biases=(2,),
        macs=matrix_loops,
    ),
)


@rule("MatMul")
def matmul(op: Op) -> None:
    """A: ... m k, B: ... k n -> Y: ... m n, batch axes broadcast; vectors lose their axis in Y."""
    a, b, y = op.shape(0), op.shape(1), op.out_shape()
    if not a or not b:
        raise Refusal("multiplies a scalar")
    k = op.letter(a[-1])
    op.put(0, len(a) - 1, k)
    op.put(1, max(len(b) - 2, 0), k)
    batch = [op.letter(n) for n in y[: len(y) - (len(a) > 1) - (len(b) > 1)]]
    out: list[Term] = list(batch)
    if len(a) > 1:
        m = op.letter(a[-2])
        op.put(0, len(a) - 2, m)
        out.append(m)
    if len(b) > 1:
        n = op.letter(b[-1])
        op.put(1, len(b) - 1, n)
        out.append(n)
    place_broadcast(op, 0, batch, keep=len(a) - 2)
    place_broadcast(op, 1, batch, keep=len(b) - 2)
    op.put_out_all(out)
    op.scales(Scaling.PRODUCT, weights=[0, 1])
    op.makes(factors=[0, 1])


facts(
    "MatMul",
    known=OpFacts(
        linear=LinearForm(convolves=False, output_axis=lambda node: 1),
        linear_in=(0, 1),
        zeros_add_nothing=True,
        weights=(0, 1),
        macs=matrix_loops,
    ),
)


@rule("Einsum")
def einsum(op: Op) -> None:
    """The equation gives the axes. Axes under an ellipsis broadcast. What one operand alone has is summed over."""
    operands, arrow, result = op.attr("equation").replace(" ", "").partition("->")
    names = [_subscripts(text, len(op.shape(k))) for k, text in enumerate(operands.split(","))]
    every = [name for own in names for name in own]
    if not arrow:
        once = sorted(name for name in every if len(name) == 1 and every.count(name) == 1)
        result = ("..." if "..." in operands else "") + "".join(once)
    sizes: dict[str, int] = {}
    for k, own in enumerate(names):
        for name, n in zip(own, op.shape(k), strict=True):
            sizes[name] = max(sizes.get(name, 1), n)
    letters = {name: op.letter(n) for name, n in sizes.items()}
    for k, own in enumerate(names):
        for axis, name in enumerate(own):
            op.put(k, axis, letters[name] if op.shape(k)[axis] != 1 else ONE)
    given = _subscripts(result, len(op.out_shape()))
    op.put_out_all([letters[name] for name in given])
    if not op.gives_integers:
        op.sums(algebra.product(letters[name] for name in letters if every.count(name) == 1 and name not in given))
    op.scales(Scaling.PRODUCT, weights=range(len(names)))
    op.makes(factors=range(len(names)))


def _einsum_loops(s: Loops) -> list[LoopNest]:
    """Every letter of the equation once (all operands multiplied in one nest of loops)."""
    operands = s.node.attrs["equation"].replace(" ", "").partition("->")[0].split(",")
    if len(operands) < 2:
        return []
    loops: dict[str, tuple[str, int]] = {}
    for k, text in enumerate(operands):
        before, dots, after = text.partition("...")
        axes = s.input(k)
        spread = [f"...{i}" for i in reversed(range(len(axes) - len(before) - len(after)))] if dots else []
        for letter, axis in zip([*before, *spread, *after], axes, strict=True):
            assert not isinstance(axis, int)
            if letter not in loops or s.size(axis) > s.size(loops[letter]):
                loops[letter] = axis
    return [list(loops.values())]


_OPERANDS = range(len(string.ascii_letters))
"""More than an equation can have."""
facts("Einsum", known=OpFacts(linear_in=_OPERANDS, zeros_add_nothing=True, weights=_OPERANDS, macs=_einsum_loops))


def _subscripts(text: str, rank: int) -> list[str]:
    """Names of an operand's axes. Those under an ellipsis are counted from the right."""
    before, dots, after = text.partition("...")
    spread = rank - len(before) - len(after)
    if spread < 0 or (spread and not dots):
        raise Refusal(f"has an operand with {rank} axes")
    return [*before, *(f"...{i}" for i in reversed(range(spread))), *after]


def place_broadcast(op: Op, k: int, out: list[Term], keep: int | None = None) -> None:
    """Put the output's letters ``out`` on input ``k``, aligned from the right. Axes of size one stay untied.

    ``keep``: how many leading axes of the input take part (all by default).
    """
    shape = op.shape(k)[: len(op.shape(k)) if keep is None else max(keep, 0)]
    if len(shape) > len(out):
        raise Refusal(f"has an input of {len(shape)} axes for an output of {len(out)}")
    for axis, n in enumerate(shape):
        letter = out[len(out) - len(shape) + axis]
        if n == size(letter):
            op.put(k, axis, letter)
            continue
        if n != 1 or (op.node.inputs[k], axis) in op.graph.info.dynamic:
            # It is spread at the sizes where it is one. At others its indices are the letter's.
            op.freeze(letter, "spreads an axis to it at some sizes")
        op.put(k, axis, ONE if n == 1 else atom(n, op.why("spreads it at some sizes")))


@gradient("Gemm")
def _gemm_back(back: Backward) -> None:
    """Y = alpha A B + beta C: dA = alpha dY B', dB = alpha A' dY, dC = beta dY, each transposed where the input is."""
    first, second = (int(back.attr(name, 0)) for name in ("transA", "transB"))
    alpha = float(back.attr("alpha", 1.0))

    def product(a: str, b: str, transposed_a: int, transposed_b: int) -> str:
        none = [back.number(0)] if back.graph.opset < 11 else []
        return back.op("Gemm", a, b, *none, transA=transposed_a, transB=transposed_b, alpha=alpha)

    if back.wants(0):
        transposed = product(back.x(1), back.gradient, second, 1) if first else None
        back.give(0, transposed or product(back.gradient, back.x(1), 0, 1 - second))
    if back.wants(1):
        transposed = product(back.gradient, back.x(), 1, first) if second else None
        back.give(1, transposed or product(back.x(), back.gradient, 1 - first, 0))
    if back.wants(2):
        back.give_broadcast(2, back.times(back.gradient, float(back.attr("beta", 1.0))))


@gradient("MatMul")
def _matmul_back(back: Backward) -> None:
    """dA = dY B', dB = A' dY, summed over the batch axes that were broadcast. Vectors are matrices of one row or
    column."""
    write, a, b, y = back.write, list(back.shape(0)), list(back.shape(1)), list(back.out_shape())
    left, right, outer = back.x(0), back.x(1), back.gradient
    row, column = len(a) == 1, len(b) == 1
    if row:
        left, a = write.unsqueeze(left, [0]), [1, *a]
        at = len(y) if column else len(y) - 1
        outer, y = write.unsqueeze(outer, [at]), [*y[:at], 1, *y[at:]]
    if column:
        right, b = write.unsqueeze(right, [1]), [*b, 1]
        outer, y = write.unsqueeze(outer, [len(y)]), [*y, 1]
    if back.wants(0):
        found = back.op("MatMul", outer, write.swapped(right, len(b)))
        found = back.reduced(found, tuple(a), (*y[:-2], *a[-2:]))
        back.give(0, write.squeeze(found, [0]) if row else found)
    if back.wants(1):
        if len(b) == 2 and len(a) > 2:
            rows, grads = (write.rows(n, len(a)) for n in (left, outer))
            found = back.op("MatMul", write.swapped(rows, 2), grads)
        else:
            found = back.op("MatMul", write.swapped(left, len(a)), outer)
            found = back.reduced(found, tuple(b), (*y[:-2], *b[-2:]))
        back.give(1, write.squeeze(found, [1]) if column else found)


@gradient("Einsum")
def _einsum_back(back: Backward) -> None:
    """The product of dY and the other operands, summed to the axes of the operand; what it alone was summed over is
    repeated."""
    operands, arrow, result = back.attr("equation").replace(" ", "").partition("->")
    texts = operands.split(",")
    names = [_subscripts(text, back.rank(k)) for k, text in enumerate(texts)]
    every = [name for own in names for name in own]
    if not arrow:
        result = ("..." if "..." in operands else "") + "".join(
            sorted(n for n in every if len(n) == 1 and every.count(n) == 1)
        )
    given = _subscripts(result, len(back.out_shape()))
    if any(len(set(own)) < len(own) for own in (*names, given)):
        raise Refusal("has no gradient where it takes a diagonal")
    unused = iter(sorted(set(string.ascii_letters) - set(every)))
    letters = {n: n if len(n) == 1 else next(unused) for n in dict.fromkeys([*every, *given])}
    sizes = {n: s for n, s in zip(given, back.out_shape(), strict=True)}
    for k, own in enumerate(names):
        if not back.wants(k):
            continue
        others = [(back.x(i), names[i]) for i in range(len(names)) if i != k]
        held = {*given, *(n for _, other in others for n in other)}
        kept = [n for n in own if n in held]
        terms = [(back.gradient, given), *others]
        left = ",".join("".join(letters[n] for n in axes) for _, axes in terms)
        right = "".join(letters[n] for n in kept)
        found = back.op("Einsum", *(name for name, _ in terms), equation=f"{left}->{right}")
        found = back.write.unsqueeze(found, [d for d, n in enumerate(own) if n not in held])
        wide = tuple(n if len(name) == 1 else sizes.get(name, n) for name, n in zip(own, back.shape(k), strict=True))
        full = tuple(w if name in held else 1 for name, w in zip(own, wide, strict=True))
        narrow = tuple(n if name in held else 1 for name, n in zip(own, back.shape(k), strict=True))
        found = back.reduced(found, narrow, full)
        back.give(k, found if len(kept) == len(own) else back.write.spread_like(found, back.x(k)))
