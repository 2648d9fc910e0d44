"""`verify` measures a file again and accepts or rejects what its metadata state."""

import contextlib
import io
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from smallnet import network

import onnx_merge
from onnx_merge.calibration import sample_loader
from onnx_merge.cli import main as cli
from onnx_merge.errors import InputError, UsageError
from onnx_merge.verification import provenance

MODELS = Path(__file__).parents[3] / "models"
DIGITS, CALIB, LABELS = MODELS / "digits_cnn.onnx", MODELS / "digits_calib.npz", MODELS / "digits_test.npz"


def scaled(model, name, factor):
    """A copy in which one weight tensor is larger."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    tensor = next(t for t in copy.graph.initializer if t.name == name)
    tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) * np.float32(factor), name))
    return copy


def widest(model):
    """Name of the weight tensor of the most values."""
    return max(model.graph.initializer, key=lambda t: int(np.prod(t.dims))).name


def resaved(model):
    """The same function in other bytes: another producer, other names of values, and constants in nodes."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.producer_name = "another tool"
    inner = {name for node in copy.graph.node for name in node.output} - {o.name for o in copy.graph.output}
    for node in copy.graph.node:
        node.input[:] = [f"v_{n}" if n in inner else n for n in node.input]
        node.output[:] = [f"v_{n}" if n in inner else n for n in node.output]
    del copy.graph.value_info[:]
    tensor = copy.graph.initializer.pop(0)
    copy.graph.node.insert(0, onnx.helper.make_node("Constant", [], [tensor.name], value=tensor))
    onnx.checker.check_model(copy)
    return copy


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The shipped network, shrunk on samples of which some are held out."""
    path = tmp_path_factory.mktemp("digits") / "out.onnx"
    onnx_merge.optimize(DIGITS, path, keep=0.5, calib=CALIB)
    return path


@pytest.fixture(scope="module")
def shrunk(tmp_path_factory):
    """A folder with a small network in a file, its samples, and what was made of it."""
    folder, rng = tmp_path_factory.mktemp("shrunk"), np.random.default_rng(0)
    with contextlib.chdir(folder):
        onnx.save(network(), "in.onnx")
        np.savez("c.npz", x=rng.standard_normal((96, 16)).astype(np.float32))
        np.savez("more.npz", x=rng.standard_normal((200, 16)).astype(np.float32))
        onnx_merge.optimize("in.onnx", "out.onnx", keep=0.7, align=1, calib="c.npz", gate=False)
    return folder


@pytest.fixture
def small(here, shrunk):
    """A copy of that folder, and the current one."""
    shutil.copytree(shrunk, here, dirs_exist_ok=True)
    return here


def verified(*arguments):
    """Exit code, standard output and error of the command."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(["verify", *map(str, arguments)])
    assert "Traceback" not in err.getvalue()
    return code, out.getvalue(), err.getvalue().removeprefix("onnx-merge: error: ").strip()


def test_a_result_keeps_what_it_says_on_the_same_samples(digits):
    found = onnx_merge.verify(digits, DIGITS, calib=CALIB)
    assert found.keeps and found.reason is None and found.same_samples and found.samples == 32
    assert [c.quantity for c in found.checks] == ["input", "nsr", "kl", "changed"]
    for check in found.checks[1:]:
        assert check.output == "logits" and check.found == pytest.approx(check.stated, rel=1e-3)
        assert check.allowed >= check.stated
        assert check.quantity == "kl" or check.stated_low <= check.stated <= check.stated_high


def test_and_on_others(digits):
    found = onnx_merge.verify(digits, DIGITS, labels=LABELS)
    assert found.keeps and not found.same_samples and found.samples == 500  # nothing was fitted to any
    assert found.source == "labels digits_test.npz"


@pytest.mark.parametrize("samples", [{"calib": CALIB}, {"labels": LABELS}], ids=["same", "others"])
def test_a_scaled_weight_is_found_by_measuring(digits, samples):
    model = onnx.load(digits)
    found = onnx_merge.verify(scaled(model, widest(model), 1.5), DIGITS, **samples)
    assert not found.keeps and "nsr of logits is" in found.reason and "would be as stated" in found.reason
    assert not next(c for c in found.checks if c.quantity == "nsr").keeps


def test_samples_as_an_array(small):
    samples = np.load("c.npz")["x"]
    assert onnx_merge.verify("out.onnx", "in.onnx", calib=samples).same_samples


def test_the_same_function_in_other_bytes_keeps_it(digits):
    model = resaved(onnx.load(digits))
    assert onnx_merge.verify(model, DIGITS, calib=CALIB).keeps
    assert onnx_merge.verify(scaled(onnx.load(digits), widest(onnx.load(digits)), 1 + 1e-6), DIGITS, calib=CALIB).keeps


def test_onnxruntimes_own_optimiser_keeps_it(digits, tmp_path):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(tmp_path / "converted.onnx")
    onnxruntime.InferenceSession(str(digits), options, providers=["CPUExecutionProvider"])
    assert (tmp_path / "converted.onnx").read_bytes() != digits.read_bytes()
    assert onnx_merge.verify(tmp_path / "converted.onnx", DIGITS, calib=CALIB).keeps


def test_without_samples_the_same_are_made_up(here):
    onnx_merge.optimize("in.onnx", "out.onnx", keep=0.7, align=1, seed=5)
    found = onnx_merge.verify("out.onnx", "in.onnx")
    assert found.keeps and found.same_samples and found.source == "random"
    model = onnx.load("out.onnx")
    assert not onnx_merge.verify(scaled(model, widest(model), 1.5), "in.onnx").keeps


def test_made_up_samples_are_moved_again(tmp_path):
    """The network recorded statistics: both that layers are fitted to and that outputs are compared on were moved."""
    _, result = onnx_merge.optimize(DIGITS, tmp_path / "out.onnx", keep=0.5, effort="low")
    found = onnx_merge.verify(tmp_path / "out.onnx", DIGITS)
    assert found.keeps and found.same_samples and found.samples == 64
    assert [c.quantity for c in found.checks] == ["input", "nsr", "kl", "changed"]  # they look like classes
    model = onnx.load(tmp_path / "out.onnx")
    assert not onnx_merge.verify(scaled(model, widest(model), 1.5), DIGITS).keeps


def test_made_up_samples_that_were_not_moved_are_not_now(tmp_path, monkeypatch):
    """As of versions that moved none."""
    monkeypatch.setattr("onnx_merge.compression.preparation.with_moved", lambda samples, analysis: samples)
    onnx_merge.optimize(DIGITS, tmp_path / "out.onnx", keep=0.5, effort="low")
    found = onnx_merge.verify(tmp_path / "out.onnx", DIGITS)
    assert found.keeps and found.same_samples


@pytest.mark.parametrize("options", [{"lossless": True}, {"keep": 1}], ids=str)
def test_what_was_free_is_still_free(here, options):
    model = network()
    for name in ("w1", "b1"):  # a channel that is twice another
        tensor = next(t for t in model.graph.initializer if t.name == name)
        array = onnx.numpy_helper.to_array(tensor).copy()
        array[3] = 2 * array[5]
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, name))
    made, _ = onnx_merge.optimize(model, **options)
    found = onnx_merge.verify(made, model)
    assert found.keeps and found.same_samples
    assert not onnx_merge.verify(scaled(made, "w2" if options.get("keep") else widest(made), 1.01), model).keeps


def test_another_original_is_refused_before_anything_is_measured(small):
    onnx.save(scaled(network(), "w1", 1.1), "other.onnx")
    found = onnx_merge.verify("out.onnx", "other.onnx", calib="c.npz")
    assert not found.keeps and len(found.checks) == 1 and found.samples == 0
    code, out, error = verified("out.onnx", "--against", "other.onnx", "--calib", "c.npz")
    assert code == 3 and "another model" in out
    assert error == (
        "out.onnx does not keep what it says: it was made from another model than the one given with --against"
    )


def test_other_weights_in_external_data_are_another_original(here):
    for name, factor in (("a", 1), ("b", 1.1)):
        (here / name).mkdir()
        model = scaled(network(), "w1", factor)
        onnx.save(model, here / name / "in.onnx", save_as_external_data=True, location="in.data", size_threshold=0)
    onnx_merge.optimize("a/in.onnx", "out.onnx", keep=0.7, align=1)
    assert (here / "a" / "in.onnx").read_bytes() == (here / "b" / "in.onnx").read_bytes()
    assert onnx_merge.verify("out.onnx", "a/in.onnx").keeps
    assert "other weights in its external data" in onnx_merge.verify("out.onnx", "b/in.onnx").reason


def test_of_a_result_of_a_result_the_one_in_between_is_asked_for(here):
    onnx_merge.optimize("in.onnx", "one.onnx", keep=0.9, align=1)
    onnx_merge.optimize("one.onnx", "two.onnx", keep=0.8, align=1)
    assert onnx_merge.verify("two.onnx", "one.onnx").keeps
    assert (
        "a result of the model given with --against: give that result"
        in onnx_merge.verify("two.onnx", "in.onnx").reason
    )


def test_a_file_that_says_nothing_cannot_be_verified(here):
    onnx_merge.optimize("in.onnx", "out.onnx", keep=0.7, align=1, provenance=False)
    with pytest.raises(InputError, match="out.onnx says nothing of itself: give a file that onnx-merge wrote"):
        onnx_merge.verify("out.onnx", "in.onnx")
    assert verified("out.onnx", "--against", "in.onnx")[0] == 2
    assert verified("in.onnx", "--against", "in.onnx")[0] == 2


def test_samples_are_asked_for_where_they_were_the_users(small):
    with pytest.raises(UsageError, match="speaks of .* samples of calib c.npz: give them, or others, with --labels or"):
        onnx_merge.verify("out.onnx", "in.onnx")


def test_a_file_of_samples_that_changed_is_told(small):
    with np.load("more.npz") as file:
        np.savez("c.npz", x=file["x"])
    found = onnx_merge.verify("out.onnx", "in.onnx", calib="c.npz")
    assert found.keeps and not found.same_samples
    assert "calib c.npz no longer holds what it did: some of its samples may have been fitted to" in found.notes


def test_options_are_those_of_the_file(here):
    """The same division of the same samples, whatever made it."""
    rng = np.random.default_rng(0)
    np.savez(here / "c.npz", x=rng.standard_normal((200, 16)).astype(np.float32))
    for options in ({"seed": 3}, {"calib_samples": 40}, {"check_n": 10}, {"max_drop": 30}, {"method": "merge"}):
        amount = {} if "max_drop" in options else {"keep": 0.7}
        onnx_merge.optimize("in.onnx", "out.onnx", calib="c.npz", align=1, force=True, gate=False, **amount, **options)
        found = onnx_merge.verify("out.onnx", "in.onnx", calib="c.npz")
        assert found.keeps and found.same_samples, options


def test_the_memory_limit_is_that_of_the_file(here, monkeypatch):
    """Without room on disk it decides how many samples are read, and so which of them are held out."""
    monkeypatch.setattr(sample_loader, "scratch_space", lambda: None)
    rng = np.random.default_rng(0)
    np.savez(here / "c.npz", x=rng.standard_normal((4000, 16)).astype(np.float32))
    limit = {"memory_limit": 8 * 1000 * 64}  # an eighth of it holds 1,000 rows of 64 bytes
    options = {"keep": 0.7, "align": 1, "gate": False, "calib": "c.npz", "method": "merge", "check_n": 3000}
    _, result = onnx_merge.optimize("in.onnx", "out.onnx", **options, **limit)
    assert result.fidelity.samples == 1000 and any("do not fit --memory-limit" in note for note in result.notes)
    found = onnx_merge.verify("out.onnx", "in.onnx", calib="c.npz")
    assert found.keeps and found.same_samples and found.samples == 1000


def test_accuracy_is_verified_where_there_are_labels(tmp_path):
    onnx_merge.optimize(DIGITS, tmp_path / "out.onnx", keep=0.5, labels=LABELS, method="merge", gate=False)
    found = onnx_merge.verify(tmp_path / "out.onnx", DIGITS, labels=LABELS)
    drop = found.checks[-1]
    assert found.keeps and drop.quantity == "accuracy drop" and drop.found == pytest.approx(drop.stated, abs=0.01)
    with np.load(LABELS) as file:
        arrays = dict(file)
    wrong = {**arrays, "labels": (arrays["labels"] + 1) % 10}  # other labels are other samples: the drop is none
    np.savez(tmp_path / "wrong.npz", **wrong)
    assert onnx_merge.verify(tmp_path / "out.onnx", DIGITS, labels=tmp_path / "wrong.npz").keeps
    found = onnx_merge.verify(tmp_path / "out.onnx", DIGITS, calib=CALIB)
    assert found.keeps and any("accuracy drop that the file states was not measured" in note for note in found.notes)


def test_a_metric_is_verified(small):
    """A mean over samples, so that its drop on others is known to be like the one that is stated."""
    text = "import numpy as np\n\ndef near(predict, samples, labels):\n    "
    text += "return -float(np.abs(predict(samples)['y'] - predict.original(samples)['y']).mean())\n"
    (small / "m.py").write_text(text)
    given = {"metric": str(small / "m.py") + ":near"}
    onnx_merge.optimize("in.onnx", "out.onnx", keep=0.7, align=1, calib="c.npz", gate=False, force=True, **given)
    stated = json.loads(entry("out.onnx", "measured"))["metric"]
    assert stated["name"] == "m.py:near" and stated["before"] == 0 and stated["samples"] == 16
    for samples in ("c.npz", "more.npz"):
        found = onnx_merge.verify("out.onnx", "in.onnx", calib=samples, **given)
        drop = found.checks[-1]
        assert found.keeps and drop.quantity == "m.py:near drop" and drop.stated == -stated["after"]
        assert (drop.stated_low is None) == (samples == "c.npz")
        model = onnx.load("out.onnx")
        drop = onnx_merge.verify(scaled(model, widest(model), 2), "in.onnx", calib=samples, **given).checks[-1]
        assert not drop.keeps and "m.py:near drops by" in drop.reason
    found = onnx_merge.verify("out.onnx", "in.onnx", calib="c.npz")
    assert found.keeps and any("metric m.py:near that the file states was not measured" in n for n in found.notes)


def entry(path, key):
    return next(p.value for p in onnx.load(path).metadata_props if p.key == f"onnx_merge.{key}")


def test_a_promise_is_verified(here):
    """Of a network that changes few classes: the promise is about all samples like those."""
    rng = np.random.default_rng(0)
    np.savez(here / "c.npz", x=rng.standard_normal((700, 16)).astype(np.float32))
    np.savez(here / "more.npz", x=rng.standard_normal((3000, 16)).astype(np.float32))
    amount = {"max_drop": 15, "confidence": 0.9, "gate": False, "align": 1, "calib_samples": 100}
    _, result = onnx_merge.optimize("in.onnx", "out.onnx", calib="c.npz", **amount)
    stated = json.loads(entry("out.onnx", "promise"))
    assert stated["max_drop"] == 15 and stated["confidence"] == 0.9 and stated["samples"] == result.promise.samples
    with pytest.raises(UsageError, match="give them, or others"):
        onnx_merge.verify("out.onnx", "in.onnx")
    for samples in ("c.npz", "more.npz"):
        found = onnx_merge.verify("out.onnx", "in.onnx", calib=samples)
        assert found.keeps and found.same_samples == (samples == "c.npz")
        promise = found.checks[-1]
        assert promise.quantity == "promise" and promise.stated == 15 and promise.found < 15
    model = onnx.load("out.onnx")
    promise = onnx_merge.verify(scaled(model, widest(model), -1), "in.onnx", calib="more.npz").checks[-1]
    assert promise.quantity == "promise" and not promise.keeps and "15 at most was promised" in promise.reason


def test_an_output_that_is_no_number_any_more_is_found(small):
    model = onnx.load("out.onnx")
    bias = model.graph.node[-1].input[2]
    found = onnx_merge.verify(scaled(model, bias, np.inf), "in.onnx", calib="c.npz")
    assert not found.keeps and "is not finite where the original's is" in found.reason


def test_other_inputs_do_not_fit(small):
    model = onnx.load("out.onnx")
    model.graph.input[0].name = "z"
    for node in model.graph.node:
        node.input[:] = ["z" if n == "x" else n for n in node.input]
    with pytest.raises(UsageError, match=r"the file takes the inputs \['z'\], the original \['x'\]: was it converted"):
        onnx_merge.verify(model, "in.onnx", calib="c.npz")


def test_the_table_and_the_report(small):
    code, out, error = verified("out.onnx", "--against", "in.onnx", "--calib", "c.npz", "--json", "v.json")
    assert (code, error) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["stated", "found", "allowed", "keeps"] and lines[2].split()[0] == "input"
    assert all(line.endswith("yes") for line in lines[2:] if " of y " in line)
    assert lines[-2].startswith("samples   16 of calib c.npz, the same as stated")
    assert lines[-1] == "verdict   keeps what it says"
    report = json.loads((small / "v.json").read_text())
    assert report["keeps"] and report["same_samples"] and report["output"]["path"] == "out.onnx"
    assert report["checks"][1]["quantity"] == "nsr" and report["checks"][1]["output"] == "y"
    code, out, error = verified("out.onnx", "--against", "in.onnx", "--calib", "more.npz", "--json")
    assert code == 0 and json.loads(out)["same_samples"] is False and json.loads(out)["samples"] == 200
    model = onnx.load("out.onnx")
    onnx.save(scaled(model, widest(model), 2), "bad.onnx")
    code, out, error = verified("bad.onnx", "--against", "in.onnx", "--calib", "c.npz")
    assert code == 3 and "NO" in out and "verdict   does NOT keep what it says: nsr of y" in out
    assert error.startswith("bad.onnx does not keep what it says: nsr of y is ")
    assert verified("bad.onnx", "--against", "in.onnx", "--calib", "c.npz", "-q")[:2] == (3, "")


def test_any_stream_can_write_the_report(small):
    (small / "out.onnx").rename("ä.onnx")
    code, out, _ = verified("ä.onnx", "--against", "in.onnx", "--calib", "c.npz", "--json")
    assert code == 0 and out.isascii() and json.loads(out)["output"]["path"] == "ä.onnx"


def test_refusals_of_the_command_line(small):
    for arguments, words in (
        ([], "name the model"),
        (["out.onnx"], "name the model that it was made from"),
        (["out.onnx", "in.onnx"], "name the original with --against"),
        (["out.onnx", "--against", "in.onnx", "--keep", "0.5"], "verify takes no --keep"),
        (["out.onnx", "--against", "missing.onnx"], "does not exist"),
        (["out.onnx", "--against", "in.onnx", "--json", "in.onnx"], "would overwrite in.onnx"),
        (["out.onnx", "--against", "in.onnx", "--json", "c.npz", "--calib", "c.npz"], "would overwrite c.npz"),
        (["out.onnx", "--against", "in.onnx", "--calib", "c.npz", "--seed", "1"], "takes no --seed"),
    ):
        code, out, error = verified(*arguments)
        assert code == 2 and out == "" and words in error, (arguments, error)
    with pytest.raises(UsageError, match="verify takes no 'keep'"):
        onnx_merge.verify("out.onnx", "in.onnx", keep=0.5)


def test_help_fits_80_columns(capsys):
    assert cli.main(["verify", "--help"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80 and "--against IN" in text


def test_options_of_another_version_are_refused(small):
    model = onnx.load("out.onnx")
    known = provenance.read(model)
    provenance.stamp(model, provenance.Provenance("9", known.input_sha256, None, (), {"to-come": 1}, known.measured))
    with pytest.raises(UsageError, match="unknown option 'to-come'"):
        onnx_merge.verify(model, "in.onnx", calib="c.npz")
