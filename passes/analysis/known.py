"""The results of the analysis of a model, on which all later decisions rest."""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass

from passes.axes.channel_groups import ChannelGroup
from passes.axes.inference import Typing
from passes.graph.model import Graph
from passes.interface.reason import Reason
from passes.transforms.fold_batchnorm import Folded
from passes.transforms.subgraphs import Body


@dataclass(frozen=True)
class Analysis:
    """The results of the analysis. ``before``: the normalised model. ``folded``: the result of folding
    BatchNormalization. ``typing`` and ``groups``: axes and channels of the folded model. ``inside``: the analyses of
    the bodies of its If, Loop and Scan nodes."""

    before: Graph
    folded: Folded
    typing: Typing
    groups: list[ChannelGroup]
    inside: tuple[Inside, ...] = ()
    where: str = ""
    """Prefix of the names of its layers, empty for the model itself."""

    @property
    def unfolded(self) -> dict[str, Reason]:
        """BatchNormalization nodes that stay, by their names in the model, with reasons."""
        return {f"{self.where}{name}": reason for name, reason in self.folded.left.items()}

    @property
    def every_group(self) -> list[ChannelGroup]:
        """The groups of the model and of all bodies in it."""
        return [*self.groups, *(g for one in self.inside for g in one.analysis.every_group)]

    @property
    def moved(self) -> frozenset[str]:
        """Constants of the model that only a body reads. They count there."""
        return frozenset(n for one in self.inside for n in one.body.captured - one.body.shared)

    def parts(self, without: Set[str] = frozenset()) -> Iterator[tuple[Analysis, frozenset[str]]]:
        """The model and all bodies in it, each with its constants that count in another: ``without``, and `moved`."""
        yield self, self.moved | without
        for one in self.inside:
            yield from one.analysis.parts(one.body.shared)


@dataclass(frozen=True)
class Inside:
    """A control-flow body, and its analysis."""

    body: Body
    analysis: Analysis
