"""What a model of gradients reads, computes and refuses."""

import numpy as np
import onnx
import pytest
from gradkit import arrays_of, assert_are_slopes, doubled, start
from netkit import engine, feeds, ints, net, observer

from passes.gradients.differentiate import gradient_model
from passes.gradients.errors import NoGradientError
from passes.gradients.losses import BinaryDivergence, KullbackLeibler, RecordedStatistics, SquaredError
from passes.graph.model import Graph


def graph_of(model):
    return Graph(model, engine=engine, observer=observer)


def dense(opset=17):
    return net(
        """net (float[N,6] x) => (float[N,3] y) {
            a = Gemm(x, w1, b1)  h = Relu(a)  g = Sigmoid(h)  m = Mul(h, g)  y = Gemm(m, w2, b2)
        }""",
        opset,
        w1=(6, 5), b1=(5,), w2=(5, 3), b2=(3,),
    )  # fmt: skip


def names(values):
    return [v.name for v in values]


@np.errstate(invalid="ignore")  # BLAS kernels may compute with what lies beyond the end of a small array
def by_hand(values, seed):
    """Gradients of <seed, y> in `dense`."""
    a = values["x"] @ values["w1"] + values["b1"]
    h = np.maximum(a, 0)
    g = 1 / (1 + np.exp(-h))
    m = h * g
    dm = seed @ values["w2"].T
    dh = dm * (g + h * g * (1 - g))
    da = dh * (a > 0)
    return {
        "w2": m.T @ seed,
        "b2": seed.sum(0),
        "h": dh,
        "w1": values["x"].T @ da,
        "b1": da.sum(0),
        "x": da @ values["w1"].T,
    }


@pytest.mark.parametrize("batch", [1, 5])
def test_seeds(batch):
    model = dense()
    made = gradient_model(graph_of(model), ["w1", "x", "h", "w2", "b1", "b2"], seeded=["y"], kept=["y", "m"])
    onnx.checker.check_model(made.model, full_check=True)
    assert names(made.model.graph.input) == ["x", "w1", "w2", "b1", "b2", made.seeds["y"]]
    assert names(made.model.graph.output) == ["y", "m", *made.gradients.values()]
    values = {**arrays_of(model), **feeds(model, batch)}
    seed = np.random.default_rng(0).standard_normal((batch, 3)).astype(np.float32)
    found = start(made.model)({**values, made.seeds["y"]: seed})
    for name, expected in by_hand(values, seed).items():
        np.testing.assert_allclose(found[made.gradients[name]], expected, rtol=1e-4, atol=1e-6)


def test_a_segment_starts_at_its_sources():
    model = dense()
    made = gradient_model(graph_of(model), ["w2"], seeded=["y"], sources=["h", "b2"])
    assert names(made.model.graph.input) == ["h", "b2", "w2", made.seeds["y"]]
    assert [n.op_type for n in made.model.graph.node][:3] == ["Sigmoid", "Mul", "Gemm"]
    assert "w1" not in names(made.model.graph.initializer)


def test_forward_nodes_stand_once_and_only_the_way_is_differentiated():
    made = gradient_model(graph_of(dense()), ["w2"], seeded=["y"], kept=["y"])
    kinds = [n.op_type for n in made.model.graph.node]
    assert kinds.count("Relu") == kinds.count("Sigmoid") == 1
    assert kinds.count("Gemm") == 3  # two layers, and the gradient of the second's weights
    made = gradient_model(graph_of(dense()), ["w2"], seeded=["y"])
    assert len(made.model.graph.initializer) == 3  # w2 is given


def loss_of(model, loss, extra):
    model = doubled(model)
    made = gradient_model(graph_of(model), ["x", "w1"], losses=[loss])
    values = {n: v.astype(np.float64) for n, v in {**arrays_of(model), **feeds(model), **extra}.items()}
    run = start(made.model)
    found = run(values)

    def value(given):
        return float(run(given)[made.losses[0]])

    assert_are_slopes({n: found[made.gradients[n]] for n in ("x", "w1")}, value, values, 1e-6)
    return value(values), start(model)(feeds(model))["y"].astype(np.float64)


@pytest.mark.parametrize("weight", [None, "u"])
def test_squared_error(weight):
    target, u = np.float32([[1, 2, 3], [0, 1, 0]]), np.float32([[1, 0, 2]])
    found, y = loss_of(dense(), SquaredError("y", "t", weight), {"t": target, "u": u})
    np.testing.assert_allclose(found, 0.5 * np.sum((y - target) ** 2 * (1 if weight is None else u)), rtol=1e-5)


@pytest.mark.parametrize("weight", [None, "u"])
def test_divergence_of_logits(weight):
    target, u = np.float32([[0.2, 0.8, 0], [0.1, 0.5, 0.4]]), np.float32([[2], [0.5]])
    found, y = loss_of(dense(), KullbackLeibler("y", "t", weight), {"t": target, "u": u})
    p = np.exp(y) / np.exp(y).sum(1, keepdims=True)
    each = np.sum(target * (np.log(np.maximum(target, 1e-12)) - np.log(p)), 1)
    np.testing.assert_allclose(found, np.sum(each * (1 if weight is None else u[:, 0])), rtol=1e-4)


def test_divergence_of_probabilities():
    model = dense()
    model.graph.node[-1].output[0] = "z"
    model.graph.node.append(onnx.helper.make_node("Softmax", ["z"], ["y"], axis=1))
    target = np.float32([[0.2, 0.8, 0], [0.1, 0.5, 0.4]])
    found, p = loss_of(model, KullbackLeibler("y", "t", axis=1, probabilities=True), {"t": target})
    np.testing.assert_allclose(found, np.sum(target * (np.log(np.maximum(target, 1e-12)) - np.log(p))), rtol=1e-4)


def test_divergence_of_each_element():
    target, u = np.float32([[0.2, 1, 0], [0.1, 0.5, 0.4]]), np.float32([[1, 2, 0.5], [0, 1, 1]])
    found, y = loss_of(dense(), BinaryDivergence("y", "t", "u"), {"t": target, "u": u})
    p = 1 / (1 + np.exp(-y))
    sides = [(target, p), (1 - target, 1 - p)]
    each = sum(t * (np.log(np.maximum(t, 1e-12)) - np.log(q)) for t, q in sides)
    np.testing.assert_allclose(found, np.sum(u * each), rtol=1e-4)


@pytest.mark.parametrize("dead", [0.0, 0.3])
def test_deviation_from_recorded_statistics(dead):
    mean, variance = np.array([0.5, -1.0, 0.2]), np.array([2.0, 0.5, 0.1])
    loss = RecordedStatistics("y", mean, variance, 2, dead, 1e-3)
    found, y = loss_of(dense(), loss, {})
    s = (y.var(0) + 1e-3 * variance) / (1.001 * variance)
    each = np.square(y.mean(0) - mean) / variance + np.square(np.log(s)) / 4
    np.testing.assert_allclose(found, each[variance > dead * 2].mean(), rtol=1e-4)


def test_losses_and_seeds_add_up():
    model = dense()
    values = {**arrays_of(model), **feeds(model), "t": np.zeros((2, 3), np.float32), "r": np.ones((2, 5), np.float32)}
    seed = np.ones((2, 3), np.float32)
    every = {"seeded": ["y"], "losses": [SquaredError("y", "t"), SquaredError("h", "r")]}

    def found(**how):
        made = gradient_model(graph_of(model), ["w1"], **how)
        run = start(made.model)({**values, **dict.fromkeys(made.seeds.values(), seed)})
        return run[made.gradients["w1"]]

    parts = [found(seeded=["y"]), *(found(losses=[loss]) for loss in every["losses"])]
    np.testing.assert_allclose(found(**every), sum(parts), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16])
def test_half_precision_becomes_single(kind):
    model = net(
        "net (float[N,6] x) => (float[N,3] y) {"
        f" a = Cast<to={kind}>(x)  h = MatMul(a, w)  s = Relu(h)  c = Cast<to=1>(s)  y = MatMul(c, v) }}",
        w=(6, 5), v=(5, 3),
    )  # fmt: skip
    half = model.graph.initializer[0]
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
    half.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(half).astype(dtype), "w"))
    graph = Graph(model, observer=lambda *_: {"h": (2, 5), "s": (2, 5), "a": (2, 6), "c": (2, 5), "y": (2, 3)})
    made = gradient_model(graph, ["w", "x"], seeded=["s"], kept=["h"])
    onnx.checker.check_model(made.model, full_check=True)
    values = {**feeds(model), "w": onnx.numpy_helper.to_array(half).astype(np.float32)}
    seed = np.ones((2, 5), np.float32)
    found = start(made.model)({**values, made.seeds["s"]: seed})
    mask = values["x"] @ values["w"] > 0
    np.testing.assert_allclose(found[made.gradients["w"]], values["x"].T @ mask, rtol=1e-5, atol=1e-6)
    assert {v.dtype for v in found.values()} == {np.dtype(np.float32)}


def of(nodes, wrt=("x",), opset=17, inputs="float[2,6] x", shapes=(), **weights):
    model = net(f"net ({inputs}) => (float[] y) {{ {nodes} }}", opset, 10, **weights)
    graph = Graph(model, engine=engine, observer=lambda *given: dict(shapes) or observer(*given))
    return model, gradient_model(graph, list(wrt), seeded=["y"])


def run_at(model, made):
    values = {**arrays_of(model), **feeds(model)}
    seed = np.ones_like(start(model)(values)["y"])
    found = start(made.model)({**values, made.seeds["y"]: seed})
    return {name: found[given] for name, given in made.gradients.items()}


def test_integers_pass_no_gradient():
    """A mask and a number of the data are no way to a gradient; what else there is, is."""
    model, made = of("c = Greater(x, k)  n = Cast<to=1>(c)  i = Shape(x)  f = Cast<to=1>(i)  s = ReduceSum(f)  "
                     "z = Mul(n, x)  y = Mul(z, s)", k=(6,))  # fmt: skip
    x = feeds(model)["x"]
    np.testing.assert_allclose(run_at(model, made)["x"], (x > arrays_of(model)["k"]) * 8.0)


def test_steps_have_a_gradient_of_zero():
    model, made = of("y = Floor(x)")
    np.testing.assert_array_equal(run_at(model, made)["x"], np.zeros((2, 6)))


def test_a_tensor_that_no_way_leads_from():
    with pytest.raises(NoGradientError, match="k has no gradient: no differentiated output depends on it"):
        of("i = ArgMax(x)  f = Cast<to=1>(i)  s = Mul(f, k)  y = Neg(x)", ["x", "k"], k=())
    with pytest.raises(NoGradientError, match="x has no gradient: no differentiated output depends on it"):
        of("i = ArgMax(x)  y = Cast<to=1>(i)")


@pytest.mark.parametrize(
    ("nodes", "reason", "more"),
    [
        ("y = custom.Foo(x)", r"y \(Foo\) has no gradient rule", {"shapes": {"y": (2, 6)}}),
        ("u = Unsqueeze(x, z)  y, h = GRU<hidden_size=4>(u, w, r)", r"y \(GRU\) runs along time",
         {"z": ints(1), "w": (1, 12, 6), "r": (1, 12, 4)}),
        ("y = Clip(x, k)", r"y \(Clip\) has no gradient with respect to its bounds", {"k": (), "wrt": ["k"]}),
        ("n = ReduceSum(x, o)  i = Cast<to=7>(n)  m = Abs(i)  e = Mul(m, z)  y = ReduceMax(x, e)",
         r"y \(ReduceMax\) has no gradient where its axes are computed",
         {"o": ints(0, 1), "z": ints(0), "shapes": {"y": (1, 6)}, "opset": 18}),
        ("y = Einsum<equation=\"ii->i\">(q)", r"y \(Einsum\) has no gradient where it takes a diagonal",
         {"inputs": "float[3,3] q", "wrt": ["q"]}),
    ],
)  # fmt: skip
def test_refusals_name_the_node(nodes, reason, more):
    with pytest.raises(NoGradientError, match=reason) as caught:
        of(nodes, **more)
    assert caught.value.reason.kind == "operator"


def test_control_flow_has_no_gradient():
    model = net("net (float[2,6] x) => (float[] y) { s = ReduceSum(x)  c = Greater(s, k)  y = If(c) <"
                "then_branch = one () => (float[2,6] p) { p = Neg(x) }, "
                "else_branch = two () => (float[2,6] q) { q = Identity(x) }> }", 13, 10, k=())  # fmt: skip
    graph = Graph(model, engine=engine, observer=lambda *_: {"y": (2, 6)})
    with pytest.raises(NoGradientError, match=r"y \(If\) has no gradient rule"):
        gradient_model(graph, ["x"], seeded=["y"])


@pytest.mark.parametrize("first", [1, -5])
def test_a_part_that_starts_at_a_computed_place(first):
    model, made = of("n = ReduceMax<keepdims=0>(i)  m = Unsqueeze(n, z)  y = Slice(x, m, hi, ax)",
                     inputs="float[2,6] x, int64[2] i", z=ints(0), hi=ints(5), ax=ints(1),
                     shapes={"n": (), "m": (1,), "y": (2, 4)})  # fmt: skip
    values = {"x": np.ones((2, 6), np.float32), "i": ints(first, -9), made.seeds["y"]: np.ones((2, 4), np.float32)}
    found = start(made.model)(values)[made.gradients["x"]]
    np.testing.assert_array_equal(found, [[0, 1, 1, 1, 1, 0]] * 2)


def test_computed_widths_of_a_border():
    model, made = of("y = Pad(x, p)", inputs="float[2,6] x, int64[4] p", shapes={"y": (3, 7)})
    values = {"x": np.ones((2, 6), np.float32), "p": ints(1, -1, 0, 2)}
    seed = np.arange(21, dtype=np.float32).reshape(3, 7)
    found = start(made.model)({**values, made.seeds["y"]: seed})[made.gradients["x"]]
    np.testing.assert_array_equal(found, np.pad(seed[1:, :5], ((0, 0), (1, 0))))


def test_dynamic_sizes():
    """Places that vary: the padding of a strided layer is found at run time."""
    model = net(
        """net (float[N,3,H,W] x) => (float[N,4,P,Q] y) {
            c = Conv<strides=[2,2], pads=[1,1,1,1]>(x, w)  p = MaxPool<kernel_shape=[2,2], strides=[1,1]>(c)
            d = ConvTranspose<strides=[2,2]>(p, v)  q = Slice(d, lo, hi, ax)  j = Concat<axis=2>(q, q)
            y = Resize(j, , s)
        }""",
        w=(4, 3, 3, 3), v=(4, 4, 2, 2), lo=ints(1), hi=ints(2**31 - 1), ax=ints(3), s=np.float32([1, 1, 2, 2]),
    )  # fmt: skip
    sizes = [{"x": (2, 3, 8, 8)}, {"x": (3, 3, 11, 12)}]

    def shapes(model, given, wanted):
        whole = onnx.ModelProto.FromString(model.SerializeToString())
        whole.graph.output.extend(onnx.ValueInfoProto(name=n) for n in wanted if n != "y")
        return {n: v.shape for n, v in start(whole)({"x": np.zeros(given["x"], np.float32)}).items()}

    made = gradient_model(
        Graph(model, sizes, observer=shapes, engine=engine), ["x", "w", "v"], seeded=["y"], kept=["y"]
    )
    run, rng = start(made.model), np.random.default_rng(1)
    for size in ((1, 3, 9, 10), (2, 3, 12, 7)):
        values = {**arrays_of(model), "x": rng.standard_normal(size).astype(np.float32)}
        y = start(model)(values)["y"]
        seed = rng.standard_normal(y.shape).astype(np.float32)
        values[made.seeds["y"]] = seed
        found = run(values)

        def value(given, seed=seed):
            return float(np.sum(run(given)["y"].astype(np.float64) * seed))

        assert_are_slopes({n: found[made.gradients[n]] for n in ("x", "w", "v")}, value, values, 2e-2, 1e-3)


def test_an_opset_without_the_operator_of_a_gradient():
    model = net(
        "net (float[N,6,4,4] x) => (float[N,3,1,1] y) { h = Conv(x, w)  y = GlobalAveragePool(h) }", 7, w=(3, 6, 1, 1)
    )
    with pytest.raises(NoGradientError, match="its gradient needs Expand of opset 8"):
        gradient_model(graph_of(model), ["w"], seeded=["y"])
