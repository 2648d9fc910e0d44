"""Widths at which the axes that a group stands on are multiples of the block."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from netkit import net
from unitkit import Quiet

from passes.allocation.width_alignment import allowed_widths
from passes.analysis.analyse import analyse
from passes.settings.blocks import PADDED, Blocks


def widths(body, name, blocks, finest=1, **weights):
    found = analyse(net(f"net (float[N,8,6,6] x) => (float[N,5,P,Q] y) {{ {body} }}", **weights), (), None, Quiet())
    group = next(g for g in found.groups if g.name == name and not g.frozen)
    return allowed_widths(found.typing, group, blocks, finest)


def plain(size, blocks, finest=1):
    return widths("a = Conv(x, a_w) y = Conv(a, y_w)", "a", blocks, finest, a_w=(size, 8, 1, 1), y_w=(5, size, 1, 1))


def test_plain_channels():
    assert plain(24, Blocks()) == tuple(range(1, 25))
    assert plain(24, Blocks(8)) == (8, 16, 24)
    assert plain(20, Blocks(8)) == (8, 16, 20), "all of them can always stay"
    assert plain(3, Blocks()) == (1, 2, 3)


def test_narrow_groups():
    assert plain(8, Blocks(8)) == plain(8, Blocks(16)) == (8,)
    assert plain(8, Blocks(16, strict=False)) == (4, 8)
    assert plain(48, Blocks(16, strict=False)) == (8, 16, 24, 32, 40, 48)
    assert plain(64, Blocks(16, strict=False)) == (16, 32, 48, 64)
    assert plain(3, Blocks(16, strict=False)) == (3,)
    assert plain(3, Blocks(2, strict=False)) == (2, 3)


def grouped(size, blocks):
    body = "a = Conv(x, a_w) b = Conv<group=4>(a, b_w) y = Conv(b, y_w)"
    return widths(body, "b", blocks, a_w=(8, 8, 1, 1), b_w=(size, 2, 1, 1), y_w=(5, size, 1, 1))


def test_outputs_of_a_grouped_convolution_go_from_every_part():
    """Of 4 x 6 channels the group is the 6: each stands on the axis four times."""
    assert grouped(24, Blocks()) == (1, 2, 3, 4, 5, 6)
    assert grouped(24, Blocks(8)) == (2, 4, 6)
    assert grouped(24, Blocks(4)) == (1, 2, 3, 4, 5, 6)
    assert grouped(24, Blocks(16)) == (4, 6)
    assert grouped(24, Blocks(3)) == (3, 6), "4 x 3 is the least multiple of 3"


def test_concatenated_channels():
    """Each part is a multiple of the block, so that the whole is."""
    body = "a = Conv(x, a_w) b = Conv(x, b_w) c = Concat<axis=1>(a, b) y = Conv(c, y_w)"
    weights = dict(a_w=(16, 8, 1, 1), b_w=(24, 8, 1, 1), y_w=(5, 40, 1, 1))
    assert widths(body, "a", Blocks(8), **weights) == (8, 16)
    assert widths(body, "b", Blocks(8), **weights) == (8, 16, 24)


def test_a_group_that_stands_on_several_axes():
    """Behind a Flatten it stands there once for every pixel, which allows more than the channels' own axis does."""
    body = "a = Conv(x, a_w) f = Flatten(a) g = Gemm<transB=1>(f, g_w) y = Reshape(g, s)"
    shape = np.array([-1, 5, 1, 1], np.int64)
    assert widths(body, "a", Blocks(8), a_w=(24, 8, 1, 1), g_w=(5, 24 * 36), s=shape) == (8, 16, 24)


@pytest.mark.parametrize(
    ("size", "block", "finest", "step"),
    [(320, 16, 5, 16), (576, 16, 9, 16), (1280, 16, 20, 32), (256, 1, 4, 4), (1000, 1, 15, 15), (192, 8, 3, 8)],
)
def test_wide_groups_have_fewer_choices_but_no_coarser_ones_than_they_need(size, block, finest, step):
    assert plain(size, Blocks(block), finest) == (*range(step, size, step), size)


@settings(deadline=None, max_examples=60)
@given(size=st.integers(1, 4096), block=st.sampled_from([1, 2, 4, 8, 16, 32]))
def test_blocks_that_are_not_strict_are_parts_of_the_block(size, block):
    found = Blocks(block, strict=False).of(size)
    assert block % found == 0 and found >= min(block, PADDED)
    assert found == block or found <= max(PADDED, size // 4)
    assert Blocks(block).of(size) == block
