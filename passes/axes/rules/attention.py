"""Rules of attention ops and of rotary position embeddings (opset 23)."""

from __future__ import annotations

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


facts("Attention", known=OpFacts(macs=attention_loops))


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
