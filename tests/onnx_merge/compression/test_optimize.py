"""`optimize` from Python: results, files written, files not written, and messages."""

import dataclasses
import errno
import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from chainnet import chain, filled
from optimiser_breaks import network_the_optimiser_breaks

import onnx_merge
from onnx_merge.compression import optimize as optimize_module
from onnx_merge.compression.job import Job
from onnx_merge.compression.optimize import optimize
from onnx_merge.errors import (
    FidelityError,
    InputError,
    NotCompressibleError,
    OnnxMergeError,
    StructureError,
    UsageError,
)
from onnx_merge.inputs.shape_observer import RunObserver
from onnx_merge.io import load, save
from onnx_merge.runtime.session import Session

MODELS = Path(__file__).parents[3] / "models"


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "in.onnx"
    onnx.save(chain(), path)
    return path


def sha(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def shapes(model):
    return {t.name: tuple(t.dims) for t in model.graph.initializer}


def test_a_layer_that_nobody_uses_goes(source):
    """As where a user took an output from the model."""
    model = onnx.load(source)
    weight = np.ones((4, 4), np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "unused"))
    model.graph.node.add(op_type="MatMul", input=[model.graph.output[0].name, "unused"], output=["nowhere"])
    made, result = optimize(model, keep=0.5, method="merge")
    assert "unused" not in shapes(made) and result.after.params < result.before.params


def test_a_file_becomes_a_smaller_file(source, tmp_path):
    before = sha(source)
    model, result = optimize(source, tmp_path / "out.onnx", keep=0.5, allocation="uniform")
    assert shapes(model)["w1"] == (4, 3, 3, 3) and shapes(model)["w2"] == (6, 4, 3, 3) and shapes(model)["w3"] == (4, 6)
    assert names(tmp_path) == ["in.onnx", "out.onnx"]
    assert sha(source) == before == result.input.sha256
    assert sha(tmp_path / "out.onnx") == result.output.sha256
    assert (result.input.path, result.output.path) == (str(source), str(tmp_path / "out.onnx"))
    assert result.before.bytes == source.stat().st_size
    assert result.after.bytes == (tmp_path / "out.onnx").stat().st_size < result.before.bytes
    assert result.before.params == 8 * 27 + 8 + 12 * 72 + 12 + 48 + 4
    assert result.after.params == 4 * 27 + 4 + 6 * 36 + 6 + 24 + 4
    assert result.after.macs == 64 * (4 * 27 + 6 * 36) + 24
    assert [(g.name, g.size, g.kept, g.status) for g in result.groups] == [
        ("first", 8, 4, "shrunk"),
        ("second", 12, 6, "shrunk"),
        ("head", 4, 4, "frozen"),
    ]
    assert result.groups[0].consumers == ("second",) and str(result.groups[2].reason) == "y is a graph output"
    assert result.fidelity.samples == 64 and result.fidelity.source == "random"
    assert -1 <= result.fidelity.cosine < 1
    assert result.accuracy is None and result.argv == ()
    assert [note.partition(" until")[0] for note in result.notes] == ["made-up samples were moved"]
    assert set(result.seconds) >= {"load", "plan", "check", "save", "total"}


def test_a_model_in_memory_needs_no_disk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = chain()
    content = model.SerializeToString()
    smaller, result = optimize(model, keep=0.5)
    assert model.SerializeToString() == content
    assert names(tmp_path) == []
    assert result.input.path is None and result.input.sha256 == hashlib.sha256(content).hexdigest()
    assert result.output.path is None
    assert result.output.sha256 == hashlib.sha256(smaller.SerializeToString()).hexdigest()
    assert result.after.bytes == smaller.ByteSize()


def test_a_model_in_memory_can_be_saved(tmp_path):
    optimize(chain(), str(tmp_path / "model.onnx"), keep=0.5, method="merge")
    assert names(tmp_path) == ["model.onnx"]
    with pytest.raises(UsageError, match="name a file in it, such as .*model.onnx"):
        optimize(chain(), tmp_path, keep=0.5)


def test_the_package_gives_the_function_whatever_was_imported_before():
    assert onnx_merge.optimize is optimize
    assert onnx_merge.Options.__name__ == "Options" and issubclass(onnx_merge.UsageError, onnx_merge.OnnxMergeError)
    assert {"optimize", "Result", "errors"} <= set(dir(onnx_merge))
    with pytest.raises(AttributeError, match="no attribute 'optimise'"):
        _ = onnx_merge.optimise


def test_keep_1_writes_an_unchanged_copy(source, tmp_path):
    model, result = optimize(source, tmp_path / "out.onnx", keep=1, provenance=False)
    assert onnx.load(tmp_path / "out.onnx") == model == onnx.load(source)
    assert result.fidelity.cosine == 1.0 and result.fidelity.relative_l2 == 0.0
    assert {g.status for g in result.groups} == {"kept", "frozen"}
    assert (result.before.params, result.before.nodes) == (result.after.params, result.after.nodes)


def test_that_nothing_shrinks_is_an_error_with_its_reason(source, tmp_path):
    cases = {
        "no group can lose a block of 32 channels at this share: use a smaller --keep or --align 1": {
            "keep": 0.9,
            "align": 32,
            "allocation": "uniform",
            "method": "prune",
        },
        "too small to lose a channel": {"keep": 0.99},
        "no channel is free": {"lossless": True},
        "excluded by '.*': exclude less": {"keep": 0.5, "exclude": ".*"},
    }
    for reason, options in cases.items():
        with pytest.raises(NotCompressibleError, match=reason.replace("*", r"\*").replace(".", r"\.", 1)) as caught:
            optimize(source, tmp_path / "out.onnx", report=tmp_path / "r.json", **options)
        assert caught.value.exit_code == 4
    assert names(tmp_path) == ["in.onnx"]


@pytest.mark.parametrize(
    ("text", "sizes", "reason"),
    [
        ("g (float[N,3] x) => (float[N,4] y) { y = MatMul(x, w) }", {"w": (3, 4)}, "y: y is a graph output"),
        ("g (float[N,3] x) => (float[N,3] y) { y = Relu(x) }", {}, "the model has no layer with weights"),
        (
            "g (float[N,1,6] x) => (float[N,5] y) { c = Conv(x, k)  f = Flatten(c)  y = MatMul(f, w) }",
            {"k": (1, 1, 3), "w": (4, 5)},
            r"y: y is a graph output; in no group: c \(Conv\) makes a single channel",
        ),
    ],
)
def test_models_in_which_nothing_can_go(text, sizes, reason):
    with pytest.raises(NotCompressibleError, match=reason):
        optimize(filled(f'<ir_version: 8, opset_import: ["" : 17]> {text}', sizes), keep=0.5)


def test_shapes_from_before_the_batch_was_made_dynamic_do_not_count():
    """Inner tensors still say that the batch is one."""
    model = chain()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    model = onnx.shape_inference.infer_shapes(model)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    smaller, result = optimize(model, keep=0.5, method="merge")
    assert [(g.kept, g.status) for g in result.groups] == [
        (g.kept, g.status) for g in optimize(chain(), keep=0.5, method="merge")[1].groups
    ]
    described = [*smaller.graph.value_info, *smaller.graph.output]
    assert described and all(v.type.tensor_type.shape.dim[0].dim_param == "N" for v in described)


def test_lossless_takes_what_is_free():
    model = chain()
    weight = onnx.numpy_helper.to_array(model.graph.initializer[0]).copy()
    bias = onnx.numpy_helper.to_array(model.graph.initializer[1]).copy()
    weight[5], bias[5] = 2 * weight[1], 2 * bias[1]
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weight, "w1"))
    model.graph.initializer[1].CopyFrom(onnx.numpy_helper.from_array(bias, "b1"))
    smaller, result = optimize(model, lossless=True)
    assert shapes(smaller)["w1"] == (7, 3, 3, 3)
    assert result.fidelity.relative_l2 < 1e-5
    assert result.groups[0].method == "lossless"


def test_the_amount_may_be_said_for_some_layers_only():
    first = optimize(chain(), keep_layer={"^first$": 0.5}, effort="low")[1].groups[0]
    assert (first.kept, first.method) == (4, "reconstruct")


def test_layers_can_have_other_shares_or_none():
    result = optimize(chain(), keep=0.5, keep_layer={"second": 0.25}, exclude="first", method="merge")[1]
    assert [(g.kept, g.status) for g in result.groups[:2]] == [(8, "excluded"), (3, "shrunk")]
    for options in ({"exclude": "absent"}, {"keep_layer": {"absent": 0.5}}):
        with pytest.raises(UsageError, match="'absent' matches no layer"):
            optimize(chain(), keep=0.5, **options)


def test_coupled_groups_can_be_left_alone():
    model = onnx.load(MODELS / "digits_cnn.onnx")
    result = optimize(model, keep=0.9, coupled=False, method="merge")[1]
    assert "excluded" in {g.status for g in result.groups}
    assert "excluded" not in {g.status for g in optimize(model, keep=0.9, method="merge")[1].groups}


def test_methods_and_criteria():
    outputs = {}
    criteria = ({"select": select, "effort": "low"} for select in ("l2", "reprune", "reprune-kernel"))
    for options in ({}, {"method": "prune"}, *criteria):
        model, result = optimize(chain(), keep=0.5, allocation="uniform", **options)
        outputs[str(options)] = model.SerializeToString()
        assert result.groups[0].kept == 4
    assert len(set(outputs.values())) > 1
    assert optimize(chain(), keep=0.5, allocation="uniform")[0].SerializeToString() == outputs["{}"]


def test_labels_give_accuracy_and_samples():
    labels = MODELS / "digits_test.npz"
    result = optimize(MODELS / "digits_cnn.onnx", keep=0.9, labels=labels, check_n=50, method="merge")[1]
    assert result.accuracy.before == pytest.approx(99.6) and result.accuracy.samples == 500
    assert 0 <= result.accuracy.after <= 100
    assert result.fidelity.samples == 50 and result.fidelity.source == f"labels {labels}"
    assert result.fidelity.top1_agreement is not None


def test_samples_without_labels():
    path = MODELS / "digits_calib.npz"
    result = optimize(MODELS / "digits_mlp.onnx", keep=0.9, calib=str(path), method="merge")[1]
    assert result.accuracy is None and result.fidelity.source == f"calib {path}"
    with pytest.raises(UsageError, match="holds no labels"):
        optimize(MODELS / "digits_mlp.onnx", keep=0.9, labels=path)


def test_bad_samples_are_found_before_the_work(source, tmp_path, monkeypatch):
    monkeypatch.setattr(Job, "compress", None)
    np.savez(tmp_path / "s.npz", x=np.zeros((2, 3, 9, 9), np.float32), y=np.zeros(2))
    with pytest.raises(InputError, match="must have shape"):
        optimize(source, keep=0.5, labels=tmp_path / "s.npz")
    np.savez(tmp_path / "s.npz", x=np.zeros((2, 3, 8, 8), np.float32), y=np.array([0, 4]))
    with pytest.raises(UsageError, match="class numbers from 0 to 3, found 4$"):
        optimize(source, keep=0.5, labels=tmp_path / "s.npz")
    np.savez(tmp_path / "s.npz", x=np.zeros((2, 3, 8, 8), np.float32), y=np.array([-1, 2]))
    with pytest.raises(UsageError, match="found -1: leave out the samples without a label"):
        optimize(source, keep=0.5, labels=tmp_path / "s.npz")
    with pytest.raises(InputError, match="does not exist"):
        optimize(source, keep=0.5, calib=tmp_path / "none.npz")
    with pytest.raises(UsageError, match="the model knows only"):
        optimize(source, keep=0.5, input_shape={"z": (1, 3, 8, 8)})


def test_the_gate_sends_the_model_elsewhere(source, tmp_path):
    out, report = tmp_path / "out.onnx", tmp_path / "r.json"
    with pytest.raises(FidelityError, match=r"cosine of the outputs is 0\.\d+, below --min-cosine 0.99999") as caught:
        optimize(source, out, keep=0.3, min_cosine=0.99999, report=report, method="merge")
    assert caught.value.exit_code == 3
    assert names(tmp_path) == ["in.onnx", "out.rejected.onnx", "r.json"]
    onnx.checker.check_model(str(tmp_path / "out.rejected.onnx"))
    assert "out.rejected.onnx" in report.read_text()
    with pytest.raises(FidelityError):
        optimize(source, keep=0.3, min_cosine=0.99999, method="merge")
    optimize(source, out, keep=0.3, min_cosine=-1, method="merge")
    assert "out.onnx" in names(tmp_path)


def test_the_gate_on_classes():
    with pytest.raises(FidelityError, match="top class stays the same"):
        optimize(chain(), keep=0.1, method="merge", min_top1=1)
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[N,3] x) => (float[N,1] y) { h = MatMul(x, w)  y = MatMul(h, v) }"""
    with pytest.raises(UsageError, match="use --max-nsr"):
        optimize(filled(text, {"w": (3, 8), "v": (8, 1)}), keep=0.5, min_top1=0.5)


def test_the_gate_does_not_replace_the_input(tmp_path):
    onnx.save(chain(), tmp_path / "a.rejected.onnx")
    with pytest.raises(UsageError, match="is the input itself"):
        optimize(tmp_path / "a.rejected.onnx", tmp_path / "a.onnx", keep=0.5, min_cosine=0.5)


def test_a_dry_run_writes_the_report_only(source, tmp_path):
    given = {"dry_run": True, "method": "merge"}
    _, result = optimize(source, tmp_path / "out.onnx", keep=0.5, report=tmp_path / "r.json", **given)
    assert result.output.path is None and result.after.params < result.before.params
    assert names(tmp_path) == ["in.onnx", "r.json"]
    with pytest.raises(FidelityError):
        optimize(source, tmp_path / "out.onnx", keep=0.3, min_cosine=1, **given)
    assert names(tmp_path) == ["in.onnx", "r.json"]


def test_an_unsound_result_is_not_written(source, tmp_path, monkeypatch):
    honest = Job.compress

    def broken(job, settings):
        compressed = honest(job, settings)
        del compressed.model.graph.initializer[0]
        return compressed

    monkeypatch.setattr(Job, "compress", broken)
    with pytest.raises(StructureError):
        optimize(source, tmp_path / "out.onnx", keep=0.5, method="merge", report=tmp_path / "r.json")
    assert names(tmp_path) == ["in.onnx"]


@pytest.mark.parametrize("options", [{"lossless": True}, {"keep": 1}])
def test_what_was_to_lose_nothing_and_moved_is_not_written(options, source, tmp_path, monkeypatch):
    honest = Job.compress

    def moved(job, settings):
        compressed = honest(job, settings)
        plan = next(p for p in compressed.plans if not p.group.frozen)
        compressed.plans[compressed.plans.index(plan)] = dataclasses.replace(plan, keep=plan.keep[:-1])
        for tensor in compressed.model.graph.initializer:
            if len(tensor.dims) > 1:
                array = onnx.numpy_helper.to_array(tensor) * 1.001
                tensor.CopyFrom(onnx.numpy_helper.from_array(array.astype(np.float32), tensor.name))
        return compressed

    monkeypatch.setattr(Job, "compress", moved)
    with pytest.raises(StructureError, match="is the first that moved"):
        optimize(source, tmp_path / "out.onnx", report=tmp_path / "r.json", **options)
    assert names(tmp_path) == ["in.onnx"]


def test_a_full_disk_leaves_nothing(source, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    before = sha(source)
    monkeypatch.setattr(save.os, "fsync", full)
    with pytest.raises(OnnxMergeError, match="the disk is full"):
        optimize(source, tmp_path / "out.onnx", keep=0.5, method="merge")
    assert names(tmp_path) == ["in.onnx"] and sha(source) == before


def test_existing_files_are_replaced_only_if_asked(source, tmp_path):
    (tmp_path / "out.onnx").write_text("precious")
    with pytest.raises(UsageError, match="--force"):
        optimize(source, tmp_path / "out.onnx", keep=0.5)
    assert (tmp_path / "out.onnx").read_text() == "precious"
    optimize(source, tmp_path / "out.onnx", keep=0.5, method="merge", force=True)
    onnx.checker.check_model(str(tmp_path / "out.onnx"))


def test_external_data_is_read_and_protected(source, tmp_path, monkeypatch):
    path = tmp_path / "ext.onnx"
    onnx.save(chain(), path, save_as_external_data=True, location="w.data", size_threshold=0)
    with pytest.raises(UsageError, match="would overwrite"):
        optimize(path, tmp_path / "w.data", keep=0.5, force=True)
    plain = [t.raw_data for t in optimize(source, keep=0.5, effort="low")[0].graph.initializer]
    assert [t.raw_data for t in optimize(path, keep=0.5, effort="low")[0].graph.initializer] == plain
    # As if the weights were too large for one file: they are loaded all the same.
    monkeypatch.setattr(load, "PROTOBUF_LIMIT", path.stat().st_size + 10)
    assert [t.raw_data for t in optimize(path, keep=0.5, effort="low")[0].graph.initializer] == plain
    with pytest.raises(InputError, match="give the path of the model"):
        optimize(onnx.load(path, load_external_data=False), keep=0.5)


def test_a_model_in_memory_must_be_sound():
    model = chain()
    model.graph.node[1].input[0] = "nowhere"
    with pytest.raises(InputError, match="the model is not valid: .*nowhere"):
        optimize(model, keep=0.5)


def test_a_model_that_does_not_run_here_is_compressed_unchecked_where_that_is_asked_for():
    model = chain()
    model.opset_import.add(domain="their.own", version=1)
    model.graph.node[-1].output[0] = "z"
    model.graph.node.append(onnx.helper.make_node("Strange", ["z"], ["y"], domain="their.own"))
    _, result = optimize(model, keep=0.5, unverified=True)
    assert result.fidelity is None and any("outputs were not compared" in note for note in result.notes)
    assert result.groups[0].kept == 4
    for options in ({}, {"unverified": True, "min_cosine": 0.5}):
        with pytest.raises(InputError, match="onnxruntime does not know their.own:Strange: give .* --custom-ops"):
            optimize(model, keep=0.5, **options)


@pytest.mark.parametrize("batch", ["N", "1", "3"])
def test_random_samples_suit_the_batch(batch):
    """A fixed batch does not limit their number, nor does one that is called dynamic and is not."""
    rows = 1 if batch == "N" else int(batch)
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    g (float[{batch},3] x) => (float[{batch},2] y) <int64[2] s = {{{rows}, 8}}> {{
        h = MatMul(x, w)  r = Relu(h)  q = Reshape(r, s)  y = MatMul(q, v) }}"""
    shape = {"x": (rows, 3)}
    result = optimize(filled(text, {"w": (3, 8), "v": (8, 2)}), keep=0.5, effort="low", check_n=10, input_shape=shape)[
        1
    ]
    assert result.fidelity.samples == 10 and result.groups[0].kept == 4


@pytest.mark.parametrize("shape", ["[1]", "[N]", "[N,1]"])
def test_a_number_beside_the_batch_does_not_limit_the_samples(shape):
    """Such as a temperature, which may be declared as one value."""
    text = f"""<ir_version: 8, opset_import: ["" : 17]> g (float[N,3] x, float{shape} t) => (float[A,B] y) {{
        h = MatMul(x, w)  r = Relu(h)  q = MatMul(r, v)  u = Reshape(t, column)  y = Mul(q, u) }}"""
    model = filled(text, {"w": (3, 8), "v": (8, 2)})
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([-1, 1]), "column"))
    samples = {"x": np.random.default_rng(0).standard_normal((80, 3), np.float32)}
    samples["t"] = np.linspace(0.5, 2, 80, dtype=np.float32).reshape((80, 1) if shape == "[N,1]" else -1)
    for calib in (None, samples):
        result = optimize(model, calib=calib, keep=0.5, effort="low", gate=False)[1]
        assert result.fidelity.samples > 9 and result.groups[0].kept == 4


def test_the_observer_reads_shapes_off_a_run():
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[N,3] x) => (float[K,2] y) { z = NonZero(x)  t = Transpose<perm = [1,0]>(z)  y = Cast<to = 1>(t) }"""
    model = onnx.parser.parse_model(text)
    observer = RunObserver()
    found = observer(model, {"x": (4, 3)}, ["z", "t", "y"])
    assert found == {"z": (2, 12), "t": (12, 2), "y": (12, 2)}
    assert [o.name for o in model.graph.output] == ["y"]


@pytest.mark.parametrize(
    "body",
    [
        """a = MatMul(x, w)  r = Relu(a)  t = Transpose<perm = [1,2,0]>(r)
           c = Conv(t, c_w)  y = Transpose<perm = [2,0,1]>(c)""",
        """s = Shape(x)  n = Gather(s, one)  p = Range(zero, n, one)  f = Cast<to = 1>(p)  u = Unsqueeze(f, axis)
           e = MatMul(u, e_w)  m = MatMul(x, w)  a = Add(m, e)  r = Relu(a)  y = MatMul(r, v)""",
    ],
)
def test_multiply_adds_of_the_result_are_counted_as_those_of_the_original(body):
    """Those of time-first sequences behind a convolution, whose batch is the second axis, and of positions."""
    text = f'<ir_version: 8, opset_import: ["" : 17]> g (float[N,L,3] x) => (float[A,B,2] y) {{ {body} }}'
    given = {"w": (3, 8), "v": (8, 2), "e_w": (1, 8), "c_w": (2, 8, 1)}
    model = filled(text, {name: shape for name, shape in given.items() if name in body})
    for name, value in (("one", 1), ("zero", 0), ("axis", [1])):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(value), name))
    smaller, result = optimize(model, keep=0.5, method="prune", gate=False)
    counted = [onnx_merge.inspect_model(one).model.macs for one in (model, smaller)]
    assert [result.before.macs, result.after.macs] == counted and counted[1] * 2 == counted[0]


def test_the_observer_draws_anew_each_time():
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[64] x) => (int64[1,K] z) { r = Relu(x)  z = NonZero(r) }"""
    model = onnx.parser.parse_model(text)
    observer = RunObserver()
    assert len({observer(model, {}, ["z"])["z"] for _ in range(8)}) > 1
    assert RunObserver()(model, {}, ["z"]) == RunObserver()(model, {}, ["z"])


def test_the_observer_makes_up_strings():
    """Shapes behind an encoder of categories, whose width ONNX does not infer: a network behind it is compressed."""
    text = """<ir_version: 9, opset_import: ["" : 17, "ai.onnx.ml" : 3]>
    g (string[N,1] c, float[N,3] x) => (float[N,2] y) {
        e = ai.onnx.ml.OneHotEncoder<cats_strings = ["red", "green"]>(c)  f = Reshape(e, flat)
        j = Concat<axis = 1>(f, x)  h = MatMul(j, w)  r = Relu(h)  y = MatMul(r, v) }"""
    model = filled(text, {"w": (5, 8), "v": (8, 2)})
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0, -1]), "flat"))
    found = RunObserver()(model, {"c": (4, 1), "x": (4, 3)}, ["e", "j"])
    assert found == {"e": (4, 1, 2), "j": (4, 5)}
    assert onnx_merge.inspect_model(model).model.macs == 8 * 5 + 2 * 8
    rng = np.random.default_rng(0)
    calib = {"c": rng.choice(["red", "green", "blue"], (64, 1)), "x": rng.standard_normal((64, 3), np.float32)}
    smaller, result = optimize(model, calib=calib, keep=0.5, effort="low", gate=False)
    assert shapes(smaller)["w"] == (5, 4) and result.before.macs == 8 * 5 + 2 * 8
    assert not [note for note in result.notes if "--calib" in note]


def test_the_observer_does_not_complain():
    text = """<ir_version: 8, opset_import: ["" : 17, "their.own" : 1]>
    g (float[N] x) => (float[N] y) { y = their.own.Odd(x) }"""
    assert RunObserver()(onnx.parser.parse_model(text), {"x": (4,)}, ["y"]) == {}
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[N,3] x) => (float[N,3] y) { y = Relu(x) }'
    assert RunObserver()(onnx.parser.parse_model(text), {"x": (4, 5)}, ["y"]) == {}


def test_shapes_that_need_a_run_do_not_stop_the_channels():
    """The unknown length K of a NonZero stands between two layers; the channels are beside it."""
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[N,3] x) => (float[K,2] y) {
        m = ReduceSum<keepdims = 0>(x, axes)  z = NonZero(m)  i = Squeeze(z, first)
        a = Gather(x, i)  h = MatMul(a, w)  r = Relu(h)  y = MatMul(r, v) }"""
    model = filled(text, {"w": (3, 8), "v": (8, 2)})
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1]), "axes"))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0]), "first"))
    smaller, result = optimize(model, keep=0.5)
    assert shapes(smaller)["w"] == (3, 4)
    x = np.ones((5, 3), np.float32)
    assert Session(smaller).run({"x": x})["y"].shape == (5, 2)


def test_progress_names_the_stages(source):
    stages = []
    optimize_module.run(source, None, onnx_merge.Options(keep=0.5), progress=stages.append)
    assert stages[0] == "load" and stages[-1] == "save" and "plan" in stages


@pytest.mark.parametrize("options", [{"method": "merge"}, {"calib_samples": 16}])
def test_a_model_that_optimisations_of_onnxruntime_break(options):
    model = network_the_optimiser_breaks()
    with pytest.raises(OnnxMergeError, match="cannot load the model"):
        Session(model)
    _, result = optimize(model, keep=0.5, **options)
    assert "onnxruntime loads the model with basic optimisations only" in result.notes
    assert result.fidelity is not None
    frozen = {g.name: g.status == "frozen" for g in onnx_merge.inspect_model(model).groups}
    assert {g.name: g.status == "frozen" for g in result.groups} == frozen and not frozen["a"] and not frozen["b"]


def test_and_its_latency_and_metadata():
    model = network_the_optimiser_breaks()
    made, result = optimize(model, keep=0.5, method="merge", benchmark=1)
    (timed,) = result.latency
    assert timed.before_ms > 0 and timed.after_ms > 0
    assert onnx_merge.verify(made, model).keeps


def test_images_to_compare_on_are_made_up_where_none_are_to_be_fitted_to():
    _, result = optimize(chain(), keep=0.5, method="merge", calib="none")
    assert result.fidelity.samples > 0 and result.fidelity.fitted is None
