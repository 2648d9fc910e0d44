"""Of several widths that meet a goal, those with the largest blocks win, if their loss is close to the least."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from passes.allocation.allocator import Allocator, WidthChoice
from passes.allocation.budget import BudgetScope
from passes.settings.allocation_tuning import AllocationTuning
from passes.settings.tuning import Tuning

GROUP = SimpleNamespace(name="g", atom="g", size=16)
POOL = BudgetScope(None, [GROUP], {}, None, 0)
TUNING = AllocationTuning(block_tolerance=1.25, padded_tolerance=1.5, comparable_noise=2.0)


def best(*candidates, tuning=TUNING):
    """The block that is chosen of ``candidates``: block -> (loss of the outputs, loss of the groups alone)."""
    choices = [WidthChoice(block, {"g": k}) for k, (block, _, _) in enumerate(candidates)]
    together = {k: loss for k, (_, loss, _) in enumerate(candidates)}
    losses = SimpleNamespace(
        of=lambda groups: {"g": np.array([alone for _, _, alone in candidates])},
        together=lambda groups, widths: together[widths["g"]],
    )
    planner = SimpleNamespace(settings=SimpleNamespace(tuning=Tuning(allocation=tuning)))
    return Allocator(None, [GROUP], {}, None, planner, losses)._best(POOL, choices).block


def test_the_largest_blocks_win_among_losses_close_to_the_least():
    assert best((16, 0.124, 0), (8, 0.1, 0), (1, 0.11, 0)) == 16
    assert best((16, 0.126, 0), (8, 0.1, 0), (1, 0.11, 0)) == 8
    assert best((16, 0.126, 0), (8, 0.126, 0), (1, 0.1, 0)) == 1
    assert best((1, 0.1, 0), (16, 0.125, 0)) == 16


def test_blocks_that_kernels_pad_may_lose_more():
    assert best((8, 0.14, 0), (4, 0.14, 0), (1, 0.1, 0)) == 4
    assert best((8, 0.16, 0), (4, 0.16, 0), (1, 0.1, 0)) == 1


@pytest.mark.parametrize(("block", "most"), [(16, 1.25), (8, 1.25), (4, 1.3), (2, 1.25)])
def test_what_blocks_may_lose_by_default(block, most):
    default = AllocationTuning()
    assert best((block, 0.999 * most, 0), (1, 1.0, 0), tuning=default) == block
    assert best((block, 1.001 * most, 0), (1, 1.0, 0), tuning=default) == 1


def test_the_groups_own_losses_are_not_looked_at_while_outputs_can_be_compared():
    assert best((16, 2.4, 9.0), (1, 2.0, 0.1)) == 16
    assert best((16, 2.6, 0.1), (1, 2.0, 9.0)) == 1


def test_where_only_noise_is_left_of_the_outputs_the_groups_own_losses_rank():
    assert best((16, 2.01, 0.2), (1, 9.0, 0.1)) == 1
    assert best((16, 9.0, 0.12), (1, 2.01, 0.1)) == 16


def test_outputs_that_cannot_be_measured_count_as_lost():
    assert best((16, None, 0.2), (1, None, 0.1)) == 1
    assert best((16, None, 0.1), (1, 0.3, 9.0)) == 1


def test_a_single_candidate_is_not_measured():
    choices = [WidthChoice(8, {})]
    assert Allocator(None, [], {}, None, None, None)._best(POOL, choices) is choices[0]


CASES = [("auto", [GROUP], 1), ("uniform", [GROUP], 0), ("auto", [], 0)]


@pytest.mark.parametrize(("allocation", "groups", "calls"), CASES)
def test_losses_are_measured_beforehand_only_where_budgets_are_spread_by_them(allocation, groups, calls):
    class Scoped(Allocator):
        def _pool(self):
            return replace(POOL, groups=groups)

    measured = []
    losses = SimpleNamespace(of=measured.append)
    Scoped(None, groups, {}, SimpleNamespace(allocation=allocation, kept=None), None, losses).prepare()
    assert measured == [groups] * calls
