"""Models of which each run takes one sample, such as graph networks: samples have an axis of their own in front."""

import numpy as np
import onnx
import pytest
from chainnet import filled

from onnx_merge import inspect_model, optimize, sweep, verify
from onnx_merge.cli.main import main
from onnx_merge.errors import InputError
from onnx_merge.inputs.sample_axes import UNLIKE
from onnx_merge.runtime.session import Session

MESSAGES = """
<ir_version: 8, opset_import: ["" : OPSET]>
g (float[n,6] x, int64[2,e] edges, float[e,4] attr) => (float[n,3] y) {
    first = Constant<value = int64 {0}>()
    second = Constant<value = int64 {1}>()
    last = Constant<value_ints = [1]>()
    from = Gather<axis = 0>(edges, first)
    to = Gather<axis = 0>(edges, second)
    a = Gather<axis = 0>(x, from)
    b = Gather<axis = 0>(x, to)
    c = Concat<axis = 1>(a, b, attr)
    [message] d = MatMul(c, w1)
    m = Relu(d)
    zeros = MatMul(x, w0)
    SCATTER
    u = Concat<axis = 1>(x, sum)
    [update] h = MatMul(u, w2)
    r = Relu(h)
    [head] y = MatMul(r, w3)
}
"""
SCATTER = {
    "ScatterND": 'at = Unsqueeze(to, last)  sum = ScatterND<reduction = "add">(zeros, at, m)',
    "ScatterElements": "t = Unsqueeze(to, last)  size = Shape(m)  at = Expand(t, size)"
    '  sum = ScatterElements<axis = 0, reduction = "add">(zeros, at, m)',
}
DENSE = """
<ir_version: 8, opset_import: ["" : 11]>
g (float[n,6] x, float[n,n] adjacency) => (float[n,3] y, float[1,3] whole) {
    h = MatMul(adjacency, x)
    [first] f = MatMul(h, w1)
    r = Relu(f)
    b = MatMul(adjacency, r)
    [second] s = MatMul(b, w2)
    q = Relu(s)
    [head] y = MatMul(q, w3)
    whole = ReduceMean<axes = [0], keepdims = 1>(y)
}
"""
RNG = np.random.default_rng(0)


def messages(scatter="ScatterND", width=8):
    """A message-passing network."""
    text = MESSAGES.replace("SCATTER", SCATTER[scatter]).replace("OPSET", "18")
    sizes = {"w1": (16, width), "w2": (6 + width, 10), "w3": (10, 3)}
    model = filled(text, sizes)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros((6, width), np.float32), "w0"))
    return model


def dense():
    """A network with a dense adjacency."""
    return filled(DENSE, {"w1": (6, 16), "w2": (16, 12), "w3": (12, 3)})


def graph(nodes=7, edges=15):
    """One graph for `messages`."""
    x, attr = (RNG.standard_normal(size, np.float32) for size in ((nodes, 6), (edges, 4)))
    return {"x": x, "edges": RNG.integers(0, nodes, (2, edges)), "attr": attr}


def matrices(nodes=7):
    """One graph for `dense`."""
    adjacency = (RNG.random((nodes, nodes)) < 0.4).astype(np.float32)
    return {"x": RNG.standard_normal((nodes, 6), np.float32), "adjacency": adjacency}


def stacked(graphs):
    """Graphs of equal sizes with an axis of samples."""
    return {name: np.stack([one[name] for one in graphs]) for name in graphs[0]}


NETWORKS = {
    "ScatterND": (messages("ScatterND"), graph),
    "ScatterElements": (messages("ScatterElements"), graph),
    "dense": (dense(), matrices),
}


def declared(model):
    """The inputs and outputs."""
    return [v.SerializeToString() for v in (*model.graph.input, *model.graph.output)]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("given", ["arrays", "list", "generator", "folder", "none"])
def test_results_keep_sizes_and_run_at_others(name, given, tmp_path):
    model, draw = NETWORKS[name]
    graphs = [draw() for _ in range(60)]
    for k, one in enumerate(graphs if given == "folder" else ()):
        np.savez(tmp_path / f"{k:02}.npz", **one)
    calib = {"arrays": stacked(graphs), "list": graphs, "generator": iter(graphs), "folder": tmp_path, "none": None}
    result, found = optimize(model, keep=0.7, effort="low", calib=calib[given], gate=False)
    assert any(group.status == "shrunk" for group in found.groups)
    assert any("each run of the model takes one sample" in line for line in found.notes)
    assert found.fidelity.samples == (64 if given == "none" else 16)
    assert declared(result) == declared(model)
    assert not [n for n in result.graph.node if n.op_type == "Squeeze" or n.name.startswith("onnx_merge")]
    onnx.checker.check_model(result, full_check=True)
    before, after = Session(model), Session(result)
    for one in (draw(3), draw(19)):
        assert {n: a.shape for n, a in after.run(one).items()} == {n: a.shape for n, a in before.run(one).items()}


@pytest.mark.parametrize("name, weight", [("ScatterND", "w1"), ("ScatterND", "w2"), ("ScatterElements", "w2")])
def test_lossless_results_are_equal_at_other_sizes(name, weight):
    """The second half of a layer's channels is twice the first."""
    model = messages(name)
    tensor = next(t for t in model.graph.initializer if t.name == weight)
    half = onnx.numpy_helper.to_array(tensor)[:, : tensor.dims[1] // 2]
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.concatenate([half, 2 * half], 1), weight))
    result, found = optimize(model, lossless=True)
    assert [g.kept for g in found.groups if g.status == "shrunk"] == [half.shape[1]]
    before, after = Session(model), Session(result)
    for one in (graph(3, 4), graph(7, 15), graph(30, 80), graph(5, 0)):
        np.testing.assert_allclose(after.run(one)["y"], before.run(one)["y"], 1e-4, 1e-4)


def test_outputs_are_compared_sample_by_sample():
    model, graphs = messages(), [graph() for _ in range(60)]
    result, found = optimize(model, keep=0.6, method="merge", calib=stacked(graphs), gate=False, check_n=60)
    before, after = ([session.run(one)["y"] for one in graphs] for session in (Session(model), Session(result)))
    error, spread = np.subtract(after, before), before - np.mean(before, 0)
    assert found.fidelity.samples == 60
    np.testing.assert_allclose(found.fidelity.nsr, np.sum(error**2) / np.sum(spread**2) * 59 / 60, 1e-3)


def test_scores_of_whole_graphs_are_class_scores(tmp_path):
    model = dense()
    del model.graph.output[0]
    graphs = [matrices() for _ in range(60)]
    labels = np.array([Session(model).run(one)["whole"].argmax() for one in graphs])
    np.savez(tmp_path / "test.npz", **stacked(graphs), labels=labels)
    _, found = optimize(model, keep=0.9, effort="low", labels=tmp_path / "test.npz", gate=False)
    assert found.accuracy.before == 100 and found.accuracy.samples == 60


def test_command_line(tmp_path, capsys):
    onnx.save(messages(), tmp_path / "m.onnx")
    np.savez(tmp_path / "s.npz", **stacked([graph() for _ in range(60)]))
    made, calib = str(tmp_path / "o.onnx"), ["--calib", str(tmp_path / "s.npz")]
    run = [str(tmp_path / "m.onnx"), made, "--keep", "0.7", "--effort", "low", "--no-gate", "--benchmark", "1"]
    assert main([*run, *calib, "--save-plan", str(tmp_path / "plan.json")]) == 0
    assert "samples are x (samples, n, 6), edges (samples, 2, e), attr (samples, e, 4)" in capsys.readouterr().out
    assert main(["verify", made, "--against", str(tmp_path / "m.onnx"), *calib]) == 0
    assert "keeps what it says" in capsys.readouterr().out
    plan = ["--plan", str(tmp_path / "plan.json"), "--effort", "low", "--no-gate"]
    assert main([str(tmp_path / "m.onnx"), str(tmp_path / "p.onnx"), *plan, *calib]) == 0
    assert onnx.load(tmp_path / "p.onnx").graph == onnx.load(made).graph


@pytest.mark.parametrize("kind", ["fp16", "int8", "int8-dynamic"])
def test_other_number_formats(kind):
    model = dense()
    options = {"keep": 0.8, "effort": "low", "gate": False, "calib": stacked([matrices() for _ in range(60)])}
    result, found = optimize(model, then=kind, **options)
    assert declared(result) == declared(model) and len(found.formats) == 4
    assert all(np.isfinite(a).all() for a in Session(result).run(matrices(11)).values())
    assert verify(result, model, calib=options["calib"]).keeps


def test_sweep(tmp_path):
    calib = stacked([graph() for _ in range(60)])
    found = sweep(messages(), tmp_path, start=0.6, stop=0.8, steps=2, calib=calib, effort="low", benchmark="1")
    assert [point.status for point in found.points] == ["done", "done"] and all(p.latency for p in found.points)
    assert declared(onnx.load(tmp_path / "keep-0.60.onnx")) == declared(messages())


def test_sizes_that_the_user_gives():
    sizes = {"x": (9, 6), "edges": (2, 20), "attr": (20, 4)}
    result, found = optimize(messages(), keep=0.7, effort="low", input_shape=sizes)
    counted = 20 * 16 * 8 + 9 * (6 * 8 + 14 * 10 + 10 * 3)
    assert found.before.macs == inspect_model(messages(), input_shape=sizes).model.macs == counted
    assert verify(result, messages()).keeps
    fixed, _ = optimize(messages(), keep=0.7, effort="low", fix_shape=sizes)
    assert [d.dim_value for d in fixed.graph.input[0].type.tensor_type.shape.dim] == [9, 6]


def test_samples_that_do_not_fit(tmp_path):
    np.savez(tmp_path / "one.npz", **graph())
    with pytest.raises(InputError, match=rf"{UNLIKE}: give one for each run, x \(samples, n, 6\), edges .*--fix-shape"):
        optimize(messages(), keep=0.7, calib=tmp_path / "one.npz")
    with pytest.raises(InputError, match="samples of different shapes, .*: bring them to one size"):
        optimize(messages(), keep=0.7, calib=[graph(5), graph(6)])
    with pytest.raises(InputError, match=r"'attr' must have shape \(N, e, 4\), not \(8, 15, 3\)"):
        wrong = stacked([graph() for _ in range(8)])
        optimize(messages(), keep=0.7, calib={**wrong, "attr": wrong["attr"][..., :3]})


@pytest.mark.parametrize(
    "inputs, layer",
    [
        ("float[a,6] x, float[b,8] c", "Add(s, c)"),
        ("float[unk__1,6] x, float[unk__2,8] c", "Add(s, c)"),
        ("float[a,6] x, float[4,8] c", "Add(s, c)"),
        ("float[a,6] x, float[1,8] c", "Add(s, c)"),
        ("float[a,6] x, float[b,8] c", "Identity(s)  z = Relu(c)"),
    ],
)
def test_first_axes_that_are_the_samples_stay(inputs, layer):
    """Under names of their own, of a fixed batch, or of networks that do not read each other."""
    text = '<ir_version: 8, opset_import: ["" : 17]> g (INPUTS) => (float[a,3] yOTHER) {'.replace("INPUTS", inputs)
    text = text.replace("OTHER", ", float[b,8] z" if "z =" in layer else "")
    model = filled(
        f"{text} f = MatMul(x, w)  r = Relu(f)  s = MatMul(r, v)  q = {layer}  y = MatMul(q, o) }}",
        {"w": (6, 16), "v": (16, 8), "o": (8, 3)},
    )
    _, found = optimize(model, keep=0.6, effort="low")
    assert not any("each run of the model" in line for line in found.notes)


def unnamed(model):
    """A copy of ``model`` whose dynamic axes have no names."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for value in (*copy.graph.input, *copy.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.ClearField("dim_param")
    return copy


@pytest.mark.parametrize("name", NETWORKS)
def test_axes_without_names(name):
    model, draw = unnamed(NETWORKS[name][0]), NETWORKS[name][1]
    result, found = optimize(model, keep=0.7, effort="low", calib=stacked([draw() for _ in range(60)]), gate=False)
    assert found.fidelity.samples == 16 and declared(result) == declared(model)
    assert all(np.isfinite(a).all() for a in Session(result).run(draw(19)).values())


def test_points_of_a_cloud():
    """Rows of a single input are no samples where the outputs are of all of them together."""
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[n,3] x) => (float[1,4] y) {'
    model = filled(
        f"{text} f = MatMul(x, w)  r = Relu(f)  s = MatMul(r, v)  q = ReduceMax<axes = [0]>(s)  y = MatMul(q, o) }}",
        {"w": (3, 16), "v": (16, 8), "o": (8, 4)},
    )
    calib = RNG.standard_normal((60, 25, 3), np.float32)
    result, found = optimize(model, keep=0.6, effort="low", calib=calib, gate=False)
    assert found.fidelity.samples == 16 and Session(result).run({"x": calib[0, :9]})["y"].shape == (1, 4)


def test_samples_of_a_rank_too_many():
    """Rows that depend on no others are samples: an axis in front of them is a mistake."""
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[n,6] x, float[n,8] c) => (float[n,3] y) {'
    model = filled(
        f"{text} f = MatMul(x, w)  r = Relu(f)  s = MatMul(r, v)  q = Add(s, c)  y = MatMul(q, o) }}",
        {"w": (6, 16), "v": (16, 8), "o": (8, 3)},
    )
    calib = {"x": np.ones((60, 5, 6), np.float32), "c": np.ones((60, 5, 8), np.float32)}
    with pytest.raises(InputError, match=r"'x' must have shape \(N, 6\), not \(60, 5, 6\)"):
        optimize(model, keep=0.6, calib=calib)
