"""Seeds and kinds of graphs that show a fault which is known.

A seed stands for a graph as long as the growers, their order and the choices in `diff_generate` stay as they are; what
is to be kept beyond that stands in `diff_kinds` as text. Empty both tables as faults are mended: what is in them is
tried all the same; of a kind ``pytest -rs`` says whether it is good by now, of seeds `run_many.py` does.
"""

KNOWN: dict[str, tuple[int, ...]] = {}
"""Kind of fault -> seeds; what they show is no failure of the tests."""
KNOWN_KINDS: dict[str, str] = {}
"""Names of `diff_kinds.KINDS` that are not mended -> why not."""
REGRESSIONS: tuple[tuple[int, str], ...] = (
    (1321, "unsound result refused: 0 times infinity, rounded to whole numbers"),
    (1416, "the process ended: a graph whose regions of an empty map onnxruntime reads beyond the end of"),
    (2781, "the process ended: a recurrent layer over a sequence without a step"),
    (1932, "good model refused: weights that hold NaN"),
    (370, "internal error: channels behind a dynamic part of a Concat"),
    (11586, "unsound result refused: a size at which only onnxruntime's optimisations make the original run"),
    (18118, "good model refused: a computed size that no correction mends, of an axis of two"),
    (15631, "good model refused: a table that does not fit the final widths hid the numbers beside it"),
    (11422, "the process ended: an optimisation of onnxruntime, in a part of a graph that runs as a whole"),
    (5700, "MemoryError: a search among losses that are no numbers had no end"),
    (19028, "moved from the twin: a tie, which the order of a sum breaks"),
)
"""(Seed, kind of fault) of graphs beyond those of the suite that showed a fault once."""


def known() -> set[int]:
    """All seeds in ``KNOWN``."""
    return {seed for seeds in KNOWN.values() for seed in seeds}
