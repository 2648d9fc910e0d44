"""What a model costs as a function of how many channels its groups have.

A node's multiply-adds are a sum of products of axes (`passes.cost.multiplications`), and the size of a constant is a
product of them; each axis is as long as the channels that stand on it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from passes.axes import algebra as terms
from passes.axes.algebra import Atom, Term
from passes.axes.index_maps import axis_size
from passes.axes.inference import Typing
from passes.cost.cost import INTEGERS, batch, parameters
from passes.cost.multiplications import mac_products
from passes.graph.model import Node
from passes.transforms.unshare_constants import original

Widths = Mapping[Atom, int]
"""Channels that stay; of what is not in it, all."""


class Footprint:
    """A sum of products of axes, over ``unit``."""

    def __init__(self, products: Iterable[Sequence[Term]], unit: int = 1) -> None:
        self._products = list(products)
        self._unit = unit
        self._where: dict[Atom, list[int]] = {}
        for index, axes in enumerate(self._products):
            for atom in dict.fromkeys(a for term in axes for a in terms.atoms(term)):
                self._where.setdefault(atom, []).append(index)
        self.total = self.at({})

    def at(self, widths: Widths) -> int:
        """The cost at these widths."""
        return self._sum(range(len(self._products)), widths) // self._unit

    def saved(self, widths: Widths, changed: Widths) -> int:
        """By how much the cost falls from ``widths`` when those of ``changed`` change too."""
        touched = {index for atom in changed for index in self._where.get(atom, ())}
        return (self._sum(touched, widths) - self._sum(touched, {**widths, **changed})) // self._unit

    def held(self, atoms: Iterable[Atom]) -> int:
        """What depends on the channels of ``atoms``; what several of them do, counts once."""
        return self.saved({}, dict.fromkeys(atoms, 0))

    def _sum(self, indices: Collection[int], widths: Widths) -> int:
        return sum(math.prod(int(axis_size(term, widths)) for term in self._products[index]) for index in indices)


def macs_footprint(typing: Typing) -> Footprint:
    """Multiply-adds of one sample."""
    products = (product for node in typing.graph.nodes for product in mac_sizes(typing, node))
    return Footprint(products, batch(typing.graph))


def params_footprint(typing: Typing, without: Set[str] = frozenset()) -> Footprint:
    """Weights and other constants that count as parameters, but those ``without``; copies of one that are cut alike are
    one."""
    return Footprint(constant_sizes(typing, without).values())


def constant_sizes(typing: Typing, without: Set[str] = frozenset()) -> dict[str, list[Term]]:
    """Constants that count as parameters, but those ``without`` -> the axes whose sizes' product is how many they
    are."""
    counted = parameters(typing.graph)
    own: dict[tuple[object, ...], tuple[str, list[Term]]] = {}
    for tensor in typing.graph.initializers.values():
        name = original(tensor) or tensor.name
        each = counted.get(name, 0 if name in typing.graph.initializers else int(tensor.data_type not in INTEGERS))
        if each and name not in without:
            axes = typing.axes.get(tensor.name, [])
            own.setdefault((name, *map(terms.resolve, axes)), (tensor.name, [*axes, terms.atom(each)]))
    return dict(own.values())


def mac_sizes(typing: Typing, node: Node) -> list[list[Term]]:
    """The axes of each product whose sum the multiply-adds of ``node`` are."""
    return [
        [terms.atom(f) if isinstance(f, int) else typing.axes[f[0]][f[1]] for f in product]
        for product in mac_products(typing.graph, node)
    ]


@dataclass(frozen=True)
class Held:
    """Multiply-adds of one sample and parameters that depend on some channels, and their shares of the model's."""

    macs: int
    params: int
    macs_share: float
    params_share: float


class Holdings:
    """What of a model's cost depends on channels: the multiply-adds in which they take part, the weights made for them.

    Without the channels each axis is as long as what else stands on it; by how much that makes a product smaller is
    what they hold: all of a Conv that makes, reads or filters them, but of one that reads them among others (a concat)
    their part only. What two groups hold together, such as a Conv from one to the other, counts for both.
    """

    def __init__(self, typing: Typing, inside: Sequence[tuple[Typing, Set[str]]] = (), without: Set[str] = frozenset()):
        """``inside``: control-flow bodies, all of which count; each, and ``typing``, without some constants."""
        parts = [(typing, without), *inside]
        self._macs = [macs_footprint(part) for part, _ in parts]
        self._params = [params_footprint(part, names) for part, names in parts]

    def of(self, atoms: Iterable[Atom]) -> Held:
        """What the channels of ``atoms`` hold; what several of them do, counts once."""
        atoms = list(atoms)
        macs, params = (sum(one.held(atoms) for one in each) for each in (self._macs, self._params))
        return Held(macs, params, *self.shares(macs, params))

    def shares(self, macs: int, params: int) -> tuple[float, float]:
        """Shares of the model's multiply-adds and parameters."""
        macs_total, params_total = (sum(one.total for one in each) for each in (self._macs, self._params))
        return _share(macs, macs_total), _share(params, params_total)


def _share(part: int, whole: int) -> float:
    return round(part / whole, 6) if whole else 0.0
