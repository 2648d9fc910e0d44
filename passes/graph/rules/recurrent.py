"""Recurrent layers, and what stands around them."""

from __future__ import annotations

from passes.graph.errors import Refusal
from passes.graph.op import Op, Scaling
from passes.graph.registry import rule
from passes.graph.rules.elementwise import same_axes

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


@rule("RNN", "GRU", "LSTM")
def recurrent(op: Op) -> None:
    """X: T N i, W: d (z h) i, R: d (z h) k, B: d (y h), lens: N, states: d N h, P: d (p h) -> Y: T d N h, states.

    z gates, y = 2z; k are the hidden units h of the step before. What a unit remembers is no multiple of another's, so
    that units can be removed but not merged.
    """
    if op.attr("layout", 0):
        raise Refusal("has the batch first (layout=1)")
    states = "d N h, d N h, d (p h)" if op.node.op == "LSTM" else "d N h"
    outputs = ", ".join(["T d N h", "d N h", "d N h"][: len(op.node.outputs)])
    gates = GATES[op.node.op]
    letters = op.pattern(
        f"T N i, d (z h) i, d (z h) k, d (y h), N, {states} -> {outputs}",
        z=gates,
        y=2 * gates,
        h=op.attr("hidden_size"),
    )
    for name in "Td":
        op.freeze(letters[name], "runs along it")
    op.feeds_back(letters["k"], letters["h"])
    op.resize_attr("hidden_size", letters["h"])


@rule("ReverseSequence")
def reverse_sequence(op: Op) -> None:
    """X: ..., lens: N -> Y as X, each sample's first steps turned round; features pass."""
    letters = same_axes(op)
    for name, default in (("time_axis", 0), ("batch_axis", 1)):
        op.freeze(letters[op.attr(name, default)], "turns it round, sample by sample")
    op.scales(Scaling.LINEAR)
    op.makes(factors=[0])
