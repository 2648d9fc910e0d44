"""Seeds and kinds of graphs that show a fault which is known.

A seed stands for a graph as long as the growers, their order and the choices in `diff_generate` stay as they are; what
is to be kept beyond that stands in `diff_kinds` as text. Empty both tables as faults are mended: what is in them is
tried all the same; of a kind ``pytest -rs`` says whether it is good by now, of seeds `run_many.py` does.
"""

KNOWN: dict[str, tuple[int, ...]] = {
    "a scale does not pass through the producer": (
        8, 9, 56, 65, 74, 108, 110, 114, 118, 142, 144, 153, 157,
    ),
    "an input with a default is folded or cut": (
        16, 20, 24, 29, 47, 49, 64, 109, 111, 141, 163, 168, 170,
    ),
    "moved from the twin where a size is one": (87,),
    "a size taken for a constant": (147,),
    "internal error": (45, 73, 89, 185,),
}  # fmt: skip
"""Kind of fault -> seeds; what they show is no failure of the tests."""
KNOWN_KINDS: dict[str, str] = {
    **dict.fromkeys(
        [
            "one-hot by Equal", "Mod by channel", "BitShift by channel", "Pow by channel", "Pow of channel",
            "Div by channel", "Greater by channel", "Less of channel", "Where one side",
        ],
        "a scale does not pass through the producer",
    ),
    **dict.fromkeys(
        ["Squeeze by attribute", "Squeeze by attribute, rows", "LpNormalization of weights"], "folded wrongly"
    ),
    **dict.fromkeys(
        ["padded to the skip", "at most k rows, viewed", "clips in the batch"], "a size taken for a constant"
    ),
    "Resize with axes": "sizes by axes are not rewritten",
    "an input with a default": "is folded",
    **dict.fromkeys(
        [
            "a function of another opset", "a sparse initializer", "one bias of many layers",
            "states filled to the batch", "layers in an If",
        ],
        "stays whole",
    ),
    "a layer of one unit, solved on samples": "an internal error",
    "first states expanded, before Where": "the result holds an op that its opset has not",
}  # fmt: skip
"""Names of `diff_kinds.KINDS` that are not mended -> why not."""
REGRESSIONS: tuple[tuple[int, str], ...] = ()
"""(Seed, kind of fault) of graphs beyond those of the suite that showed a fault once."""


def known() -> set[int]:
    """All seeds in ``KNOWN``."""
    return {seed for seeds in KNOWN.values() for seed in seeds}
