"""Patches and targets of some places of a layer are those of the same places."""

import math

import numpy as np
import pytest
from netkit import engine, net
from unitkit import typed

from passes.statistics.graph_builder import Builder
from passes.statistics.im2col import Window, columns, patches, thinned
from passes.statistics.linear_layers import solvable_layers


@pytest.mark.parametrize(
    ("stride", "spatial", "wanted"),
    [
        (1, (32, 32), Window(1, 4, 1)),
        (2, (32, 32), Window(1, 4, 3)),
        (16, (32, 32), Window(1, 4, 1, (3, 5))),
        (100, (7, 7), Window(1, 4, 17, (3, 3))),
        (9, (1, 1), Window(1, 4, 9)),
        (30, (), Window(1, 4, 29)),
        (10, (50,), Window(1, 4, 1, (9,))),
    ],
)
def test_places_are_thinned_along_all_axes_alike(stride, spatial, wanted):
    found = thinned(1, 4, stride, spatial)
    assert found == wanted
    left = math.prod(math.ceil(n / s) for n, s in zip(spatial, found.steps or [1] * len(spatial), strict=True))
    assert math.prod(spatial) / left * found.stride >= 0.5 * stride


@pytest.mark.parametrize("op", ["Conv<pads=[1,1,1,1]>", "Conv<strides=[2,2]>", "ConvTranspose<strides=[2,2]>"])
@pytest.mark.parametrize("window", [Window(1, 3, 1, (3, 5)), Window(1, 3, 2, (3, 1)), Window(1, 3, 3)])
def test_weights_times_patches_are_the_outputs_there(op, window):
    transposed = op.startswith("ConvT")
    model = net(
        f"net (float[N,3,11,12] x) => (float[N,5,H,W] y) {{ y = {op}(x, w) }}",
        w=(3, 5, 3, 3) if transposed else (5, 3, 3, 3),
    )
    typing = typed(model)
    (layer,) = solvable_layers(typing).values()
    x = np.random.default_rng(0).standard_normal((4, 3, 11, 12)).astype(np.float32)
    y, weight = engine(model)({"x": x})["y"], typing.graph.array(layer.weight)
    build = Builder()
    outputs = {"p": patches(build, layer, window, "x", (3, 3)), "y_out": columns(build, layer, window, "y", 5)}
    found = engine(build.model({"x": x, "y": y}, outputs, "test"))({"x": x, "y": y})
    rows = np.moveaxis(weight, layer.weight_axes, (0, -1)).reshape(5, -1)
    assert found["p"].shape[2] < y[:, 0].size
    np.testing.assert_allclose(rows @ found["p"][0], found["y_out"][0], rtol=1e-4, atol=1e-4)
