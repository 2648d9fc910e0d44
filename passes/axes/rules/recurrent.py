"""Rules of recurrent layers and of the ops used with them."""

from __future__ import annotations

from dataclasses import replace

from passes.axes.gradient_context import Backward
from passes.axes.loops import LoopNest, Loops
from passes.axes.op_facts import Moves, OpFacts
from passes.axes.registry import facts, gradient, no_gradient, rule
from passes.axes.rule_context import Op, Scaling
from passes.axes.rules.elementwise import same_axes

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


@rule("RNN", "GRU", "LSTM")
def recurrent(op: Op) -> None:
    """X: T N i, W: d (z h) i, R: d (z h) k, B: d (y h), lens: N, states: d N h, P: d (p h) -> Y: T d N h, states.

    With layout=1 the batch comes first: X: N T i, states: N d h, Y: N T d h. There are z gates, and y = 2z. The letter
    k denotes the hidden units h of the previous step. The weights produce these units for any initial state. The state
    of one unit is no multiple of another's, so units can be removed but not merged.
    """
    x, state, y = ("N T i", "N d h", "N T d h") if op.attr("layout", 0) else ("T N i", "d N h", "T d N h")
    states = f"{state}, {state}, d (p h)" if op.node.op == "LSTM" else state
    outputs = ", ".join([y, state, state][: len(op.node.outputs)])
    gates = GATES[op.node.op]
    letters = op.pattern(
        f"{x}, d (z h) i, d (z h) k, d (y h), N, {states} -> {outputs}",
        z=gates,
        y=2 * gates,
        h=op.attr("hidden_size"),
    )
    for name in "Td":
        op.freeze(letters[name], "runs along it")
    op.produces(letters["h"])
    op.feeds_back(letters["k"], letters["h"])
    op.resize_attr("hidden_size", letters["h"])


def _loops(s: Loops) -> list[LoopNest]:
    """T N times W: d (z h) i, and T N times R: d (z h) h."""
    steps = s.input(0)[:2]
    return [steps + s.input(1), steps + s.input(2)]


RECURRENT = OpFacts(weights=(1, 2), biases=(3,), macs=_loops)
facts("RNN", "GRU", known=replace(RECURRENT, states=(5,)))
facts("LSTM", known=replace(RECURRENT, states=(5, 6)))


@rule("ReverseSequence")
def reverse_sequence(op: Op) -> None:
    """X: ..., lens: N -> Y as X, each sample's first steps in reverse order; features pass."""
    letters = same_axes(op)
    for name, default in (("time_axis", 0), ("batch_axis", 1)):
        op.freeze(letters[op.attr(name, default)], "turns it round, sample by sample")
    op.scales(Scaling.LINEAR)
    op.makes(factors=[0])


facts("ReverseSequence", known=OpFacts(moves=Moves.PERMUTED))


no_gradient("RNN", "GRU", "LSTM", why="runs along time, and no rule gives its gradient")


@gradient("ReverseSequence")
def _reverse_sequence_back(back: Backward) -> None:
    """dX is dY with each sample's first steps in reverse order again."""
    given = {name: int(back.attr(name, default)) for name, default in (("time_axis", 0), ("batch_axis", 1))}
    back.give(0, back.op("ReverseSequence", back.gradient, back.x(1), **given))
