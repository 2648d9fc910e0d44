"""Cases of `passes.axes.rules.recurrent`."""

from netkit import ints
from rulekit import fires, freezes
from scalekit import scale

SEQUENCE = ("float[5,2,6] x", "a = MatMul(x, w)  {}  y = MatMul(r, v)", {"w": (6, 8), "v": (10, 4)})
"""(5, 2, 8): a step of each sequence is made by a MatMul; what 10 hidden units give is read by one."""
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def weights(op, directions=1, inputs=8, hidden=10):
    z = GATES[op] * hidden
    return {"g": (directions, z, inputs), "h": (directions, z, hidden), "b": (directions, 2 * z), "one": ints(1)}


CASES = [
    fires(
        "ReverseSequence",
        SEQUENCE,
        "r = ReverseSequence(a, lengths)",
        "w: . A; r: . . A; v: A .",
        "LINEAR",
        lengths=ints(5, 3),
        v=(8, 4),
    ),
    freezes(
        "ReverseSequence",
        SEQUENCE,
        "t = Transpose<perm=[2,1,0]>(a)  s = ReverseSequence(t, lengths)  r = Transpose<perm=[2,1,0]>(s)",
        "w 1: s (ReverseSequence) turns it round, sample by sample",
        lengths=ints(8, 3),
        v=(8, 4),
    ),
]
for op, gates in GATES.items():
    made = "(. B)" if gates > 1 else "B"
    CASES += [
        fires(
            op,
            SEQUENCE,
            f"h0 = {op}<hidden_size=10>(a, g, h, b)  r = Squeeze(h0, one)",
            f"w: . A; g: 1 {made} A; h: 1 {made} B; b: 1 (. B); v: B .",
            "NONE",
            **weights(op),
        ),
        fires(
            op,
            SEQUENCE,
            f"h0 = {op}<hidden_size=10, layout=1>(a, g, h, b)  r = Squeeze(h0, two)",
            f"w: . A; g: 1 {made} A; h: 1 {made} B; b: 1 (. B); v: B .",
            "NONE",
            observed={"h0": (5, 2, 1, 10), "r": (5, 2, 10)},
            two=ints(2),
            **weights(op),
        ),
        fires(  # the state that it starts from is made by another layer
            op,
            SEQUENCE,
            "m = Gemm(z, m_w)  f = Unsqueeze(m, zero)  "
            f"h0 = {op}<hidden_size=10>(a, g, h, b, , f)  r = Squeeze(h0, one)",
            f"w: . A; g: 1 {made} A; h: 1 {made} B; m_w: . B; v: B .",
            "NONE",
            z=(2, 7),
            m_w=(7, 10),
            zero=ints(0),
            **weights(op),
        ),
        freezes(
            op,
            SEQUENCE,
            f'h0 = {op}<hidden_size=10, direction="bidirectional">(a, g, h, b)  '
            "t = Transpose<perm=[0,2,1,3]>(h0)  r = Reshape(t, three)",
            f"g 0: h0 ({op}) runs along it",
            three=ints(0, 0, -1),
            v=(20, 4),
            **weights(op, directions=2),
        ),
    ]

SCALE_CASES = [
    scale("ReverseSequence", "p = ReduceMax<keepdims=0>(x, ax)  i = Cast<to=9>(p)  j = Cast<to=7>(i)  l = Add(j, one)  "
          "n = ReverseSequence(k, l)  m = Add(n, a)", True, "tokens", k=(2, 3, 8), ax=ints(0, 2), one=ints(1)),
]  # fmt: skip
ALL_DATA = """
    GRU LSTM RNN
"""
