"""Seeds of graphs that show a fault which is known, by kind; and of those that showed one once.

A seed stands for a graph as long as the growers, their order and the choices in `diff_generate` stay as they are.
`run_many.py --known` says which of the seeds in ``KNOWN`` are good by now.
"""

KNOWN: dict[str, tuple[int, ...]] = {}
"""Kind of fault -> seeds; what they show is no failure of the tests. To be emptied as the faults are mended."""
REGRESSIONS: tuple[tuple[int, str], ...] = ()
"""(Seed, kind of fault) of graphs beyond those of the suite that showed a fault once."""


def known() -> set[int]:
    """All seeds in ``KNOWN``."""
    return {seed for seeds in KNOWN.values() for seed in seeds}
