"""How far a step moves weights, and which of them as matrices."""

from types import SimpleNamespace

import numpy as np

from passes.numerics.muon import MatrixForm
from passes.reconstruction.step_sizes import row_sizes, step_sizes
from passes.settings.distillation_tuning import DistillationTuning


def layer(name, shape, axis=0, groups=1):
    inner = SimpleNamespace(weight_axes=(axis, 1 - axis), data="x")
    start = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    return SimpleNamespace(start=start, weight=f"{name}.w", bias=f"{name}.b", layer=inner, groups=groups)


def test_a_step_changes_every_output_by_the_rate():
    one = layer("a", (5, 400))
    one.start *= np.array([1, 1, 2, 0.3, 0.01], np.float32)[:, None]
    found = step_sizes([one], {"x": 2.0}, 0, DistillationTuning())
    x = 2.0 * np.random.default_rng(1).standard_normal((400, 1000))
    change = (found.scales["a.w"] * np.sign(x[:, 0])) @ x[:, 0]  # the first step of Adam
    spread = (one.start @ x).std(1)
    np.testing.assert_allclose(change[:4] / spread[:4], np.sqrt(2 / np.pi), rtol=0.2)
    np.testing.assert_allclose(found.scales["a.b"][:4], spread[:4], rtol=0.3)
    sizes = row_sizes(one.start, 0, 0.1).ravel()
    assert sizes[4] > 2 * np.sqrt(np.square(one.start[4]).mean())  # not less than a share of the whole


def test_the_cheapest_matrices_come_first():
    layers = [layer("large", (64, 640)), layer("small", (8, 12)), layer("middle", (32, 32))]
    costs = {one.weight: MatrixForm(0).cost(one.start.shape) for one in layers}
    for names in ([], ["small.w"], ["small.w", "middle.w"], ["small.w", "middle.w", "large.w"]):
        room = sum(costs[name] for name in names) / DistillationTuning().matrix_share
        assert sorted(step_sizes(layers, {}, 1.01 * room, DistillationTuning()).forms) == sorted(names)


def test_rows_alone_are_no_matrices():
    layers = [
        layer("depthwise", (16, 1, 3, 3), groups=16),
        layer("single", (1, 32)),
        layer("grouped", (8, 4), groups=2),
    ]
    found = step_sizes(layers, {}, 1e9, DistillationTuning())
    assert found.forms == {"grouped.w": MatrixForm(0, 2)} and len(found.scales) == 6
