"""Computes the cost of a model as a function of the widths of its groups.

A node's multiply-adds are a sum of products of axes (`passes.cost.multiplications`). The size of a constant is a
product of axes. The length of each axis follows from the number of channels on it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from passes.axes import algebra
from passes.axes.algebra import Atom, Product, Sum, Term
from passes.axes.index_maps import axis_size
from passes.axes.inference import Typing
from passes.cost.cost import NON_FLOATS, parameters
from passes.cost.multiplications import input_batches, mac_products, samples_in_product
from passes.graph.model import Node
from passes.transforms.unshare_constants import original

Widths = Mapping[Atom, int]
"""Atom -> number of its indices that stay. An atom that is absent keeps all of them."""


class Footprint:
    """A sum of products of axes, over ``unit``. Those at the indices ``optional`` count only where an axis of them is
    cut."""

    def __init__(self, products: Iterable[Sequence[Term]], unit: int = 1, optional: Set[int] = frozenset()) -> None:
        self._products = list(products)
        self._factors = [_factors(axes) for axes in self._products]
        self._unit = unit
        self._optional = {index: self._product(index, {}) for index in optional}
        self._where: dict[Atom, list[int]] = {}
        for index, axes in enumerate(self._products):
            for atom in dict.fromkeys(a for term in axes for a in algebra.atoms(term)):
                self._where.setdefault(atom, []).append(index)
        self.total = self.at({})

    def at(self, widths: Widths) -> int:
        """The cost at these widths."""
        return self._sum(range(len(self._products)), widths) // self._unit

    def saved(self, widths: Widths, changed: Widths) -> int:
        """The decrease of the cost from ``widths`` when those of ``changed`` change too."""
        touched = {index for atom in changed for index in self._where.get(atom, ())}
        return (self._sum(touched, widths) - self._sum(touched, {**widths, **changed})) // self._unit

    def counting(self, atoms: Set[Atom]) -> Footprint:
        """The same where products with an axis of ``atoms`` always count."""
        always = {index for atom in atoms for index in self._where.get(atom, ())}
        return Footprint(self._products, self._unit, self._optional.keys() - always)

    @property
    def optional_atoms(self) -> set[Atom]:
        """The atoms in products that do not always count."""
        return {a for index in self._optional for term in self._products[index] for a in algebra.atoms(term)}

    def held(self, atoms: Iterable[Atom]) -> int:
        """The cost that depends on the channels of ``atoms``. What depends on several of them counts once."""
        return self.saved({}, dict.fromkeys(atoms, 0))

    def _sum(self, indices: Collection[int], widths: Widths) -> int:
        sizes = {index: self._product(index, widths) for index in indices}
        return sum(size for index, size in sizes.items() if size != self._optional.get(index))

    def _product(self, index: int, widths: Widths) -> int:
        atoms, sums = self._factors[index]
        size = math.prod([int(widths.get(a, a.size)) for a in atoms])
        return size * math.prod([int(axis_size(term, widths)) for term in sums]) if sums else size


def _factors(axes: Iterable[Term]) -> tuple[list[Atom], list[Sum]]:
    """The factors of the product of ``axes``: terms are looked into once, not at each of the widths that are tried."""
    whole = algebra.resolve(algebra.product(axes))
    factors = whole.factors if isinstance(whole, Product) else (whole,)
    return [f for f in factors if isinstance(f, Atom)], [f for f in factors if isinstance(f, Sum)]


def macs_footprint(typing: Typing) -> Footprint:
    """Multiply-adds of one sample."""
    return _macs_footprint(typing, typing.graph.nodes)


def node_footprint(typing: Typing, node: Node) -> Footprint:
    """Multiply-adds of one sample in ``node``."""
    return _macs_footprint(typing, [node])


def _macs_footprint(typing: Typing, nodes: Iterable[Node]) -> Footprint:
    graph, batches = typing.graph, input_batches(typing.graph)
    together = math.prod(batch.count for batch in batches)
    products, optional = list[list[Term]](), set[int]()
    for node in nodes:
        first = len(products)
        for product in mac_products(graph, node):
            axes = [algebra.atom(f) if isinstance(f, int) else typing.axes[f[0]][f[1]] for f in product]
            copies = together // samples_in_product(graph, product, batches)  # all are divided by the same number
            products.append([*axes, algebra.atom(copies)])
        if not typing.identities.isdisjoint(node.inputs):
            optional.update(range(first, len(products)))
    return Footprint(products, together, optional)


def params_footprint(typing: Typing, without: Set[str] = frozenset()) -> Footprint:
    """Parameters, without the constants ``without``. Copies of one constant that are cut alike count once."""
    sizes = constant_sizes(typing, without)
    return Footprint(sizes.values(), optional={k for k, name in enumerate(sizes) if name in typing.identities})


def constant_sizes(typing: Typing, without: Set[str] = frozenset()) -> dict[str, list[Term]]:
    """Parameters, without the constants ``without`` -> the axes whose sizes' product is the number of elements."""
    counted = parameters(typing.graph)
    own: dict[tuple[object, ...], tuple[str, list[Term]]] = {}
    for tensor in typing.graph.initializers.values():
        name = original(tensor) or tensor.name
        each = counted.get(name, 0 if name in typing.graph.initializers else int(tensor.data_type not in NON_FLOATS))
        if each and name not in without:
            axes = typing.axes.get(tensor.name, [])
            own.setdefault((name, *map(algebra.resolve, axes)), (tensor.name, [*axes, algebra.atom(each)]))
    return dict(own.values())


@dataclass(frozen=True)
class Held:
    """Multiply-adds of one sample and parameters that depend on some channels, and their shares of the model's."""

    macs: int
    params: int
    macs_share: float
    params_share: float


class Holdings:
    """The part of a model's cost that depends on channels: their multiply-adds, and the weights made for them.

    Without the channels each axis is as long as the rest of it. The decrease of a product is the part that the channels
    hold. It is the whole of a Conv that makes, reads or filters only these channels. It is a share of a Conv that reads
    them among others (a concat). What two groups hold together, such as a Conv from one to the other, counts for both.
    """

    def __init__(self, typing: Typing, inside: Sequence[tuple[Typing, Set[str]]] = (), without: Set[str] = frozenset()):
        """``inside``: control-flow bodies, all of which count. ``typing`` and each body come without some constants."""
        parts = [(typing, without), *inside]
        self._macs = [macs_footprint(part) for part, _ in parts]
        self._params = [params_footprint(part, names) for part, names in parts]

    def of(self, atoms: Iterable[Atom]) -> Held:
        """The cost held by the channels of ``atoms``. What several of them hold counts once."""
        atoms = list(atoms)
        macs, params = (sum(one.held(atoms) for one in each) for each in (self._macs, self._params))
        return Held(macs, params, *self.shares(macs, params))

    def shares(self, macs: int, params: int) -> tuple[float, float]:
        """Shares of the model's multiply-adds and parameters."""
        macs_total, params_total = (sum(one.total for one in each) for each in (self._macs, self._params))
        return _share(macs, macs_total), _share(params, params_total)


def _share(part: int, whole: int) -> float:
    return round(part / whole, 6) if whole else 0.0
