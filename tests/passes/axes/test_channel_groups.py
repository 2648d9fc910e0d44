"""Which axes count as channels: those that weights give, not those of lists of indices, ids and masks."""

import numpy as np
import pytest
from netkit import engine, ints, net, observer

from passes.analysis.analyse import analyse
from passes.interface.runner import StageTimer


def sizes(model):
    """Of all channel groups."""
    assert engine(model) is not None
    return [group.size for group in analyse(model, (), observer, StageTimer(lambda stage: None)).groups]


@pytest.mark.parametrize(
    ("given", "made", "constants"),
    [
        ("float[N,6] x", "f = Where(mask, x, low)", dict(mask=np.arange(6) > 2, low=np.array(-9, np.float32))),
        ("float[N,9] x", "f = Gather<axis=1>(x, places)", dict(places=ints(5, 1, 8, 2, 2, 0))),
    ],
)
def test_lists_and_masks_are_no_channels(given, made, constants):
    """Nobody would want to hear why they stay."""
    body = f"net ({given}) => (float[N,5] y) {{ {made}  h = MatMul(f, h_w)  r = Relu(h)  y = MatMul(r, y_w) }}"
    assert sizes(net(body, h_w=(6, 8), y_w=(8, 5), one=ints(1), **constants)) == [8, 5]


def test_quantised_weights_give_channels():
    body = """net (float[N,6] x) => (float[N,5] y) {
        w = DequantizeLinear(h_q, scale)  h = MatMul(x, w)  r = Relu(h)  y = MatMul(r, y_w) }"""
    quantised = np.random.default_rng(0).integers(-127, 127, (6, 8)).astype(np.int8)
    assert sizes(net(body, h_q=quantised, scale=np.array(0.01, np.float32), y_w=(8, 5))) == [8, 5]
