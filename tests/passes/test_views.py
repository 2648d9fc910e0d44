"""What a run over the samples gave the layers is kept for the solver, where there is room for it."""

import pickle

import numpy as np
import pytest
from architectures import ARCHITECTURES
from netkit import engine, feeds, net, observer
from unitkit import Quiet

from passes.analysis import analyse
from passes.calibrated.flow import Flow, Recording
from passes.calibrated.layers import solvable_layers
from passes.calibrated.views import Samples, View
from passes.pipeline import compress
from passes.settings import CompressSettings

CHAIN = """net (float[N,6,8,8] x) => (float[N,5,8,8] y) {
    a = Conv<pads=[1,1,1,1]>(x, a_w)  ar = Relu(a)  b = Conv(ar, b_w)  s = Add(a, b)  y = Conv(s, y_w)
}"""
SIZES = dict(a_w=(12, 6, 3, 3), b_w=(12, 12, 1, 1), y_w=(5, 12, 1, 1))
BYTES = 4 * (12 + 12 + 5) * 8 * 8
"""Of a, b and y, for each sample."""


def viewed(model, room):
    """A view of eight samples in two batches that has been asked what they show."""
    found = analyse(model, (), observer, Quiet(), engine)
    view = View(found.typing, [feeds(model, 4, seed) for seed in (1, 2)], engine, room)
    view.knowledge([group for group in found.groups if not group.frozen])
    return view


@pytest.mark.parametrize(("room", "kind"), [(8 * BYTES, Recording), (8 * BYTES - 1, Flow)])
def test_it_is_kept_where_there_is_room(room, kind):
    assert type(viewed(net(CHAIN, **SIZES), room).original()) is kind


def test_it_does_not_go_to_another_process():
    view = viewed(net(CHAIN, **SIZES), np.inf)
    assert type(pickle.loads(pickle.dumps(view)).original()) is Flow


@pytest.mark.parametrize("name", ["residual", "grouped", "attention-separate", "nhwc"])
def test_it_is_what_the_layers_gave(name):
    view = viewed(ARCHITECTURES[name].model, np.inf)
    kept = view.original()
    assert type(kept) is Recording
    flow = Flow(view.typing.graph.model, view.feeds, engine)
    for layer in solvable_layers(view.typing).values():
        wanted = (layer.output, *layer.others)
        for exact, live in zip(flow.record(wanted).live, kept.live, strict=True):
            for tensor in wanted:
                np.testing.assert_array_equal(exact[tensor], live[tensor])
        flow = Flow(view.typing.graph.model, view.feeds, engine)


def test_the_result_is_the_same_without(monkeypatch):
    model = net(CHAIN, **SIZES)
    settings = CompressSettings(keep=0.5, method="reconstruct", select="auto")
    rng = np.random.default_rng(0)
    samples = Samples({"x": rng.standard_normal((16, 6, 8, 8)).astype(np.float32)}, True, engine)
    kept = compress(model, settings, samples=samples).model
    monkeypatch.setattr(View, "_worth_keeping", lambda view: set())
    assert compress(model, settings, samples=samples).model.SerializeToString() == kept.SerializeToString()
