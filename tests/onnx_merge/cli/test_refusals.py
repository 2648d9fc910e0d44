"""What cannot be verified is refused, unless the user asks for it."""

import json

import numpy as np
import onnx
import onnx.parser
import pytest
from smallnet import names, network

from onnx_merge import optimize
from onnx_merge.cli.main import main
from onnx_merge.errors import InputError, OnnxMergeError, StructureError, UnverifiedError, UsageError

HEAD = '<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]>'


def model(body, **arrays):
    made = onnx.parser.parse_model(HEAD + body)
    rng = np.random.default_rng(0)
    for name, value in {"w": (4, 12), "v": (12, 3), **arrays}.items():
        value = rng.standard_normal(value, np.float32) if isinstance(value, tuple) else value
        made.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    return made


LAYERS = "a = MatMul({}, w)  r = Relu(a)  {} = MatMul(r, v)"
STRINGS = model(
    """net (string[N,4] s) => (float[N,3] y) {
        x = ai.onnx.ml.LabelEncoder<keys_strings = ["a", "b"], values_floats = [1.0, 2.0], default_float = 0.0>(s) """
    + LAYERS.format("x", "y")
    + "}"
)
REFUSED = {
    "strings": (STRINGS, {}, "takes strings, which cannot be made up: give samples with --calib"),
    "no size": (
        model("net (float[N,T] x) => (float[N,3] y) { q = Reshape(x, t) z = Add(x, five) "
              "m = ReduceMax(z) b = Add(q, m) " + LAYERS.format("b", "y") + "}", t=np.array([0, 4]), five=(1, 5)),
        {}, r"ran at none of \d+ sizes tried for its input 'x' \(N, T\) .* --input-shape x:1,128, or .* --calib",
    ),
    "sizes given": (network(), {"input_shape": {"x": (2, 15)}}, "x"),
    "an index out of range, at fixed sizes": (
        model("net (float[2,4] x, int64[2] k) => (float[2,3] y) { g = Add(k, o) h = Gather(x, g) "
              + LAYERS.format("h", "y") + "}", o=np.array(7)),
        {}, "the model does not run on made-up samples .*: give --calib",
    ),
    "samples on which it does not run": (
        model("net (float[N,T] x) => (float[N,3] y) { q = Reshape(x, t) " + LAYERS.format("q", "y") + "}",
              t=np.array([0, 4])),
        {"calib": {"x": np.ones((8, 6), np.float32)}},
        r"the model does not run on the samples of calib arrays from Python .*: it runs at x:\d+,4",
    ),
    "nothing finite": (
        model("net (float[N,4] x) => (float[N,3] y) { n = Mul(x, z) l = Log(n) " + LAYERS.format("l", "y") + "}",
              z=np.array(0, np.float32)),
        {}, "nothing but NaN and infinity on made-up samples: give --calib",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_run_is_refused_before_any_work(name, monkeypatch):
    made, options, said = REFUSED[name]
    monkeypatch.setattr("onnx_merge.compression.optimize.find", None)
    with pytest.raises((InputError, UsageError), match=said) as caught:
        optimize(made, keep=0.5, **options)
    assert caught.value.exit_code == 2 and len(str(caught.value).splitlines()) == 1


def test_a_remedy_that_was_given_is_not_named_again():
    made = REFUSED["nothing finite"][0]
    with pytest.raises(InputError, match="; --unverified goes on only without --calib, --min-cosine$"):
        optimize(made, keep=0.5, unverified=True, min_cosine=0.5, calib={"x": np.ones((8, 4), np.float32)})


@pytest.mark.parametrize("name", ["strings", "nothing finite"])
def test_it_is_compressed_where_that_is_asked_for(name):
    made, options, _ = REFUSED[name]
    result = optimize(made, keep=0.5, unverified=True, **options)[1]
    assert result.fidelity is None and result.after.params < result.before.params
    report = json.loads(result.to_json())["fidelity"]
    assert (report["verdict"], report["cosine"]) == ("untested", None) and report["why"].startswith("unverified")


def test_samples_of_strings_do():
    rng = np.random.default_rng(0)
    calib = {"s": rng.choice(["a", "b"], (32, 4)).astype(object)}
    result = optimize(STRINGS, keep=0.5, calib=calib)[1]
    assert result.fidelity.samples and result.groups[0].kept == 6


def test_outputs_that_could_not_be_compared_are_exit_5(here, capsys, monkeypatch):
    def fails(*given, **named):
        raise OnnxMergeError("out of memory")

    monkeypatch.setattr("onnx_merge.evaluation.comparison.fidelity", fails)
    arguments = ["in.onnx", "out.onnx", "--keep", "0.5", "--method", "merge", "--report", "r.json"]
    limited = ["--unverified", "--min-cosine", "0.5", "--max-nsr", "1"]
    goes_on, only = "without comparing outputs", "only without --min-cosine, --max-nsr"
    for more, remedy in (([], goes_on), (["--calib", "x.npy"], goes_on), (limited, only)):
        np.save("x.npy", np.ones((8, 16), np.float32))
        assert main([*arguments, *more]) == 5
        said = f"outputs could not be compared: out of memory; --unverified goes on {remedy}"
        assert said in capsys.readouterr().err
    assert names(here) == ["in.onnx", "x.npy"]
    assert main([*arguments, "--unverified"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("verdict   untested: unverified")
    assert json.loads((here / "r.json").read_text())["fidelity"]["verdict"] == "untested"


def test_a_run_that_could_be_verified_is_so_with_the_option_too():
    assert optimize(network(), keep=0.5, method="merge", unverified=True)[1].fidelity is not None


def test_the_error_is_one_of_structure():
    assert issubclass(UnverifiedError, StructureError) and UnverifiedError("x").exit_code == 5
