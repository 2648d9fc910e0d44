"""Runs of a model in segments."""

import numpy as np
import pytest
from netkit import engine, net

from passes.statistics.segmented_execution import SegmentedRun


@pytest.mark.parametrize("batches", [[(2, 9, 8)], [(2, 8, 8), (1, 8, 8)], [(1, 8, 9), (1, 10, 7)]])
def test_sizes_that_are_read_long_after_they_were_taken(batches):
    """Segments in between get them as inputs. onnxruntime takes a vector of unknown length for an empty one."""
    text = """net (float[N,3,H,W] x) => (float[N,2,h,w] y) {
        height = Shape<start=2, end=3>(x)  width = Shape<start=3, end=4>(x)
        a = Conv<pads=[1,1,1,1]>(x, a_w)  ar = Relu(a)  p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(ar)
        b = Conv<pads=[1,1,1,1]>(p, b_w)  br = Relu(b)  first = Shape<start=0, end=2>(br)
        size = Concat<axis=0>(first, height, width)  u = Resize<mode="linear">(br, , , size)
        s = Add(u, ar)  y = Conv<pads=[1,1,1,1]>(s, y_w)
    }"""
    model = net(text, 18, a_w=(8, 3, 3, 3), b_w=(8, 8, 3, 3), y_w=(2, 8, 3, 3))
    rng = np.random.default_rng(0)
    feeds = [{"x": rng.standard_normal((n, 3, h, w)).astype(np.float32)} for n, h, w in batches]
    flow = SegmentedRun(model, feeds, engine)
    for end in range(1, len(model.graph.node) + 1):
        flow.advance(end, {"y"})
    run = engine(model)
    for feed, live in zip(feeds, flow.live, strict=True):
        np.testing.assert_allclose(live["y"], run(feed)["y"], rtol=1e-4, atol=1e-5)
