"""Rules of attention ops and of rotary position embeddings (opset 23)."""

from __future__ import annotations

import onnx

from passes.axes import algebra
from passes.axes.gradient_context import Backward
from passes.axes.loops import LoopNest, Loops
from passes.axes.op_facts import ABSENT, OpFacts
from passes.axes.registry import facts, gradient, rule
from passes.axes.rule_context import Op, Scaling
from passes.interface.errors import Refusal


@rule("Attention")
def attention(op: Op) -> None:
    """Q: B (n g) T d, K: B n S d, V: B n S e, mask: ... -> Y: B (n g) T e; or, of rank three, Q: B T (n g d), ...

    There are n heads of K and V, and g heads of Q read each of them. The softmax of Q and K passes no scale of these; a
    scale of V passes.
    """
    if any(op.has(k) for k in (4, 5)) or any(op.node.outputs[1:3]):
        raise Refusal("keeps keys and values of earlier tokens")
    if any(op.node.outputs[3:]):
        raise Refusal("returns its scores")
    flat = len(op.shape(0)) == 3
    heads = op.attr("kv_num_heads") if flat else op.shape(1)[1]
    queries = op.attr("q_num_heads") if flat else op.shape(0)[1]
    layout = "B T (n g d), B S (n d), B S (n e)" if flat else "B (n g) T d, B n S d, B n S e"
    result = "B T (n g e)" if flat else "B (n g) T e"
    letters = op.pattern(f"{layout} -> {result}", n=heads, g=queries // heads)
    if op.attr("scale") is None:
        op.pin_attr("scale", algebra.size(letters["d"]) ** -0.5, letters["d"])
    for name in "TS":
        op.freeze(letters[name], "normalises over it" if name == "S" else "attends along it")
    if op.has(3):
        shape = op.shape(3)
        for axis, n in enumerate(shape):
            over_heads = axis == len(shape) - 3 and n > 1
            op.put(
                3,
                axis,
                algebra.product([letters["n"], letters["g"]]) if over_heads else algebra.atom(n, op.why("masks it")),
            )
    if flat:
        op.resize_attr("q_num_heads", algebra.product([letters["n"], letters["g"]]))
        op.resize_attr("kv_num_heads", letters["n"])
    op.scales(Scaling.NONE)


def attention_loops(s: Loops) -> list[LoopNest]:
    """Q: ... d times S (scores), and Y: ... e times S (values).

    Keys: B n S d, or B S (n d); packed with the values, B S n 2 d; with queries too, B S n 3 d in input 0.
    """
    queries = s.input(0)
    if not s.has(1):
        return [[*queries[:3], queries[4], queries[1]]] * 2
    keys = [s.input(1)[2 if len(s.input(1)) == 4 else 1]]
    if not s.node.domain and s.has(4):  # keys of earlier tokens
        keys.append(s.input(4)[2])
    return [[*axes, key] for key in keys for axes in (queries, s.output())]


facts("Attention", known=OpFacts(linear_in=(2,), zeros_add_nothing=True, macs=attention_loops))


@rule("RotaryEmbedding")
def rotary_embedding(op: Op) -> None:
    """X: B h T (p e), cos, sin: S e -> Y as X. The p = 2 halves (or, interleaved, pairs) of a head are rotated
    together."""
    if op.attr("rotary_embedding_dim", 0):
        raise Refusal("turns a part of each head")
    flat = len(op.shape(0)) == 3
    pair = "e p" if op.attr("interleaved", 0) else "p e"
    axes = f"B T (h {pair})" if flat else f"B h T ({pair})"
    tables = "B T e, B T e" if len(op.shape(1)) == 3 else "S e, S e"
    sizes = {"p": 2, **({"h": op.attr("num_heads")} if flat else {})}
    letters = op.pattern(f"{axes}, {tables} -> {axes}", **sizes)
    op.freeze(letters["p"], "turns pairs of it")
    if flat:
        op.resize_attr("num_heads", letters["h"])
    op.scales(Scaling.NONE)


facts("RotaryEmbedding", known=ABSENT)


@gradient("RotaryEmbedding")
def _rotary_back(back: Backward) -> None:
    """The rotation by the opposite angles."""
    if back.wants(1) or back.wants(2):
        raise Refusal("has no gradient with respect to its angles")
    names = ("interleaved", "num_heads", "rotary_embedding_dim")
    given = {name: int(back.attr(name)) for name in names if back.attr(name) is not None}
    rest = [back.x(3)] if back.has(3) else []
    back.give(0, back.op("RotaryEmbedding", back.gradient, back.x(1), back.op("Neg", back.x(2)), *rest, **given))


LOWEST = -1e30
"""A score that no softmax sees."""


@gradient("Attention")
def _attention_back(back: Backward) -> None:
    """S = a Q K' + M, P = softmax(S), Y = P V for each head: dV = P' dY, dP = dY V', dS = P (dP - sum(dP P)),
    dQ = a dS K, dK = a dS' Q. Heads of Q are (n g), and those of K and V n."""
    if min(back.gradients) > 0 or back.attr("softcap", 0.0) or any(back.has(k) for k in (4, 5, 6)):
        raise Refusal("has no gradient with its scores, a softcap, or keys and values of earlier tokens")
    if back.wants(3):
        raise Refusal("has no gradient with respect to its mask")
    write, flat = back.write, back.rank() == 3
    heads = int(back.attr("kv_num_heads") if flat else back.shape(1)[1])
    shared = int(back.attr("q_num_heads") if flat else back.shape(0)[1]) // heads
    query, outer = (_by_head(back, name, heads, shared) for name in (back.x(), back.gradient))
    key, value = (_by_head(back, back.x(k), heads, 1) for k in (1, 2))
    width = int(back.shape()[-1]) // (heads * shared if flat else 1)
    factor = float(back.attr("scale") or width**-0.5)
    scores = _masked(back, back.times(back.op("MatMul", query, write.swapped(key, 5)), factor), heads, shared)
    share = back.op("Exp", write.log_softmax(scores, 4))
    inner = back.op("Mul", share, back.op("MatMul", outer, write.swapped(value, 5)))
    slope = back.op("Sub", inner, back.op("Mul", share, write.sum(inner, [4], keepdims=True)))
    slope = back.times(slope, factor)
    if back.wants(0):
        back.give(0, _layout_of_input(back, 0, back.op("MatMul", slope, key)))
    for k, left, right in ((1, slope, query), (2, share, outer)):
        if back.wants(k):
            each = back.op("MatMul", write.swapped(left, 5), right)
            back.give(k, _layout_of_input(back, k, write.sum(each, [2], keepdims=True)))


def _by_head(back: Backward, source: str, heads: int, shared: int) -> str:
    """B (n g) T d, or B T (n g d), as B n g T d."""
    write = back.write
    if back.rank() == 4:
        rest = write.op("Slice", write.shape(source), write.ints(2), write.ints(4))
        return back.op("Reshape", source, back.op("Concat", write.ints(0, heads, shared), rest, axis=0))
    split = back.op("Reshape", source, write.ints(0, 0, heads * shared, -1))  # B T (n g) d
    by_head = write.transpose(split, [0, 2, 1, 3])
    rest = write.op("Slice", write.shape(by_head), write.ints(2), write.ints(4))
    return back.op("Reshape", by_head, back.op("Concat", write.ints(0, heads, shared), rest, axis=0))


def _layout_of_input(back: Backward, k: int, source: str) -> str:
    """B n g T d in the layout of input ``k``."""
    write = back.write
    if back.rank() == 4:
        return write.shaped_like(source, back.x(k))
    return write.shaped_like(write.transpose(source, [0, 3, 1, 2, 4]), back.x(k))


def _masked(back: Backward, scores: str, heads: int, shared: int) -> str:
    """Scores B n g T S where the mask lets them count, or with the mask added."""
    write = back.write
    if back.attr("is_causal", 0):
        ones = back.spread(back.number(1), write.sizes(scores, [3, 4]))
        past = write.cast(back.op("Trilu", ones, upper=0), onnx.TensorProto.BOOL)
        scores = back.op("Where", past, scores, back.number(LOWEST))
    if not back.has(3):
        return scores
    mask, shape = back.x(3), back.shape(3)
    if len(shape) >= 3:  # T S broadcasts as it is
        over_heads = shape[-3] != 1
        sizes = write.ints(heads, shared) if over_heads else write.ints(1, 1)
        lead, rest = write.sizes(mask, range(len(shape) - 3)), write.sizes(mask, range(len(shape) - 2, len(shape)))
        mask = back.op("Reshape", mask, back.op("Concat", *([lead] if len(shape) > 3 else []), sizes, rest, axis=0))
    if back.kind_of(3) == onnx.TensorProto.BOOL:
        return back.op("Where", mask, scores, back.number(LOWEST))
    return back.op("Add", scores, mask)
