"""Growers of ops that read an image at places given as numbers."""

import numpy as np
from netgrow_kinds import even, image
from netgrow_table import DTYPES, grows


@grows("GridSample", often=1)
def grid_sample(g, op):
    x = image(g, 2)
    h, w = g.pick([(2, 2), (3, 2)])
    grid = np.random.default_rng(len(g.lines)).uniform(-1, 1, (1, h, w, 2)).astype(DTYPES[g.precision])
    grids = g.add("Expand", g.array(grid), g.target(x, h, w, 2, exact=True))
    return g.like(g.add(op, x, grids), x, places=[h, w])


@grows("RoiAlign", often=0.5)
def roi_align(g, op):
    """One region of each image, or where the batch is not known as many regions of the first."""
    x = image(g, 2)
    n = 1 if g.batch == "N" else g.batch
    corners = np.sort(np.random.default_rng(len(g.lines)).uniform(0, 4, (n, 2, 2)), axis=1)
    rois, batch = g.array(corners.reshape(n, 4).astype(DTYPES[g.precision])), g.array(np.arange(n))
    if g.batch == "N":
        rois = g.add("Expand", rois, g.add("Concat", g.size(x, 0), g.ints(4), axis=0))
        batch = g.add("Expand", batch, g.size(x, 0))
    g.like(g.add(op, x, rois, batch, output_height=2, output_width=2, sampling_ratio=2), x, places=[2, 2])


@grows("DeformConv", often=1)
def deform_conv(g, op):
    """Offsets that a convolution of the image itself computes."""
    x = even(g, image(g, 2))
    groups = g.pick([n for n in (1, 1, 2) if x.features % n == 0])
    o, k = groups * g.pick([2, 3, 4]), g.pick([1, 2])
    offset = g.add("Conv", x, g.weight(2 * k * k, x.features, k, k), pads=[k - 1, k - 1, 0, 0])
    mask = [g.add("Sigmoid", g.add("Conv", x, g.weight(k * k, x.features, k, k), pads=[k - 1, k - 1, 0, 0]))]
    w, b = g.weight(o, x.features // groups, k, k), g.weight(o, kind="b")
    y = g.add(op, x, w, offset, b, *(mask if g.chance(2) else []), group=groups, pads=[k - 1, k - 1, 0, 0])
    g.like(y, x, o)
