"""Lists the allowed widths of a group: multiples of a block, at which kernels run at full speed."""

from __future__ import annotations

import math

from passes.axes import algebra
from passes.axes.algebra import Atom, Product, Term
from passes.axes.channel_groups import ChannelGroup
from passes.axes.inference import Typing
from passes.settings.blocks import Blocks


def allowed_widths(typing: Typing, group: ChannelGroup, blocks: Blocks, finest: int = 1) -> tuple[int, ...]:
    """Widths at which every axis with the group's channels is a multiple of the block, and the full width.

    With (g o) output channels of a grouped convolution, o need only be a multiple of block / g. ``finest``: smallest
    step between the widths.
    """
    block = _whole_block(typing, group, blocks.of(group.size))
    step = block * math.ceil(finest / block)
    return (*range(step, group.size, step), group.size)


def _whole_block(typing: Typing, group: ChannelGroup, block: int) -> int:
    """Smallest number of the group's channels that makes whole blocks on every axis."""
    copies = {block}
    for step in group.steps:
        for name in step.produced:
            for term in typing.axes[name]:
                copies.update(_copies(term, group.atom))
    return block // math.gcd(*copies)


def _copies(term: Term, atom: Atom) -> set[int]:
    """How many times each channel of the atom is repeated on an axis, for each occurrence of the atom."""
    term = algebra.resolve(term)
    if isinstance(term, Atom):
        return {1} if term is atom else set()
    if isinstance(term, Product):
        inside = {c for f in term.factors for c in _copies(f, atom)}
        others = math.prod(algebra.size(f) for f in term.factors if atom not in algebra.atoms(f))
        return {c * others for c in inside}
    return {c for part in term.parts for c in _copies(part, atom)}
