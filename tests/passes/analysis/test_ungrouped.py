"""Ungrouped layers are named; together with the groups they are the whole model."""

import numpy as np
import pytest
from architectures import ARCHITECTURES
from netkit import net, observer
from unitkit import Quiet

from passes.analysis.analyse import analyse
from passes.analysis.ungrouped import first_quantised, ungrouped
from passes.cost.cost import cost
from passes.cost.footprint import Holdings, macs_footprint, params_footprint


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_nothing_is_left_over(name):
    """Multiply-adds to within one for each node: those of one sample of a batch are whole numbers."""
    found = analyse(ARCHITECTURES[name].model, {}, observer, Quiet())
    left = ungrouped(found.typing, found.groups)
    held = Holdings(found.typing).of(group.atom for group in found.groups)
    assert held.params + sum(layer.params for layer in left) == params_footprint(found.typing).total
    assert abs(held.macs + sum(layer.macs for layer in left) - macs_footprint(found.typing).total) <= len(left)
    assert all(layer.reason for layer in left)


def test_reasons():
    """By node: quantised, weights computed from data, a norm over an input."""
    body = """net (float[N,4] x, float[4,6] k) => (float[N,3] y) {
        xn = LayerNormalization(x, xn_scale)  q, qs, qz = DynamicQuantizeLinear(xn)  m = MatMulInteger(q, w_q, qz)
        f = Cast<to=1>(m)  g = MatMul(x, k)  s = Add(f, g)  y = Gemm(s, y_w)
    }"""

    model = net(body, w_q=np.ones((4, 6), np.int8), y_w=(6, 3), xn_scale=(4,))
    found = analyse(model, {}, observer, Quiet())
    assert first_quantised(found.typing) == "q (DynamicQuantizeLinear)"
    reasons = {layer.node.label: str(layer.reason) for layer in ungrouped(found.typing, found.groups)}
    assert reasons == {
        "xn": "x is a graph input",
        "m": "m (MatMulInteger) is quantised: compress first, then quantise",
        "g": "g (MatMul) multiplies activations: it has no weights of its own",
    }
    assert cost(found.before).macs == 4 * 6 + 4 * 6 + 6 * 3
