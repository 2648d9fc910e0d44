"""Why channels stay, a norm is not folded, or less is done than was asked for: a value, and its text."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

Kind = Literal[
    "operator",  # what an operator does with the channels; ``op`` is its type
    "tensor",  # the tensor ``node`` is an input or output of a graph, or read in another one
    "override",  # callers may give another value for the tensor ``node``
    "size",  # the axis ``place`` varies, or something computes with its size
    "scale",  # no factor on a channel passes through the node
    "layer",  # what a layer does with them, whatever its op
    "weights",  # how the weights of a layer come about; ``place`` is the constant, where one is named
    "constant",  # how the constant ``node`` is read
    "norm",  # what stands before or behind a norm; ``node`` is that tensor, ``place`` its reader
    "coupled",  # layers share them, ``node`` and ``place`` among them, or they are concatenated in ``place``
    "excluded",  # the user took the group out
    "plan",  # what was found when the widths were known
]
KINDS: tuple[Kind, ...] = get_args(Kind)
TENSOR = "{tensor}"
"""Stands for ``place`` in a detail."""
NODE = "{node}"
"""Stands for ``node`` in the detail of a layer; without it the name stands first."""
OUTPUT = "a graph output"
"""Reads sizes as an operator does, and stands in ``op``."""
INSIDE = "is read inside a control-flow body"
"""Said of a tensor, by the axes and by the folding of norms."""
_NOUNS = {"tensor": "it", "override": "an input", "layer": "a node", "constant": "a constant"}
"""What a reason without names says instead of one."""


@dataclass(frozen=True, slots=True)
class Reason:
    """``kind``: what it is about; ``node``: name of the node, or of the tensor, that it is found at; ``detail``: the
    rest of what is said, without names.

    Two reasons are the same thing at two places where their `general` forms are equal. ``str(reason)`` is the text for
    people, of the general form too.
    """

    kind: Kind
    node: str
    detail: str
    op: str = ""
    """Type of the node."""
    place: str = ""
    """A second name: of a tensor, an axis of one (see `axis_of`) or a reader."""
    causes: tuple[Reason, ...] = ()
    """The reasons that this one follows from, if there are any."""

    @property
    def general(self) -> Reason:
        """The reason without names of nodes and tensors, its causes included."""
        return replace(self, node="", place="", causes=tuple(cause.general for cause in self.causes))

    def saying(self, detail: str) -> Reason:
        """Another thing about the same node."""
        return replace(self, detail=detail)

    def __str__(self) -> str:
        if self.causes:
            causes = "; ".join(map(str, self.causes))
            return f"{self.detail}: {causes}" if self.detail else causes
        match self.kind:
            case "operator":
                return f"{self._operator} {self._detail}"
            case "scale":
                return f"no scale passes through {self._operator}"
            case "size":
                return self._size()
            case "weights":  # the detail begins with the noun
                noun, _, rest = self.detail.partition(" ")
                name = self.place or f"the {noun}"
                return f"{name} of {self.node} {rest}" if self.node else f"a layer's {self.detail}"
            case "norm":
                return self._norm()
            case "coupled" if self.node:
                return f"{self.detail}, {self.node} and {self.place} among them"
            case "coupled":
                return f"{self.detail} with other channels in {self.place}" if self.place else self.detail
            case "excluded" | "plan":
                return self._detail
            case kind:
                name = self.node or _NOUNS[kind]
                return self.detail.replace(NODE, name) if NODE in self.detail else f"{name} {self.detail}"

    @property
    def _operator(self) -> str:
        return f"{self.node} ({self.op})" if self.node else self.op

    @property
    def _detail(self) -> str:
        return self.detail.replace(TENSOR, self.place or "a tensor")

    def _size(self) -> str:
        """Without a detail, something computes with the size."""
        if self.detail:
            return f"{self.place or 'it'} {self.detail}"
        if not self.place:
            return f"{self._operator} computes with its size"
        reader = "the graph's output" if self.op == OUTPUT else self._operator
        return f"{reader} computes with the size of {self.place}"

    def _norm(self) -> str:
        """The detail is a sentence about the norm, its input or its output."""
        if not self.node:
            return f"{self.detail} {self.op}" if self.op else self.detail
        if self.place and not self.op:
            return f"{self.node} is also read by {self.place}"
        noun = "its input" if "its input" in self.detail else "its output"
        said = self.detail.replace(noun, self.node, 1)
        return f"{said} {self.place} ({self.op})" if self.op else said


def overridden(name: str) -> Reason:
    """Callers may give another value for the tensor ``name``."""
    return Reason("override", name, "may be overridden by callers")


def planned(detail: str, *causes: Reason, place: str = "") -> Reason:
    """Found when the widths were known; ``causes``: why."""
    return Reason("plan", "", detail, place=place, causes=causes)


def axis_of(tensor: str, axis: int) -> str:
    """Axis ``axis`` of a tensor, as a `Reason.place`."""
    return f"axis {axis} of {tensor}"


def text(reason: Reason | None) -> str | None:
    """The text of ``reason``; None without a reason."""
    return None if reason is None else str(reason)
