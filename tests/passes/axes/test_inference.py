"""Inference never fails: what is not understood freezes with a reason that names the node."""

import pytest
from netkit import engine, ints, net, observer
from rulekit import reasons

from passes.axes.channel_groups import channel_groups
from passes.axes.inference import infer
from passes.axes.registry import rules
from passes.graph.model import Graph

CHAIN = """net (float[N,4] x) => (float[N,3] y) {
    a = Gemm(x, a_w) r = Tanh(a) b = Gemm(r, b_w) s = Relu(b) y = Gemm(s, y_w)
}"""


ERRORS = [KeyError("axis"), ValueError("no"), IndexError("4"), TypeError("None"), ZeroDivisionError()]


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
def test_a_rule_that_fails_freezes_its_node_only(monkeypatch, error):
    def fails(op):
        raise error

    monkeypatch.setitem(rules(), ("", "Tanh"), fails)
    typing = infer(Graph(net(CHAIN, a_w=(4, 6), b_w=(6, 8), y_w=(8, 3))))
    (reason,) = reasons(typing, "r", 1)
    assert reason.startswith(f"r (Tanh) rule failed: {type(error).__name__}")
    assert {g.name: bool(g.frozen) for g in channel_groups(typing)} == {"a": True, "b": False, "y": True}


def test_a_tie_that_cannot_be_names_its_node():
    """Two reshapes see the same 24 channels as 4 x 6 and as 6 x 4."""
    body = """net (float[N,5] x) => (float[N,3] y) {
        a = Gemm(x, a_w) p = Reshape(a, one) q = PRelu(p, slope) f = Flatten(q)
        d = Reshape(a, two) e = Transpose<perm=[0,2,1]>(d) g = Flatten(e) s = Add(f, g) y = Gemm(s, y_w)
    }"""
    shapes = dict(one=ints(-1, 4, 6), two=ints(-1, 6, 4))
    typing = infer(Graph(net(body, a_w=(5, 24), y_w=(24, 3), slope=(4, 1), **shapes)))
    (found, *_) = reasons(typing, "a_w", 1)
    assert found.startswith(("p (Reshape) ", "d (Reshape) ", "s (Add) ")) and " cuts " in found


SPREAD = """net (float[N,4,L] x) => (float[N,3] y) {
    a = Conv(x, a_w) t = Transpose<perm=[0,2,1]>(a) p = Pow(t, each) f = Flatten(p) y = Gemm(f, y_w)
}"""


@pytest.mark.parametrize("lengths", [(5, 1), (1, 5), (1, 1)], ids=str)
def test_an_axis_that_is_spread_at_some_sizes_holds_the_channels_at_others(lengths):
    """``each`` says that there are five rows: its rows are no channels of its own, since ``x`` may have them."""
    model = net(SPREAD, a_w=(6, 4, 1), each=(5, 6), y_w=(30, 3))
    assignments = tuple({"x": (batch, 4, length)} for batch, length in zip((2, 3), lengths, strict=True))
    typing = infer(Graph(model, assignments, observer, engine))
    found = {reason for reason in reasons(typing, "each", 0)}
    assert found == {"p (Pow) spreads an axis to it at some sizes"}
    assert all(group.frozen for group in channel_groups(typing) if group.size == 5)
    assert [group.frozen for group in channel_groups(typing) if group.size == 6] == [None]


def test_a_table_that_numbers_are_made_of_holds_no_channels():
    """``columns`` is spread over the rows and joined with the row numbers: nothing of it may go."""
    body = """net (float[N,6] x) => (float[N,3] y) {
        h = Gemm(x, h_w)  s = Shape<end=1>(h)  n = Squeeze(s)  r = Range(zero, n, one)  rows = Unsqueeze(r, last)
        t = Concat<axis=0>(s, eight)  e = Expand(rows, t)  c = Expand(columns, t)
        eu = Unsqueeze(e, last)  cu = Unsqueeze(c, last)  i = Concat<axis=-1>(eu, cu)
        g = GatherND(h, i)  y = Gemm(g, y_w)
    }"""
    numbers = {name: ints(value) for name, value in dict(last=-1, eight=8).items()}
    numbers |= {name: ints(value).reshape(()) for name, value in dict(zero=0, one=1).items()}
    columns = ints(*range(8)).reshape(1, 8)
    model = net(body, opset=18, h_w=(6, 8), y_w=(8, 3), columns=columns, **numbers)
    typing = infer(Graph(model, ({"x": (2, 6)}, {"x": (3, 6)}), observer, engine))
    assert "columns" not in {name for group in channel_groups(typing) if not group.frozen for name in group.producers}
    (reason,) = set(reasons(typing, "columns", 1))
    assert reason is not None and "computes numbers" in reason
