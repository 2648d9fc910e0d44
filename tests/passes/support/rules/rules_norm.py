"""Cases of `passes.axes.rules.norm` and `softmax`."""

from rulekit import CONV, CONV_SHAPES, LAST, LAST_SHAPES, MIDDLE, fires, freezes

PER_CHANNEL = "w: A . 1 1; k: A; v: . A 1 1"
NORM = {"k": (8,), "b": (8,), "m": (8,), "s_var": (8,)}
OVER = {
    "LayerNormalization": ("r = LayerNormalization(a, k)", {"k": (5,)}, {"k": (8,)}),
    "RMSNormalization": ("r = RMSNormalization(a, k)", {"k": (5,)}, {"k": (8,)}),
    "LpNormalization": ("r = LpNormalization(a)", {}, {}),
    "Softmax": ("r = Softmax(a)", {}, {}),
    "LogSoftmax": ("r = LogSoftmax(a)", {}, {}),
    "Hardmax": ("r = Hardmax(a)", {}, {}),
}
QUANTIZED = "q = QuantizeLinear{}(a, k)  r = DequantizeLinear{}(q, k)"
BATCH = "r = BatchNormalization{}(a, k, b, m, s_var)"
ROWS = ("float[2,6] x", "a = MatMul(x, w)  {}  y = MatMul(r, v)", {"w": (6, 8), "v": (8, 4)})

CASES = [
    fires("BatchNormalization", CONV, BATCH.format(""), PER_CHANNEL, "LINEAR", **NORM),
    fires(
        "BatchNormalization",
        CONV,
        BATCH.format("<spatial=0>"),
        "w: A . 1 1; k: A . .; s_var: A . .; v: . A 1 1",
        "LINEAR",
        8,
        **dict.fromkeys(NORM, (8, 6, 6)),
    ),
    fires("BatchNormalization", ROWS, BATCH.format("<spatial=0>"), "w: . A; k: A; v: A .", "LINEAR", 8, **NORM),
    freezes(
        "BatchNormalization",
        CONV,
        BATCH.format("<training_mode=1>").replace("r =", "r, rm, rv ="),
        "w 0: r (BatchNormalization) normalises by the batch (training_mode=1)",
        **NORM,
    ),
    fires("InstanceNormalization", CONV, "r = InstanceNormalization(a, k, b)", PER_CHANNEL, "NONE", k=(8,), b=(8,)),
    freezes(
        "InstanceNormalization",
        LAST,
        "r = InstanceNormalization(a, k, b)",
        "w 1: r (InstanceNormalization) normalises over it",
        k=(3,),
        b=(3,),
    ),
    fires(
        "GroupNormalization",
        CONV,
        "r = GroupNormalization<num_groups=4>(a, k, b)",
        "w: (A .) . 1 1; k: (A .); v: . (A .) 1 1",
        "NONE",
        21,
        CONV_SHAPES,
        k=(8,),
        b=(8,),
    ),
    fires(
        "GroupNormalization",
        CONV,
        "r = GroupNormalization<num_groups=4>(a, k, b)",
        "w: (A .) . 1 1; k: A; v: . (A .) 1 1",
        "NONE",
        18,
        CONV_SHAPES,
        k=(4,),
        b=(4,),
    ),
    freezes(
        "GroupNormalization",
        LAST,
        "r = GroupNormalization<num_groups=1>(a, k, b)",
        "w 1: r (GroupNormalization) mixes this axis",
        21,
        LAST_SHAPES,
        k=(3,),
        b=(3,),
    ),
    fires(
        "MeanVarianceNormalization",
        CONV,
        "r = MeanVarianceNormalization(a)",
        "w: A . 1 1; v: . A 1 1",
        "NONE",
        observed=CONV_SHAPES,
    ),
    freezes(
        "MeanVarianceNormalization",
        LAST,
        "r = MeanVarianceNormalization(a)",
        "w 1: r (MeanVarianceNormalization) normalises over it",
        observed=LAST_SHAPES,
    ),
    fires("LRN", LAST, "r = LRN<size=3>(a)", "w: . A; v: A .", "NONE"),
    freezes("LRN", CONV, "r = LRN<size=3>(a)", "w 0: r (LRN) normalises over it"),
    fires("Softmax", LAST, "r = Softmax<axis=1>(a)", "w: . A; v: A .", "NONE"),
    freezes("Softmax", LAST, "r = Softmax<axis=1>(a)", "w 1: r (Softmax) normalises over it", 11),
    fires("QuantizeLinear", CONV, QUANTIZED.format("", ""), PER_CHANNEL, "NONE", k=(8,)),
    fires("DequantizeLinear", CONV, QUANTIZED.format("", ""), "w: A . 1 1; v: . A 1 1", "NONE", k=()),
    freezes(
        "QuantizeLinear",
        CONV,
        "q = QuantizeLinear<axis=1, block_size=2>(a, k)  r = DequantizeLinear(q, one)",
        "w 0: q (QuantizeLinear) quantises in blocks",
        21,
        k=(2, 4, 6, 6),
        one=(),
    ),
    freezes(
        "DequantizeLinear",
        CONV,
        "q = QuantizeLinear(a, one)  r = DequantizeLinear<axis=1, block_size=2>(q, k)",
        "w 0: r (DequantizeLinear) quantises in blocks",
        21,
        k=(2, 4, 6, 6),
        one=(),
    ),
]
ROTATED = ("LayerNormalization", "RMSNormalization")
"""Mixtures of a last axis alone can be removed: `tests/passes/analysis/test_normalised_channels.py`."""
for op, (nodes, inner, outer) in OVER.items():
    CASES.append(fires(op, MIDDLE, nodes, "w: A .; v: . A", "NONE", 24, **inner))
    if op in ROTATED:
        both = nodes.replace(op, f"{op}<axis=-2>")
        CASES.append(freezes(op, LAST, both, f"w 1: r ({op}) normalises over it", 24, k=(5, 8)))
    else:
        CASES.append(freezes(op, LAST, nodes, f"w 1: r ({op}) normalises over it", 24, **outer))

SCALE_CASES = []
ALL_DATA = """
    BatchNormalization DequantizeLinear GroupNormalization Hardmax InstanceNormalization LRN LayerNormalization
    LogSoftmax LpNormalization MeanVarianceNormalization QuantizeLinear RMSNormalization SimplifiedLayerNormalization
    Softmax
"""
