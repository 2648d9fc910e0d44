"""Cases of `passes.graph.rules.linear`."""

from rulekit import CONV, GEMM, LAST, MIDDLE, fires, freezes, unknown

CASES = [
    fires(
        "Conv",
        CONV,
        "r = Conv(a, g, k)",
        "w: A . 1 1; a: . A . .; g: B A 1 1; k: B; v: . B 1 1",
        "LINEAR",
        g=(8, 8, 1, 1),
        k=(8,),
    ),
    fires(
        "Conv",
        CONV,
        "r = Conv<group=2>(a, g)",
        "w: (A B) . 1 1; g: (A C) B 1 1; v: . (A C) 1 1",
        "LINEAR",
        g=(8, 4, 1, 1),
    ),
    fires("Conv", CONV, "r = Conv<group=8>(a, g)", "w: A . 1 1; g: A 1 1 1; v: . A 1 1", "LINEAR", g=(8, 1, 1, 1)),
    freezes("Conv", CONV, "r = Conv<pads=[1,1,1,1]>(a, g)", "g 2: r (Conv) mixes this axis", g=(8, 8, 3, 3)),
    freezes(
        "Conv",
        CONV,
        "r = Conv<group=2>(a, g)",
        "w 0: r (Conv) axis 0 of shape [7, 4, 1, 1] does not divide",
        observed={"r": (2, 8, 6, 6)},
        g=(7, 4, 1, 1),
    ),
    fires(
        "ConvTranspose",
        CONV,
        "r = ConvTranspose(a, g, k)",
        "w: A . 1 1; g: A B 1 1; k: B; v: . B 1 1",
        "LINEAR",
        g=(8, 8, 1, 1),
        k=(8,),
    ),
    fires(
        "ConvTranspose",
        CONV,
        "r = ConvTranspose<group=2>(a, g)",
        "w: (A B) . 1 1; g: (A B) C 1 1; v: . (A C) 1 1",
        "LINEAR",
        g=(8, 4, 1, 1),
    ),
    freezes("ConvTranspose", CONV, "r = ConvTranspose(a, g)", "g 2: r (ConvTranspose) mixes this axis", g=(8, 8, 3, 3)),
    fires("Gemm", GEMM, "r = Gemm<transB=1>(a, g, k)", "w: . A; g: B A; k: B; v: B .", "LINEAR", g=(8, 8), k=(8,)),
    fires("Gemm", GEMM, "r = Gemm(a, g, k)", "w: . A; g: A B; k: 1; v: B .", "LINEAR", g=(8, 8), k=(1,)),
    fires(
        "Gemm", GEMM, "t = Transpose(a)  r = Gemm<transA=1>(t, g)", "w: . A; t: A .; g: A B; v: B .", "LINEAR", g=(8, 8)
    ),
    unknown("Gemm", "r = Gemm(u, g)", g=(8, 8)),
    fires("MatMul", LAST, "r = MatMul(a, g)", "w: . A; g: A B; v: B .", "PRODUCT", g=(8, 8)),
    fires("MatMul", MIDDLE, "r = MatMul(g, a)", "w: A .; g: B A; v: . B", "PRODUCT", g=(8, 8)),
    fires(
        "MatMul",
        LAST,
        "t = Transpose<perm=[0,1,3,2]>(a)  q = MatMul(a, t)  r = MatMul(q, a)",
        "w: . A; q: . . . .; v: A .",
        "PRODUCT",
    ),
    unknown("MatMul", "r = MatMul(u, g)", g=(8, 8)),
]
