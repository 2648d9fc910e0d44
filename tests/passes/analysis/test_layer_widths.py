"""Layers with their widths: their multiply-adds add up to those of the model, before and after."""

import functools

import pytest
from architectures import ARCHITECTURES
from netkit import engine, net, observer
from unitkit import Quiet

from passes.analysis.analyse import analyse
from passes.analysis.layer_widths import layer_widths
from passes.cost.cost import cost
from passes.graph.model import Graph
from passes.pipeline import compress
from passes.settings.compress import CompressSettings
from passes.transforms.canonicalize import canonicalize


def chain():
    body = """[a] h = Conv(x, a_w)  r = Relu(h)  [d] s = Conv<group=8>(r, d_w)  [b] t = Conv(s, b_w)
        c = Concat<axis=1>(s, t)  [c] y = Conv(c, c_w)"""
    sizes = {"a_w": (8, 4, 1, 1), "d_w": (8, 1, 1, 1), "b_w": (6, 8, 1, 1), "c_w": (5, 14, 1, 1)}
    return net(f"net (float[N,4,6,6] x) => (float[N,5,6,6] y) {{ {body} }}", **sizes)


@functools.cache
def layers(keep):
    analysis = analyse(chain(), (), None, Quiet())
    settings = CompressSettings(keep=keep, allocation="uniform", method="merge")
    found = compress(chain(), settings)
    return layer_widths(analysis, {}), analysis, found


def test_in_graph_order_with_ops_and_groups():
    found, analysis, _ = layers(0.5)
    assert [(one.name, one.op, one.size, one.kept) for one in found] == [
        ("a", "Conv", 8, 8), ("d", "Conv", 8, 8), ("b", "Conv", 6, 6), ("c", "Conv", 5, 5),
    ]  # fmt: skip
    assert [one.group for one in found] == ["a", "a", "b", "c"]
    assert sum(one.macs for one in found) == cost(analysis.before).macs


def test_after_a_compression():
    _, analysis, done = layers(0.5)
    ours = {group.name: group.atom for group in analysis.groups}
    widths = {ours[plan.group.name]: len(plan.keep) for plan in done.plans}
    found = layer_widths(analysis, widths)
    assert [one.kept for one in found] == [4, 4, 3, 5] and [one.size for one in found] == [8, 8, 6, 5]
    smaller = Graph(canonicalize(done.model), ())
    assert sum(one.macs_kept for one in found) == cost(smaller).macs


@pytest.mark.parametrize("name", sorted(name for name in ARCHITECTURES if not name.startswith("if")))
def test_the_sum_is_the_model(name):
    analysis = analyse(ARCHITECTURES[name].model, (), observer, Quiet(), engine)
    total = sum(one.macs for one in layer_widths(analysis, {}))
    assert 0 < total <= cost(analysis.before, observer, engine).macs
