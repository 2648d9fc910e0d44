"""Metadata of a result: what it was made from, how, and what was measured on what."""

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from smallnet import network

import onnx_merge
from onnx_merge.cli import main as cli
from onnx_merge.config.options import Options
from onnx_merge.errors import InputError, UsageError
from onnx_merge.io import save
from onnx_merge.io.hashes import sha256_of_arrays, sha256_of_files
from onnx_merge.verification import provenance
from onnx_merge.verification.provenance import Provenance
from onnx_merge.verification.recorded_options import recorded, restored

MODELS = Path(__file__).parents[3] / "models"
QUICK = {"align": 1, "method": "merge", "allocation": "uniform"}


def entries(model):
    """The metadata of a model, or of its file, that are ours, without the prefix."""
    model = model if isinstance(model, onnx.ModelProto) else onnx.load(model, load_external_data=False)
    found = {p.key: p.value for p in model.metadata_props if p.key.startswith("onnx_merge.")}
    assert len(found) == sum(p.key.startswith("onnx_merge.") for p in model.metadata_props)
    return {key.removeprefix("onnx_merge."): value for key, value in found.items()}


def sha(content):
    return hashlib.sha256(content).hexdigest()


def test_a_written_model_says_what_it_was_made_from_and_how(here):
    np.savez(here / "s.npz", x=np.random.default_rng(0).standard_normal((40, 16)).astype(np.float32))
    model, result = onnx_merge.optimize(
        "in.onnx", "out.onnx", keep=0.5, calib=here / "s.npz", seed=3, gate=False, **QUICK
    )
    found = entries("out.onnx")
    assert list(found) == ["version", "input_sha256", "options", "measured"]
    assert found["version"] == onnx_merge.__version__
    assert found["input_sha256"] == sha((here / "in.onnx").read_bytes())
    options = json.loads(found["options"])
    assert options == {"keep": 0.5, "method": "merge", "allocation": "uniform", "align": 1, "seed": 3, "calib": "s.npz"}
    close = json.loads(found["measured"])["fidelity"]
    assert close["source"] == "calib s.npz" and close["samples"] == result.fidelity.samples
    assert len(close["sha256"]) == 64 and json.loads(found["measured"])["provider"] == result.provider
    assert entries(model) == found and result.after.bytes == (here / "out.onnx").stat().st_size
    assert result.output.sha256 == sha((here / "out.onnx").read_bytes())


@pytest.mark.parametrize("options", [{"lossless": True}, {"keep": 1}, {"keep": 0.5}], ids=str)
def test_every_result_says_it_and_two_runs_say_the_same(options):
    if options.get("lossless"):
        original = network()
        weights = next(t for t in original.graph.initializer if t.name == "w1")
        array = onnx.numpy_helper.to_array(weights).copy()
        array[3] = array[5]  # parallel channels, but for the bias
        weights.CopyFrom(onnx.numpy_helper.from_array(array, "w1"))
        array = onnx.numpy_helper.to_array(next(t for t in original.graph.initializer if t.name == "b1")).copy()
        array[3] = array[5]
        next(t for t in original.graph.initializer if t.name == "b1").CopyFrom(
            onnx.numpy_helper.from_array(array, "b1")
        )
    else:
        original = network()
    content = original.SerializeToString()
    first, _ = onnx_merge.optimize(original, **options)
    assert original.SerializeToString() == content and entries(original) == {}
    assert entries(first)["input_sha256"] == sha(content)
    assert first.SerializeToString() == onnx_merge.optimize(original, **options)[0].SerializeToString()


def test_without_provenance_nothing_is_said(here):
    assert cli.main(["in.onnx", "out.onnx", "--keep", "0.5", "--method", "merge", "--no-provenance", "--quiet"]) == 0
    assert entries("out.onnx") == {}
    onnx_merge.optimize("in.onnx", "said.onnx", keep=0.5, **QUICK)
    model, _ = onnx_merge.optimize("said.onnx", keep=0.9, provenance=False, **QUICK)
    assert entries(model) == {}  # what the input said does not hold for the result


def test_what_others_wrote_into_the_metadata_stays(here):
    model = network()
    model.metadata_props.add(key="author", value="me")
    model.metadata_props.add(key="onnx_mergeX", value="not ours")
    result, _ = onnx_merge.optimize(model, keep=0.5, **QUICK)
    assert [(p.key, p.value) for p in result.metadata_props][:2] == [("author", "me"), ("onnx_mergeX", "not ours")]
    assert "measured" in entries(result)


def test_of_a_result_of_a_result_the_line_of_its_inputs_is_known(here):
    onnx_merge.optimize("in.onnx", "one.onnx", keep=0.9, align=1)
    onnx_merge.optimize("one.onnx", "two.onnx", keep=0.8, align=1)
    onnx_merge.optimize("two.onnx", "three.onnx", keep=0.8, align=1)
    first, second, third = (sha((here / name).read_bytes()) for name in ("in.onnx", "one.onnx", "two.onnx"))
    assert "earlier_inputs" not in entries("one.onnx")
    assert json.loads(entries("three.onnx")["earlier_inputs"]) == [first, second]
    assert entries("three.onnx")["input_sha256"] == third


def test_no_metadata_hold_a_path(tmp_path, monkeypatch):
    """Whatever is given as a path."""
    monkeypatch.chdir(tmp_path)
    model = network()
    onnx.save(model, tmp_path / "in.onnx")
    rng = np.random.default_rng(0)
    samples = rng.standard_normal((40, 16)).astype(np.float32)
    np.savez(tmp_path / "l.npz", x=samples, labels=rng.integers(0, 4, 40))
    np.savez(tmp_path / "c.npz", x=samples + 1)
    (tmp_path / "f.py").write_text("import numpy as np\ndef made():\n    return np.ones((40, 16), np.float32)\n")
    (tmp_path / "folder").mkdir()
    np.save(tmp_path / "folder" / "x.npy", samples)
    for given in (
        {"labels": tmp_path / "l.npz", "calib": tmp_path / "c.npz", "report": tmp_path / "r.json"},
        {"calib": f"{tmp_path}/f.py:made"},
        {"calib": tmp_path / "folder"},
        {"calib": [{"x": samples}]},
    ):
        onnx_merge.optimize(tmp_path / "in.onnx", tmp_path / "out.onnx", keep=0.5, force=True, gate=False, **given)
        values = entries(tmp_path / "out.onnx").values()
        assert not any(str(tmp_path) in value or "/" in value for value in values), values


def test_models_of_a_sweep_say_it_and_are_what_single_runs_give(here):
    onnx_merge.sweep("in.onnx", "sizes", start=0.4, stop=0.8, steps=2, calib_samples=32, align=1)
    for name, keep in (("keep-0.40.onnx", 0.4), ("keep-0.80.onnx", 0.8)):
        found = json.loads(entries(here / "sizes" / name)["options"])
        assert found == {"keep": keep, "align": 1, "calib-samples": 32}
    onnx_merge.optimize("in.onnx", "one.onnx", keep=0.4, calib_samples=32, align=1)  # too small for a GPU to be faster
    assert (here / "one.onnx").read_bytes() == (here / "sizes" / "keep-0.40.onnx").read_bytes()


def test_a_result_with_external_data_says_it(here, monkeypatch):
    monkeypatch.setattr(save, "needs_external_data", lambda model: True)
    onnx_merge.optimize("in.onnx", "out.onnx", keep=0.5, **QUICK)
    assert list(here.glob("out.onnx.*.data"))
    assert entries("out.onnx")["input_sha256"] == sha((here / "in.onnx").read_bytes())


def test_of_an_input_with_external_data_its_weights_count(here):
    for name, factor in (("a", 1), ("b", 2)):
        model = network()
        for tensor in model.graph.initializer:
            array = onnx.numpy_helper.to_array(tensor) * np.float32(factor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
        (here / name).mkdir()
        onnx.save(model, here / name / "in.onnx", save_as_external_data=True, location="in.data", size_threshold=0)
        onnx_merge.optimize(here / name / "in.onnx", here / f"{name}.onnx", keep=0.5, **QUICK)
    one, other = entries("a.onnx"), entries("b.onnx")
    assert one["input_sha256"] == other["input_sha256"]
    assert one["input_data_sha256"] == sha((here / "a" / "in.data").read_bytes()) != other["input_data_sha256"]


def test_stamping_and_reading_are_inverse():
    model = network()
    assert provenance.read(model) is None
    given = Provenance("1", "ab", "cd", ("ef",), {"keep": 0.5}, {"fidelity": {"name": "\ud800 ü"}}, {"max_drop": 1})
    provenance.stamp(model, given)
    assert provenance.read(model) == given
    assert provenance.read(onnx.ModelProto.FromString(model.SerializeToString())) == given
    provenance.stamp(model, None)
    assert model == network()


@pytest.mark.parametrize(
    "key, value", [("measured", "{"), ("options", "[]"), ("promise", "3"), ("earlier_inputs", "{}")]
)
def test_damaged_metadata_are_refused_in_one_line(key, value):
    model = network()
    provenance.stamp(model, Provenance("1", "ab", measured={"fidelity": {}}))
    kept = [(p.key, p.value) for p in model.metadata_props if p.key != f"onnx_merge.{key}"]
    del model.metadata_props[:]
    for name, text in [*kept, (f"onnx_merge.{key}", value)]:
        model.metadata_props.add(key=name, value=text)
    with pytest.raises(InputError, match=f"onnx_merge.{key} are damaged"):
        provenance.read(model)
    assert provenance.lineage(model) == ()
    onnx_merge.optimize(model, keep=0.5, **QUICK)


def test_only_what_differs_from_the_defaults_is_recorded(tmp_path):
    assert recorded(Options()) == {} == recorded(Options(force=True, quiet=True, threads=3))
    assert recorded(Options(memory_limit=10**9)) == {"memory-limit": 10**9}
    np.save(tmp_path / "v.npy", np.array([7]))
    given = {"exclude": ["/a/.*"], "keep_layer": {"/b/c": 0.5}, "input_shape": "x/y:1,2", "no-coupled": True}
    given |= {"lambda": 0.5, "fix_input": {"rate": 16000, "len": [1, 2], "v": str(tmp_path / "v.npy")}, "mean": "0.5"}
    found = recorded(Options.make(given))
    file = {"file": "v.npy", "sha256": sha((tmp_path / "v.npy").read_bytes())}
    assert json.loads(json.dumps(found)) == {
        "exclude": ["/a/.*"],
        "keep-layer": [["/b/c", 0.5]],
        "input-shape": [["x/y", [1, 2]]],
        "coupled": False,
        "lambda": 0.5,
        "fix-input": [["rate", 16000], ["len", [1, 2]], ["v", file]],
        "mean": [0.5],
    }


def test_recorded_options_are_restored(tmp_path):
    np.save(tmp_path / "v.npy", np.array([7]))
    given = {"exclude": ["/a/.*"], "keep_layer": {"/b/c": 0.5}, "input_shape": "x/y:1,2", "coupled": False, "seed": 4}
    given |= {"lambda": 0.5, "fix_input": {"rate": 16000, "len": [1, 2]}, "mean": "0.5", "calib": "synthetic"}
    options = Options.make(given)
    record = json.loads(json.dumps(recorded(options)))
    assert restored(record, {}) == options
    files = Options.make({**given, "labels": tmp_path / "l.npz", "calib": tmp_path / "c", "min_cosine": 0.5})
    record = json.loads(json.dumps(recorded(files)))
    assert restored(record, {"calib": tmp_path / "c", "labels": "l.npz"}).calib == tmp_path / "c"
    assert restored(record, {}).labels is None and restored(record, {}).min_cosine is None
    record = json.loads(json.dumps(recorded(Options.make({"fix_input": f"v={tmp_path / 'v.npy'}"}))))
    with pytest.raises(UsageError, match=r"input 'v' was fixed to what v.npy held: give --fix-input"):
        restored(record, {})
    assert restored(record, {"fix_input": "v=7"}).fix_input == (("v", "7"),)
    with pytest.raises(UsageError, match="the options in the file: unknown option 'to-come'"):
        restored({"to-come": 1}, {})


def test_hashes_of_arrays_and_files(tmp_path):
    a, b = np.arange(6, dtype=np.float32).reshape(2, 3), np.array(["x", "yz"], object)
    assert sha256_of_arrays({"a": a, "b": b}) == sha256_of_arrays({"b": b.copy(), "a": a.T.copy().T})
    different = [{"a": a}, {"c": a}, {"a": a.T}, {"a": a.astype(np.float64)}, {"a": a + 1}, {"a": a[:1]}]
    different += [{"b": b}, {"b": np.array(["xy", "z"], object)}, {"a": np.float32(1).reshape(())}, {"a": a[:0]}]
    assert len({sha256_of_arrays(arrays) for arrays in different}) == len(different)
    (tmp_path / "1").write_bytes(b"ab")
    (tmp_path / "2").write_bytes(b"c")
    assert sha256_of_files([tmp_path / "1", tmp_path / "2"]) == sha(b"abc")
