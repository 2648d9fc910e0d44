"""What is known of a model before anything is decided."""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass

from passes.axes.channel_groups import ChannelGroup
from passes.axes.inference import Typing
from passes.graph.model import Graph
from passes.transforms.fold_batchnorm import Folded
from passes.transforms.subgraphs import Body


@dataclass(frozen=True)
class Analysis:
    """What is known of a model before anything is decided. ``before``: the normalised model; ``folded``: what became of
    its BatchNormalization; ``typing`` and ``groups``: axes and channels of the folded model; ``inside``: the same of
    the bodies of its If, Loop and Scan nodes."""

    before: Graph
    folded: Folded
    typing: Typing
    groups: list[ChannelGroup]
    inside: tuple[Inside, ...] = ()
    where: str = ""
    """What the names of its layers begin with: nothing for the model itself."""

    @property
    def unfolded(self) -> dict[str, str]:
        """BatchNormalization nodes that stay, by their names in the model, with reasons."""
        return {f"{self.where}{name}": reason for name, reason in self.folded.left.items()}

    @property
    def every_group(self) -> list[ChannelGroup]:
        """The groups of the model and of all bodies in it."""
        return [*self.groups, *(g for one in self.inside for g in one.analysis.every_group)]

    @property
    def moved(self) -> frozenset[str]:
        """Constants of the model that only a body reads, and that count there."""
        return frozenset(n for one in self.inside for n in one.body.captured - one.body.shared)

    def parts(self, without: Set[str] = frozenset()) -> Iterator[tuple[Analysis, frozenset[str]]]:
        """The model and all bodies in it, each with its constants that count elsewhere: ``without``, and `moved`."""
        yield self, self.moved | without
        for one in self.inside:
            yield from one.analysis.parts(one.body.shared)


@dataclass(frozen=True)
class Inside:
    """A body, and what is known of it."""

    body: Body
    analysis: Analysis
