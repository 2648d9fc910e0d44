"""Cases of `passes.axes.rules.attention`."""

from netkit import ints
from rulekit import fires, freezes
from scalekit import scale

FLAT = (
    "float[2,5,6] x",
    "q = MatMul(x, wq)  k = MatMul(x, wk)  v = MatMul(x, wv)  {}  y = MatMul(r, wo)",
    {"wq": (6, 24), "wk": (6, 12), "wv": (6, 6), "wo": (12, 4)},
)
"""Rank three: four query heads of six channels, two of keys and values, which have three channels each."""
HEADS = (
    "float[2,3,5,6] x",
    "q = MatMul(x, wq)  k = MatMul(x, wk)  v = MatMul(x, wv)  {}  y = MatMul(r, wo)",
    {"wq": (6, 8), "wk": (6, 8), "wv": (6, 10), "wo": (10, 4)},
)
"""Rank four: three heads, which come with the input."""
ROTATION_RANK4 = ("float[2,3,5,6] x", "a = MatMul(x, w)  {}  y = MatMul(r, v)", {"w": (6, 8), "v": (8, 4)})
ROTATION_RANK3 = ("float[2,5,6] x", "a = MatMul(x, w)  {}  y = MatMul(r, v)", {"w": (6, 8), "v": (8, 4)})

CASES = [
    fires(
        "Attention",
        FLAT,
        "r = Attention<q_num_heads=4, kv_num_heads=2>(q, k, v)",
        "wq: . (A B C); wk: . (A C); wv: . (A D); wo: (A B D) .",
        "NONE",
        23,
    ),
    fires("Attention", HEADS, "r = Attention<scale=0.5>(q, k, v)", "wq: . A; wk: . A; wv: . B; wo: B .", "NONE", 23),
    fires("Attention", HEADS, "r = Attention(q, k, v, m)", "m: . .; wq: . A; wo: B .", "NONE", 23, m=(5, 5)),
    freezes(
        "Attention",
        HEADS,
        "r, pk, pv = Attention(q, k, v, m, k, v)",
        "wq 1: r (Attention) keeps keys and values of earlier tokens",
        24,
        m=(5, 10),
    ),
    fires(
        "RotaryEmbedding",
        ROTATION_RANK4,
        "r = RotaryEmbedding(a, c, s)",
        "w: . (. A); c: . . A; s: . . A; v: (. A) .",
        "NONE",
        23,
        c=(2, 5, 4),
        s=(2, 5, 4),
    ),
    fires(
        "RotaryEmbedding",
        ROTATION_RANK3,
        "r = RotaryEmbedding<num_heads=2, interleaved=1>(a, c, s)",
        "w: . (A B .); c: . . B; v: (A B .) .",
        "NONE",
        23,
        c=(2, 5, 2),
        s=(2, 5, 2),
    ),
    freezes(
        "RotaryEmbedding",
        ROTATION_RANK4,
        "r = RotaryEmbedding<rotary_embedding_dim=4>(a, c, s)",
        "w 1: r (RotaryEmbedding) turns a part of each head",
        23,
        c=(2, 5, 2),
        s=(2, 5, 2),
    ),
]

SCALE_CASES = [
    scale("Attention", "q = Unsqueeze(a, at)  d = Attention(q, q, k)  m = Squeeze(d, at)", False, "tokens",
          k=(2, 1, 3, 8), at=ints(1)),
]  # fmt: skip
ALL_DATA = """
    RotaryEmbedding
"""
