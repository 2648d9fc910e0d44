"""Values and gradients of a layer pair's ONNX models, against finite differences of the same nodes in float64."""

from dataclasses import replace

import numpy as np
import pytest
from netkit import ints
from unitkit import Net, norm, problem, random_like, units

from passes.numerics.gauss_newton import Affine, descend
from passes.numerics.ridge import unit_penalties

CONV = dict(a_w=(5, 3, 3, 3), a_b=(5,), y_w=(2, 5, 3, 3), y_b=(2,))
FIRST = "a = Conv<pads=[1,1,1,1]>(x, a_w, a_b)"
SECOND = "y = Conv<pads=[1,1,1,1]>(z, y_w, y_b)"


ROUNDED = 2e-3
"""Tolerance where onnx's reference rounds Erf to float32."""


def scalar(value):
    return np.array(value, np.float32)


def pointwise(nodes, opset=17, tolerance=1e-4, **weights):
    return Net((3, 4, 4), (2, 4, 4), f"{FIRST} {nodes} {SECOND}", {**CONV, **weights}, opset, tolerance)


def pooled(nodes, y=(2, 2, 2), **weights):
    """A Relu, then ``nodes``."""
    return Net((3, 4, 4), y, f"{FIRST} r = Relu(a) {nodes} {SECOND}", {**CONV, **weights})


def headed(nodes, features=5, layer="y = Gemm<transB=1>(z, y_w, y_b)", **weights):
    """``nodes`` that leave a row for each sample, and a dense layer."""
    sizes = dict(a_w=(5, 3, 3, 3), a_b=(5,), y_w=(2, features), y_b=(2,))
    opset = weights.pop("opset", 17)
    return Net((3, 4, 4), (2,), f"{FIRST} {nodes} {layer}", {**sizes, **weights}, opset)


def dense(x, nodes, tolerance=1e-4, **weights):
    sizes = dict(a_w=(4, 5), a_b=(5,), y_w=(5, 3), y_b=(3,))
    return Net(x, (*x[:-1], 3), nodes, {**sizes, **weights}, 17, tolerance)


def convs(x, y, first, second, a_w=(5, 3, 3, 3), y_w=(2, 5, 3, 3)):
    nodes = f"a = Conv<{first}>(x, a_w, a_b) z = Relu(a) y = Conv<{second}>(z, y_w, y_b)"
    return Net(x, y, nodes, dict(a_w=a_w, a_b=(5,), y_w=y_w, y_b=(2,)))


def transposed(x, y, given, y_w, first=FIRST, **weights):
    """A transposed convolution that reads a Relu."""
    nodes = f"{first} z = Relu(a) y = ConvTranspose<{given}>(z, y_w, y_b)"
    return Net(x, y, nodes, {**CONV, "y_w": y_w, **weights})


GELU = "d = Div(a, root) e = Erf(d) f = Add(e, one) g = Mul(a, f) z = Mul(g, half)"
ROWS = "a_m = MatMul(x, a_w) a = Add(a_m, a_b) {} y_m = MatMul(z, y_w) y = Add(y_b, y_m)"

NETS = {
    "relu": pointwise("z = Relu(a)", tolerance=1e-4),
    "leaky-relu": pointwise("z = LeakyRelu<alpha=0.2>(a)"),
    "prelu": pointwise("z = PRelu(a, s)", s=np.linspace(-0.5, 0.9, 5, dtype=np.float32).reshape(5, 1, 1)),
    "prelu-scalar": pointwise("z = PRelu(a, s)", s=np.array([0.3], np.float32)),
    "clip": pointwise("z = Clip(a, low, high)", low=scalar(-0.5), high=scalar(0.8)),
    "clip-one-end": pointwise("z = Clip(a, , high)", high=scalar(0.5)),
    "clip-10": pointwise("z = Clip<min=-0.5,max=0.8>(a)", opset=10),
    "clip-one-end-9": pointwise("z = Clip<max=0.5>(a)", opset=9),
    "clip-7": pointwise("r = Relu(a) z = Clip<min=0.2>(r)", opset=7),
    "silu": pointwise("s = Sigmoid(a) z = Mul(a, s)"),
    "gelu-nodes": pointwise(GELU, tolerance=ROUNDED, root=scalar(2**0.5), one=scalar(1), half=scalar(0.5)),
    "gelu": pointwise("z = Gelu(a)", 20, tolerance=ROUNDED),
    "hard-swish-nodes": pointwise(
        "d = Add(a, three) c = Clip(d, zero, six) m = Mul(a, c) z = Div(m, six)",
        three=scalar(3), zero=scalar(0), six=scalar(6),
    ),
    "hard-swish": pointwise("s = HardSigmoid<alpha=0.1666667,beta=0.5>(a) z = Mul(a, s)"),
    "mish": pointwise("p = Softplus(a) t = Tanh(p) z = Mul(a, t)"),
    "scaled-by-channel": pointwise(
        "r = Relu(a) m = Mul(r, scale) z = Add(shift, m)", scale=(5, 1, 1), shift=(1, 5, 1, 1)
    ),
    "by-place": pointwise("m = Add(a, place) z = Tanh(m)", place=(1, 5, 4, 4)),
    "clipped-square": pointwise("r = Relu(a) z = Mul(r, r)"),
    "none": Net((4, 4, 4), (2, 4, 4), f"{FIRST} {SECOND.replace('z', 'a')}", {**CONV, "a_w": (5, 4, 3, 3)}),
    "depthwise": pooled("z = Conv<group=5,pads=[1,1,1,1]>(r, g_w, g_b)", (2, 4, 4), g_w=(5, 1, 3, 3), g_b=(5,)),
    "depthwise-strided": pooled(
        "d = Conv<group=5,strides=[2,2],pads=[0,1,1,0],dilations=[1,2]>(r, g_w) z = Relu(d)", (2, 2, 1),
        g_w=(5, 1, 2, 3),
    ),
    "depthwise-first": Net(
        (3, 4, 4), (2, 4, 4), f"{FIRST} d = Conv<group=5,pads=[1,1,1,1]>(a, g_w) z = Relu(d) {SECOND}",
        {**CONV, "g_w": (5, 1, 3, 3)},
    ),
    "depthwise-1d": Net(
        (3, 9), (2, 4),
        "a = Conv(x, a_w, a_b) d = Conv<group=5,strides=[2]>(a, g_w, g_b) z = Relu(d) y = Conv(z, y_w, y_b)",
        dict(a_w=(5, 3, 1), a_b=(5,), g_w=(5, 1, 2), g_b=(5,), y_w=(2, 5, 1), y_b=(2,)),
    ),
    "max-pool": pooled("z = MaxPool<kernel_shape=[2,2],strides=[2,2]>(r)"),
    "max-pool-first": Net(
        (3, 4, 4), (2, 2, 2), f"{FIRST} p = MaxPool<kernel_shape=[2,2],strides=[2,2]>(a) z = Relu(p) {SECOND}", CONV
    ),
    "max-pool-18": Net(
        (3, 4, 4), (2, 2, 2), f"{FIRST} r = Relu(a) z = MaxPool<kernel_shape=[2,2],strides=[2,2]>(r) {SECOND}", CONV, 18
    ),
    "max-pool-uneven": pooled("z = MaxPool<kernel_shape=[4,2],strides=[4,2]>(r)", (2, 1, 2)),
    "average-pool": pooled("z = AveragePool<kernel_shape=[2,2],strides=[2,2]>(r)"),
    "average-pool-first": Net(
        (3, 4, 4), (2, 2, 2), f"{FIRST} p = AveragePool<kernel_shape=[2,2],strides=[2,2]>(a) z = Relu(p) {SECOND}", CONV
    ),
    "global-average": pooled("z = GlobalAveragePool(r)", (2, 1, 1)),
    "global-max": pooled("z = GlobalMaxPool(r)", (2, 1, 1)),
    "global-then-flat": headed("r = Relu(a) g = GlobalAveragePool(r) z = Flatten(g)"),
    "global-first": headed("g = GlobalAveragePool(a) z = Flatten(g)"),
    "mean-kept": pooled("z = ReduceMean<axes=[2,3],keepdims=1>(r)", (2, 1, 1)),
    "mean-flat": headed("r = Relu(a) z = ReduceMean<axes=[2,3],keepdims=0>(r)"),
    "mean-flat-18": headed("r = Relu(a) z = ReduceMean<keepdims=0>(r, axes)", axes=ints(2, 3), opset=18),
    "flatten": headed("r = Relu(a) z = Flatten(r)", 80),
    "flatten-first": headed("z = Flatten(a)", 80),
    "reshape": headed("r = Relu(a) z = Reshape(r, flat)", 80, flat=ints(0, -1)),
    "flatten-untransposed": headed("r = Relu(a) z = Flatten(r)", layer="y = Gemm(z, y_w, y_b)", y_w=(80, 2)),
    "pool-then-flatten": headed("r = Relu(a) p = MaxPool<kernel_shape=[2,2],strides=[2,2]>(r) z = Flatten(p)", 20),
    "flatten-then-relu": headed("f = Flatten(a) z = Relu(f)", 80),
    "gemm": dense((4,), "a = Gemm(x, a_w, a_b) z = Relu(a) y = Gemm<transB=1>(z, y_w, y_b)", y_w=(3, 5)),
    "rows": dense((6, 4), ROWS.format("z = Relu(a)")),
    "rows-gelu": dense((6, 4), ROWS.format(GELU), ROUNDED, root=scalar(2**0.5), one=scalar(1), half=scalar(0.5)),
    "rows-of-rank-4": dense((2, 3, 4), ROWS.format("z = Relu(a)")),
    "rows-without-bias": dense((6, 4), "a = MatMul(x, a_w) z = Relu(a) y = MatMul(z, y_w)"),
    "strided": convs((3, 6, 6), (2, 3, 3), "pads=[1,1,1,1]", "strides=[2,2],pads=[1,1,1,1]"),
    "strided-first": convs((3, 7, 6), (2, 4, 3), "strides=[2,2],pads=[1,1,1,1]", "pads=[1,1,1,1]"),
    "strided-point": convs((3, 5, 6), (2, 3, 3), "pads=[1,1,1,1]", "strides=[2,2]", y_w=(2, 5, 1, 1)),
    "dilated": convs((3, 6, 6), (2, 4, 4), "dilations=[2,2],pads=[2,2,2,2]", "dilations=[2,2],pads=[1,1,1,1]"),
    "lopsided": convs((3, 5, 6), (2, 2, 3), "pads=[0,1,2,1]", "strides=[2,2],pads=[0,1,1,0]"),
    "valid": convs((3, 6, 6), (2, 2, 2), 'auto_pad="VALID"', 'auto_pad="VALID"'),
    "one-dimensional": convs((3, 9), (2, 4), "pads=[1,1]", "strides=[2],pads=[0,1]", (5, 3, 3), (2, 5, 3)),
    "three-dimensional": convs(
        (3, 3, 4, 3), (2, 2, 2, 2), "pads=[1,1,1,1,1,1]", "strides=[1,2,1],pads=[0,1,0,0,0,0]", (5, 3, 3, 3, 3),
        (2, 5, 2, 3, 2),
    ),
    "transposed": transposed((3, 4, 4), (2, 6, 6), "strides=[1,1]", (5, 2, 3, 3)),
    "transposed-strided": transposed(
        (3, 4, 4), (2, 8, 7), "strides=[2,2],pads=[1,1,1,1],output_padding=[1,0]", (5, 2, 3, 3)
    ),
    "transposed-apart": transposed((3, 3, 2), (2, 8, 4), "strides=[3,3]", (5, 2, 2, 1)),
    "transposed-dilated": transposed(
        (3, 4, 4), (2, 3, 10), "strides=[1,3],dilations=[2,1],pads=[3,0,2,1]", (5, 2, 3, 2)
    ),
    "transposed-cut": transposed((3, 4, 5), (2, 4, 6), "strides=[2,2],pads=[2,2,2,2]", (5, 2, 2, 2)),
    "transposed-first": Net(
        (3, 3, 3), (2, 6, 6), f"a = ConvTranspose<strides=[2,2]>(x, a_w, a_b) z = Relu(a) {SECOND}",
        {**CONV, "a_w": (3, 5, 2, 2)},
    ),
    "transposed-both": transposed(
        (3, 3), (2, 11), "strides=[2],output_padding=[1]", (5, 2, 2), "a = ConvTranspose(x, a_w, a_b)", a_w=(3, 5, 3)
    ),
}  # fmt: skip
DIFFERENT = [
    "relu",
    "depthwise",
    "leaky-relu",
    "max-pool",
    "flatten",
    "rows",
    "lopsided",
    "three-dimensional",
    "transposed-strided",
]


def found(name):
    """The one unit of a net."""
    (unit,) = units(NETS[name].model()).values()
    return unit


def biased(unit):
    return tuple(layer.shift is not None for layer in (unit.first, unit.second))


def is_derivative(given, tolerance):
    """Slope and curvature at a point near the start, along random directions and the gradient itself."""
    rng = np.random.default_rng(7)
    can = biased(given.unit)
    drawn = random_like(given.start, rng, can)
    point = [p.plus(d, 0.3 * norm(p) / norm(d)) for p, d in zip(given.start, drawn, strict=True)]
    point = [Affine(p.weights.astype(np.float32), p.bias.astype(np.float32)) for p in point]
    point = [Affine(p.weights.astype(np.float64), p.bias.astype(np.float64)) for p in point]
    loss, gradients = given.model.slope(point)
    np.testing.assert_allclose(loss, given.loss(point), rtol=1e-4)
    zero = [Affine(0 * p.weights, 0 * p.bias) for p in point]
    for k, gradient in enumerate(gradients):
        own = Affine(gradient.weights, gradient.bias * can[k])
        for direction in (own, *(random_like(point, rng, can)[k] for _ in range(3))):
            change = [*zero]
            change[k] = direction
            sides = [given.loss(p) for p in given.moved(point, change, 1e-6 * norm(point[k]) / norm(direction))]
            slope = -(sides[0] - sides[1]) / (4e-6 * norm(point[k]) / norm(direction))
            assert abs(slope - gradient.dot(direction)) <= tolerance * norm(own) * norm(direction)
    change = random_like(point, rng, can)
    change = [c.plus(c, norm(p) / norm(c) - 1) for p, c in zip(point, change, strict=True)]
    one, two = (given.residual(p) for p in given.moved(point, change))
    np.testing.assert_allclose(
        given.model.curvature(point, change), (((one - two) / 2e-6) ** 2).sum(), rtol=2 * tolerance
    )


@pytest.mark.parametrize("name", NETS)
def test_slope_and_curvature_are_those_of_the_nodes(name):
    case = NETS[name]
    is_derivative(problem(case, found(name)), case.tolerance)


def test_curvature_on_a_part_of_the_samples_stands_for_all():
    """Of batches of two and of three samples the first of each, for all five."""
    given = problem(NETS["relu"], found("relu"))
    change = random_like(given.start, np.random.default_rng(3), biased(given.unit))
    one, two = (given.residual(p)[[0, 2]] for p in given.moved(given.start, change))
    expected = (((one - two) / 2e-6) ** 2).sum() * 5 / 2
    np.testing.assert_allclose(given.model.curvature(given.start, change, every=2), expected, rtol=1e-3)


@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize("name", DIFFERENT)
def test_behind_a_relu_what_it_shuts_off_does_not_count(name, added):
    case = NETS[name]
    is_derivative(problem(case, replace(found(name), bounds=(0.0, np.inf)), added), case.tolerance)


@pytest.mark.parametrize("bounds", [(0.0, 0.4), (-0.3, 0.2), (-np.inf, 0.1)])
@pytest.mark.parametrize("added", [False, True])
def test_behind_a_clip_what_it_cuts_off_does_not_count(bounds, added):
    given = problem(NETS["relu"], found("relu"), added)
    scale = float(np.abs(given.y).mean())
    bounds = tuple(scale * bound for bound in bounds)
    is_derivative(problem(NETS["relu"], replace(given.unit, bounds=bounds), added), NETS["relu"].tolerance)


def test_what_is_added_counts_only_where_there_are_bounds():
    unit = found("relu")
    with_it, without = (problem(NETS["relu"], unit, added) for added in (True, False))
    assert with_it.model.slope(with_it.start)[0] == without.model.slope(without.start)[0]
    opened = problem(NETS["relu"], replace(unit, bounds=(0.0, np.inf)), True)
    assert opened.model.slope(opened.start)[0] < without.model.slope(without.start)[0]


@pytest.mark.parametrize("strides", [(1, 1), (3, 3)])
@pytest.mark.parametrize("name", NETS)
def test_steps_by_the_metrics_lower_the_loss(name, strides):
    given = problem(NETS[name], found(name))
    metrics = given.model.metrics(given.start, strides, (0.1, 0.1))
    assert tuple(m.biased for m in metrics) == biased(given.unit)
    assert metrics[0].outer.shape == (3, 3) and metrics[1].outer is None
    best, losses = descend(given.start, metrics, given.model.slope, given.model.curvature, 4)
    before, after = given.loss(given.start), given.loss(best)
    np.testing.assert_allclose(losses[0], before, rtol=1e-4)
    assert after < 0.95 * before


@pytest.mark.parametrize("stride", [1, 2])
def test_the_metrics_are_moments_of_what_the_layers_read(stride):
    given = problem(NETS["gemm"], found("gemm"))
    x = np.concatenate([part[::stride] for part in np.split(given.exact.inputs, [2])])
    a = x @ given.start[0].weights.T + given.start[0].bias
    dampings = (0.1, 0.2)
    metrics = given.model.metrics(given.start, (stride, stride), dampings)
    for m, features, damping in zip(metrics, (x, np.maximum(a, 0)), dampings, strict=True):
        assert m.count == len(x)
        np.testing.assert_allclose(m.mean, features.mean(0), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(m.ridge, damping * unit_penalties(features.var(0) * len(x)), rtol=1e-4)


def test_what_an_output_weighs_is_how_often_it_comes_through():
    given = problem(NETS["gemm"], found("gemm"))
    gates = given.exact.inputs @ given.start[0].weights.T + given.start[0].bias > 0
    both = gates.T.astype(float) @ gates
    rows = given.start[1].weights
    expected = rows.T @ rows * both / both.max()
    outer = given.model.metrics(given.start, (1, 1), (0.1, 0.1))[0].outer
    np.testing.assert_allclose(outer, expected + 0.1 * np.diag(np.diag(expected)), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["none", "flatten-first", "global-first"])
def test_what_has_no_slope_weighs_as_if_all_came_through(name):
    given = problem(NETS[name], found(name))
    rows = given.start[1].weights
    rows = rows.reshape(-1, 3) if name == "none" else rows.reshape(2, 3, -1).swapaxes(1, 2).reshape(-1, 3)
    outer = given.model.metrics(given.start, (1, 1), (0.1, 0.1))[0].outer
    np.testing.assert_allclose(outer, rows.T @ rows * (1 + 0.1 * np.eye(3)), rtol=1e-5, atol=1e-7)
