"""Cases of `passes.axes.rules.indexing`."""

import numpy as np
from netkit import ints
from rulekit import GEMM, LAST, MIDDLE, fires, freezes
from scalekit import scale

SLICED = {"lo": ints(2), "hi": ints(7), "ax": ints(-1), "st": ints(1)}
RUN = "r = Gather<axis=1>(a, i)"

CASES = [
    fires("Slice", GEMM, "r = Slice(a, lo, hi, ax, st)", "w: . A+B+1; r: . B; v: B .", "LINEAR", **SLICED, v=(5, 4)),
    fires("Slice", GEMM, "r = Slice<starts=[2], ends=[-2], axes=[1]>(a)", "w: . A+B+C; v: B .", "LINEAR", 9, v=(4, 4)),
    freezes(
        "Slice",
        GEMM,
        "r = Slice(a, lo, hi, ax, st)",
        "w 1: r (Slice) takes some of it, by a step",
        **{**SLICED, "st": ints(2)},
        v=(3, 4),
    ),
    freezes(
        "Slice",
        GEMM,
        "r = Slice(a, lo, hi, ax, st)",
        "w 1: r (Slice) reverses it",
        st=ints(-1),
        lo=ints(-1),
        hi=ints(-99),
        ax=ints(1),
    ),
    fires("Gather", MIDDLE, "r = Gather<axis=2>(a, i)", "w: A .; i: .; v: . A", "LINEAR", i=ints(3, 1)),
    fires(
        "Gather", LAST, "r = Gather<axis=1>(a, i)", "w: . A; i: 1 .; r: . 1 . . A; v: A .", "LINEAR", i=ints([3, 1]) % 3
    ),
    freezes(
        "Gather", MIDDLE, "r = Gather<axis=1>(a, i)", "w 0: r (Gather) picks indices from it", i=ints(3, 1), v=(4, 2)
    ),
    fires("Gather", MIDDLE, RUN, "w: A+B+C .; i: .; r: . B .; v: . B", "LINEAR", i=ints(2, 3, -4), v=(4, 3)),
    fires("Gather", MIDDLE, RUN, "w: A+B .; r: . B+A .; v: . B+A", "LINEAR", i=ints(4, 5, 6, 7, 0, 1, 2, 3), v=(4, 8)),
    fires("Gather", MIDDLE, RUN, "w: A+B .; r: . B+B .; v: . B+B", "LINEAR", i=ints(5, 6, 7, 5, 6, 7), v=(4, 6)),
    fires("Gather", MIDDLE, RUN, "w: (A B) .; r: . (B A) .; v: . (B A)", "LINEAR", i=ints(0, 4, 1, 5, 2, 6, 3, 7)),
    freezes("Gather", MIDDLE, RUN, "w 0: r (Gather) picks indices from it", i=ints(7, 6, 5, 4, 3, 2, 1, 0)),
    fires(
        "Slice",
        GEMM,
        "r = Slice(a, lo, hi, ax, st)",
        "w: . (A .); r: . A; v: A .",
        "LINEAR",
        lo=ints(1),
        hi=ints(2**31),
        ax=ints(1),
        st=ints(2),
        v=(4, 4),
    ),
    fires(
        "GatherElements",
        MIDDLE,
        "r = GatherElements<axis=2>(a, at)",
        "w: A .; r: . A .; v: . A",
        "LINEAR",
        at=np.zeros((2, 8, 5), np.int64),
    ),
    freezes(
        "GatherElements",
        MIDDLE,
        "r = GatherElements<axis=1>(a, at)",
        "w 0: r (GatherElements) picks indices from it",
        at=np.zeros((2, 8, 5), np.int64),
    ),
]
CELLS = ints([0, 2], [1, 0])
PLACES = np.zeros((2, 8, 1), np.int64)
ROWS = ints([[0], [2]], [[1], [0]])
ND = "w: . A; i: . .; u: . . A; v: A ."
CASES += [
    fires("GatherND", LAST, "r = GatherND(a, i)", "w: . A; i: . .; r: . . A; v: A .", "LINEAR", i=CELLS),
    fires("GatherND", LAST, "r = GatherND<batch_dims=1>(a, i)", "i: . . 1; r: . . . A; v: A .", "LINEAR", i=ROWS),
    freezes("GatherND", GEMM, "r = GatherND(a, i)", "w 1: r (GatherND) picks indices from it", i=CELLS, v=(1, 4)),
    fires("ScatterND", LAST, "r = ScatterND(a, i, u)", ND, "LINEAR", i=CELLS, u=(2, 5, 8)),
    fires(
        "ScatterND",
        LAST,
        "r = ScatterND(k, i, a)",
        "w: . A; i: . . 1; k: . . A; v: A .",
        "LINEAR",
        i=np.arange(6).reshape(2, 3, 1),
        k=(7, 5, 8),
    ),
    fires("ScatterND", LAST, 'r = ScatterND<reduction="max">(a, i, u)', ND, "HOMOGENEOUS", 18, i=CELLS, u=(2, 5, 8)),
    fires("ScatterND", LAST, 'r = ScatterND<reduction="mul">(a, i, u)', ND, "NONE", i=CELLS, u=(2, 5, 8)),
    freezes(
        "ScatterND", GEMM, "r = ScatterND(a, i, u)", "w 1: r (ScatterND) puts values at indices of it", i=CELLS, u=(2,)
    ),
    fires(
        "ScatterElements",
        MIDDLE,
        "r = ScatterElements<axis=2>(a, i, u)",
        "w: A .; i: . A 1; u: . A 1; v: . A",
        "LINEAR",
        i=PLACES,
        u=PLACES.shape,
    ),
    freezes(
        "ScatterElements",
        MIDDLE,
        "r = ScatterElements<axis=1>(a, i, u)",
        "w 0: r (ScatterElements) puts values at indices of it",
        i=np.broadcast_to(ints([1], [3]), (2, 2, 5)),
        u=(2, 2, 5),
    ),
]

SCALE_CASES = [
    scale("Gather", "f = Flatten<axis=0>(z)  i = Cast<to=9>(f)  j = Cast<to=7>(i)  g = Gather(k, j)  "
          "m = Squeeze(g, at)", True, k=(2, 8), at=ints(0)),
]  # fmt: skip
ALL_DATA = "GatherElements GatherND ScatterElements ScatterND Slice"
