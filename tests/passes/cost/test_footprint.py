"""The cost at any widths equals the counted cost of the model cut to these widths."""

import functools

import pytest
from architectures import ARCHITECTURES
from hypothesis import given, settings
from hypothesis import strategies as st
from netkit import engine, net, observer
from unitkit import Quiet

from passes.allocation.subgraph_budget import costs
from passes.analysis.analyse import analyse
from passes.axes.algebra import Atom, Product, Sum
from passes.cost.cost import cost
from passes.cost.footprint import Footprint, Holdings, macs_footprint, params_footprint
from passes.graph.model import Graph
from passes.planning.plan import PlanSettings
from passes.planning.planner import Planner
from passes.surgery.apply_plan import apply_plans
from passes.transforms.canonicalize import canonicalize

BIASES = dict(a_b=(8,), b_b=(12,), y_b=(5,))
NETS = {
    "chain": ("a = Conv(x, a_w, a_b) r = Relu(a) b = Conv<pads=[1,1,1,1],strides=[2,2]>(r, b_w, b_b)"
              " s = Relu(b) y = Conv(s, y_w, y_b)",
              dict(a_w=(8, 4, 1, 1), b_w=(12, 8, 3, 3), y_w=(5, 12, 1, 1), **BIASES)),
    "residual": ("a = Conv(x, a_w) r = Relu(a) b = Conv(r, b_w) t = Relu(b) c = Conv(t, c_w) s = Add(c, r)"
                 " y = Conv(s, y_w)",
                 dict(a_w=(8, 4, 1, 1), b_w=(6, 8, 1, 1), c_w=(8, 6, 1, 1), y_w=(5, 8, 1, 1))),
    "depthwise": ("a = Conv(x, a_w) r = Relu(a) d = Conv<group=8,pads=[1,1,1,1]>(r, d_w) t = Relu(d) y = Conv(t, y_w)",
                  dict(a_w=(8, 4, 1, 1), d_w=(8, 1, 3, 3), y_w=(5, 8, 1, 1))),
    "grouped": ("a = Conv(x, a_w) r = Relu(a) b = Conv<group=2,pads=[1,1,1,1]>(r, b_w) t = Relu(b) y = Conv(t, y_w)",
                dict(a_w=(8, 4, 1, 1), b_w=(12, 4, 3, 3), y_w=(5, 12, 1, 1))),
    "concat": ("a = Conv(x, a_w) b = Conv(x, b_w) c = Concat<axis=1>(a, b) r = Relu(c) y = Conv(r, y_w)",
               dict(a_w=(8, 4, 1, 1), b_w=(6, 4, 3, 3), y_w=(5, 14, 1, 1))),
    "flatten": ("a = Conv(x, a_w) r = Relu(a) f = Flatten(r) g = Gemm<transB=1>(f, g_w, g_b) t = Relu(g)"
                " y = Gemm(t, y_w, y_b)",
                dict(a_w=(8, 4, 1, 1), g_w=(6, 8 * 36), g_b=(6,), y_w=(6, 5), y_b=(5,))),
    "transposed": ("a = ConvTranspose(x, a_w) r = Relu(a) y = ConvTranspose<strides=[2,2]>(r, y_w)",
                   dict(a_w=(4, 8, 3, 3), y_w=(8, 5, 2, 2))),
}  # fmt: skip


def model_of(name):
    if name == "matmul":
        body = "a = MatMul(x, a_w) c = Add(a, a_b) r = Relu(c) y = MatMul(r, y_w)"
        return net(f"net (float[N,3,4] x) => (float[N,3,5] y) {{ {body} }}", a_w=(4, 8), a_b=(8,), y_w=(8, 5))
    body, weights = NETS[name]
    outputs = {"flatten": "5", "chain": "5,3,3", "transposed": "5,16,16", "concat": "5,P,Q"}.get(name, "5,6,6")
    if name == "concat":
        body = body.replace("Conv(x, b_w)", "Conv<pads=[1,1,1,1]>(x, b_w)")
    return net(f"net (float[N,4,6,6] x) => (float[N,{outputs}] y) {{ {body} }}", **weights)


@functools.cache
def known(name):
    """(analysis, groups that may shrink, planner)."""
    found = analyse(model_of(name), (), None, Quiet())
    live = [group for group in found.groups if not group.frozen]
    return found, live, Planner(found.typing, PlanSettings("prune"))


def counted(typing, plans, seen=None):
    """Cost of the model that is really cut."""
    return cost(Graph(canonicalize(apply_plans(typing, plans)), (), seen))


@pytest.mark.parametrize("name", [*NETS, "matmul"])
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_it_is_what_the_cut_model_costs(name, data):
    analysis, live, planner = known(name)
    assert live
    widths = {group.atom: data.draw(st.integers(1, group.size), group.name) for group in live}
    smaller = counted(analysis.typing, [planner.plan(group, widths[group.atom]) for group in live])
    macs, params = macs_footprint(analysis.typing), params_footprint(analysis.typing)
    assert (macs.at(widths), params.at(widths)) == (smaller.macs, smaller.params)


@pytest.mark.parametrize("name", sorted(set(ARCHITECTURES) - {"eca"}))  # its gate keeps its full width
def test_multiply_adds_of_every_kind_of_network(name):
    found = analyse(ARCHITECTURES[name].model, (), observer, Quiet(), engine)
    live = [group for group in found.groups if not group.frozen]
    planner = Planner(found.typing, PlanSettings("prune"))
    plans = [planner.plan(group, (group.size + 1) // 2) for group in live]
    smaller = counted(found.typing, plans, observer)
    assert sum(costs(found, "macs", {p.group.atom: len(p.keep) for p in plans})) == smaller.macs


@pytest.mark.parametrize("name", [*NETS, "matmul"])
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_what_is_saved_is_the_difference(name, data):
    typing, live = known(name)[0].typing, known(name)[1]
    draw = st.fixed_dictionaries({}, optional={group.atom: st.integers(1, group.size) for group in live})
    widths, changed = data.draw(draw), data.draw(draw)
    for footprint in (macs_footprint(typing), params_footprint(typing)):
        assert footprint.saved(widths, changed) == footprint.at(widths) - footprint.at({**widths, **changed})


def test_axes_are_products_and_sums():
    a, b, c = Atom(4), Atom(3), Atom(5)
    footprint = Footprint([[Product((a, b)), Sum((b, c))], [a, a], []], unit=1)
    assert footprint.total == 12 * 8 + 16 + 1
    assert footprint.at({a: 2, b: 1}) == 2 * 6 + 4 + 1
    assert footprint.saved({b: 1}, {a: 2}) == (4 * 6 + 16) - (2 * 6 + 4)
    assert footprint.saved({}, {Atom(7): 1}) == footprint.saved({}, {}) == 0
    assert footprint.held([c]) == 12 * 8 - 12 * 3
    assert footprint.held([a, b]) == 12 * 8 + 16, "what both hold counts once"


def test_one_sample_of_a_batch_counts():
    a = Atom(4)
    assert Footprint([[a, Atom(6)]], unit=3).at({a: 2}) == 4
    dynamic, of_three = (
        net(f"net (float[{n},4] x) => (float[{n},5] y) {{ a = Gemm(x, a_w) y = Gemm(a, y_w) }}",
            a_w=(4, 8), y_w=(8, 5))
        for n in ("N", 3)
    )  # fmt: skip
    one, three = (macs_footprint(analyse(m, (), None, Quiet()).typing).total for m in (dynamic, of_three))
    assert (one, three) == (32 + 40, 3 * 72)


def test_the_shares_that_groups_hold():
    analysis, live, _ = known("chain")
    holdings = Holdings(analysis.typing)
    macs = {"a": 36 * 4 * 8, "b": 9 * 8 * 12 * 9, "y": 9 * 12 * 5}
    total = sum(macs.values())
    held = {group.name: holdings.of([group.atom]) for group in live}
    assert held["a"].macs == macs["a"] + macs["b"] and held["b"].macs == macs["b"] + macs["y"]
    assert held["a"].macs_share == pytest.approx(held["a"].macs / total, abs=1e-6)
    assert held["a"].params == 8 * 4 + 8 + 12 * 8 * 9
    assert holdings.of(group.atom for group in live).macs == total
    empty = Holdings(analyse(net("net (float[N,3] x) => (float[N,3] y) { y = Relu(x) }"), (), None, Quiet()).typing)
    assert empty.of([]).macs_share == 0.0
