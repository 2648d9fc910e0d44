"""Cases of `passes.axes.rules.pool`, `reduction` and `resample`."""

import numpy as np
from netkit import ints
from rulekit import CONV, CONV_SHAPES, LAST, MIDDLE, fires, freezes, unknown
from scalekit import scale

POOLS = {
    "MaxPool": "HOMOGENEOUS", "AveragePool": "LINEAR", "LpPool": "HOMOGENEOUS",
    "GlobalAveragePool": "LINEAR", "GlobalMaxPool": "HOMOGENEOUS", "GlobalLpPool": "HOMOGENEOUS",
}  # fmt: skip
REDUCTIONS = {
    "ReduceMean": "LINEAR", "ReduceSum": "LINEAR", "ReduceMax": "HOMOGENEOUS", "ReduceMin": "HOMOGENEOUS",
    "ReduceL1": "HOMOGENEOUS", "ReduceL2": "HOMOGENEOUS", "ReduceProd": "NONE", "ReduceLogSum": "NONE",
    "ReduceLogSumExp": "NONE", "ReduceSumSquare": "NONE",
}  # fmt: skip
PER_CHANNEL = "w: A . 1 1; v: . A 1 1"
SUMS = ("ReduceL1", "ReduceL2", "ReduceSum", "ReduceSumSquare")

CASES = []
for op, scaling in POOLS.items():
    window = "" if op.startswith("Global") else "<kernel_shape=[1,1]>"
    CASES += [
        fires(op, CONV, f"r = {op}{window}(a)", PER_CHANNEL, scaling),
        freezes(op, LAST, f"r = {op}{window}(a)", f"w 1: r ({op}) mixes this axis"),
    ]
for op, scaling in REDUCTIONS.items():
    CASES += [
        fires(op, LAST, f"r = {op}<axes=[1], keepdims=0>(a)", "w: . A; r: . . A; v: A .", scaling, 11),
        fires(op, LAST, f"r = {op}<axes=[-2,-3]>(a)", "w: . A; r: . 1 1 A; v: A .", scaling, 11),
    ]
    CASES.append(unknown(op, opset=11))
    if op in SUMS:
        CASES.append(
            fires(op, LAST, f"r = {op}<axes=[-1]>(a)", "w: . A; a: . . . A; r: . . . 1; v: 1 .", scaling, 11, v=(1, 4))
        )
    else:
        CASES.append(freezes(op, LAST, f"r = {op}<axes=[-1]>(a)", f"w 1: r ({op}) reduces over it", 11))
for op in ("ArgMax", "ArgMin"):
    CASES += [
        fires(op, LAST, f"i = {op}<axis=1, keepdims=0>(a)  r = Cast<to=1>(i)", "w: . A; i: . . A; v: A .", "NONE"),
        freezes(op, LAST, f"r = {op}<axis=-1>(a)", f"w 1: r ({op}) reduces over it"),
    ]
PADS = {"p": ints(0, 2, 0, 0, 0, 3, 0, 0), "v": (4, 13, 1, 1)}
CASES += [
    freezes("MaxPool", CONV, "r, i = MaxPool<kernel_shape=[1,1]>(a)", "w 0: r (MaxPool) returns flat indices"),
    fires("ReduceSum", LAST, "r = ReduceSum(a, one)", "w: . A; r: . 1 . A; v: A .", "LINEAR", one=ints(1)),
    fires("ReduceSum", LAST, "r = ReduceSum(a)", "w: . A; a: . . . A; r: 1 1 1 1; v: 1 .", "LINEAR", v=(1, 4)),
    freezes("ReduceSum", LAST, "i = Cast<to=7>(a)  r = ReduceSum<keepdims=0>(i, last)",
            "w 1: r (ReduceSum) reduces over it", last=ints(-1), v=(5, 4)),
    freezes("ReduceSum", LAST, "i = Cast<to=7>(x)  r = ReduceSum(a, i)", "w 1: r (ReduceSum) its input 1 is computed",
            observed={"r": (2, 3, 5, 8), "y": (2, 3, 5, 4)}),
    fires("Resize", CONV, "r = Resize(a, , s)", PER_CHANNEL, "LINEAR", s=np.float32([1, 1, 2, 2])),
    fires("Resize", CONV, "r = Resize(a, , , z)", PER_CHANNEL, "LINEAR", z=ints(2, 8, 12, 12)),
    freezes("Resize", LAST, "r = Resize(a, , s)", "w 1: r (Resize) interpolates it", s=np.float32([1, 1, 1, 2])),
    freezes("Resize", CONV, "r = Resize(a, , s)", "w 0: r (Resize) interpolates it", s=np.float32([1, 1.1, 2, 1])),
    freezes("Resize", CONV, 'r = Resize<keep_aspect_ratio_policy="not_larger">(a, , , z)',
            "w 0: r (Resize) interpolates it", 18, z=ints(2, 8, 9, 6)),
    fires("Resize", CONV, "r = Resize<axes=[2, 3]>(a, , s)", PER_CHANNEL, "LINEAR", 18, s=np.float32([2, 2])),
    freezes("Resize", CONV, 'r = Resize<coordinate_transformation_mode="tf_crop_and_resize">(a, roi, s)',
            "w 0: r (Resize) crops by coordinates", s=np.float32([1, 1, 2, 2]), roi=(8,)),
    fires("CumSum", LAST, "r = CumSum(a, one)", "w: . A; r: . . . A; v: A .", "LINEAR", one=ints(1)),
    freezes("CumSum", LAST, "r = CumSum(a, one)", "w 1: r (CumSum) depends on its order", one=ints(-1)),
    fires("DFT", LAST, "u = Unsqueeze(a, five)  d = DFT<axis=1>(u)  r = ReduceSum<keepdims=0>(d, five)",
          "w: . A; u: . . . A 1; d: . . . A .; r: . . . A; v: A .", "LINEAR", five=ints(4)),
    fires("DFT", LAST, "u = Unsqueeze(a, five)  d = DFT(u, , at)  r = ReduceSum<keepdims=0>(d, five)",
          "w: . A; u: . . . A 1; d: . . . A .; r: . . . A; v: A .", "LINEAR", 20, five=ints(4), at=np.array(-3)),
    freezes("DFT", LAST, "u = Unsqueeze(a, five)  d = DFT<axis=3>(u)  r = ReduceSum<keepdims=0>(d, five)",
            "w 1: d (DFT) depends on its order", five=ints(4)),
    fires("TopK", LAST, "r, i = TopK<axis=1>(a, one)", "w: . A; r: . 1 . A; i: . 1 . A; v: A .", "NONE", one=ints(1)),
    freezes("TopK", LAST, "r, i = TopK(a, two)", "w 1: r (TopK) depends on its order", two=ints(2), v=(2, 4)),
    fires("Trilu", CONV, "r = Trilu(a)", PER_CHANNEL, "LINEAR", observed=CONV_SHAPES),
    freezes("Trilu", LAST, "r = Trilu(a)", "w 1: r (Trilu) depends on its order"),
    fires("GridSample", CONV, "r = GridSample(a, g)", PER_CHANNEL, "HOMOGENEOUS", g=(2, 6, 6, 2)),
    freezes("GridSample", LAST, "r = GridSample(a, g)", "w 1: r (GridSample) mixes this axis", g=(2, 5, 8, 2)),
    fires("RoiAlign", CONV, "r = RoiAlign(a, g, at)", PER_CHANNEL, "HOMOGENEOUS", g=(2, 4), at=ints(0, 1)),
    freezes("RoiAlign", ("float[2,8,6,6] x", "{}  y = Conv(r, v)", {"v": (4, 8, 1, 1)}), "r = RoiAlign(x, g, at)",
            "x 0: r (RoiAlign) reduces over it", g=(2, 4), at=ints(0, 1)),
    fires("Upsample", CONV, "r = Upsample(a, s)", PER_CHANNEL, "LINEAR", 9, s=np.float32([1, 1, 2, 2])),
    freezes("Upsample", LAST, "r = Upsample(a, s)", "w 1: r (Upsample) interpolates it", 9, s=np.float32([1, 1, 1, 2])),
    fires("Pad", CONV, "r = Pad(a, p)", "w: A . 1 1; r: . B+A+C . .", "LINEAR", **PADS),
    fires("Pad", CONV, 'r = Pad<mode="edge">(a, p)', PER_CHANNEL, "LINEAR", p=ints(0, 0, 1, 1, 0, 0, 1, 1)),
    fires("Pad", CONV, 'r = Pad<mode="reflect">(a, p)', PER_CHANNEL, "LINEAR", p=ints(0, 0, 1, 1, 0, 0, 1, 1)),
    freezes("Pad", CONV, 'r = Pad<mode="edge">(a, p)', "w 0: r (Pad) pads it", **PADS),
    freezes("Pad", MIDDLE, "r = Pad(a, p, fill)", "w 0: r (Pad) pads it", p=ints(0, 1, 0, 0, 1, 0),
            fill=np.array(0.5, np.float32), v=(4, 10)),
]  # fmt: skip

SCALE_CASES = [
    scale("GridSample", "g = Transpose<perm=[0,2,3,1]>(x)  h = Slice(g, lo, hi, ax)  m = GridSample(k, h)", True,
          "conv", k=(2, 8, 4, 4), lo=ints(0), hi=ints(2), ax=ints(3)),
    scale("RoiAlign", "f = Flatten(x)  p = Slice(f, lo, hi, ax)  q = Tanh(p)  "
          "m = RoiAlign<output_height=2, output_width=2>(k, q, at)", True, "conv", k=(2, 8, 4, 4), lo=ints(0),
          hi=ints(4), ax=ints(1), at=ints(0, 1)),
]  # fmt: skip
ALL_DATA = """
    ArgMax ArgMin AveragePool CumSum DFT GlobalAveragePool GlobalLpPool GlobalMaxPool LpPool MaxPool Pad ReduceL1
    ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Resize
    TopK Trilu Upsample
"""
