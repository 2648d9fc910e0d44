"""Sessions with one-line errors, and a silent search for CUDA."""

import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
import pytest

from onnx_merge.errors import OnnxMergeError, UsageError
from onnx_merge.io import save
from onnx_merge.runtime import probing
from onnx_merge.runtime import session as session_module
from onnx_merge.runtime.onnxruntime_import import onnxruntime, silenced
from onnx_merge.runtime.probing import available_provider
from onnx_merge.runtime.providers import CPU, ProviderChoice, execution_providers
from onnx_merge.runtime.session import Session
from onnx_merge.runtime.tensor_info import TensorInfo
from onnx_merge.tuning.inputs import MODEL_FILES

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'


def model(body):
    return onnx.parser.parse_model(HEAD + body)


RELU = "net (float[N,4] x) => (float[N,4] y) { y = Relu(x) }"
RESHAPE = "net (float[N,4] x) => (float[A,4] y) <int64[2] shape = {3,4}> { h = Relu(x) [rigid] y = Reshape(h, shape) }"


@pytest.fixture
def fresh_search():
    """The search for CUDA runs anew, and what it finds here is forgotten afterwards."""
    probing._works.cache_clear()
    yield
    probing._works.cache_clear()


def test_importing_the_module_does_not_import_onnxruntime():
    code = "import sys, onnx_merge.evaluation.fidelity; sys.exit('onnxruntime' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(session_module.__file__).parents[1]).returncode == 0


@pytest.mark.parametrize("form", ["proto", "bytes", "path", "str"])
def test_a_model_in_every_form(tmp_path, form):
    m = model(RELU)
    path = tmp_path / "m.onnx"
    onnx.save(m, path)
    source = {"proto": m, "bytes": m.SerializeToString(), "path": path, "str": str(path)}[form]
    x = np.array([[-1, 2, -3, 4]], np.float32)
    result = Session(source, threads=1).run({"x": x})
    assert list(result) == ["y"]
    np.testing.assert_array_equal(result["y"], np.maximum(x, 0))


def test_large_models_go_through_a_file_that_goes_with_the_session(tmp_path, monkeypatch):
    monkeypatch.setattr(save, "PROTOBUF_LIMIT", MODEL_FILES.headroom)
    monkeypatch.setattr(session_module.tempfile, "tempdir", str(tmp_path))
    m = model("net (float[N,400] x) => (float[N,2] y) { y = MatMul(x, w) }")
    m.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((400, 2), np.float32), "w"))
    session = Session(m)
    np.testing.assert_array_equal(session.run({"x": np.ones((1, 400), np.float32)})["y"], [[400, 400]])
    del session
    assert list(tmp_path.iterdir()) == []


def test_inputs_and_outputs_as_declared():
    session = Session(
        model("""net (float16[N,4,?] a, int64 b, bool[2] c, string[N] d, double[] e, bfloat16[M] f)
              => (uint8[N,4,?] y) { y = Cast<to = 2>(a) }""")
    )
    assert session.inputs == (
        TensorInfo("a", np.dtype(np.float16), ("N", 4, None)),
        TensorInfo("b", np.dtype(np.int64), ()),
        TensorInfo("c", np.dtype(bool), (2,)),
        TensorInfo("d", np.dtype(object), ("N",)),
        TensorInfo("e", np.dtype(np.float64), ()),
        TensorInfo("f", session_module.BFLOAT16, ("M",)),
    )
    assert session.outputs == (TensorInfo("y", np.dtype(np.uint8), ("N", 4, None)),)


def test_sequences_cannot_be_fed_and_are_left_out_of_the_outputs():
    session = Session(model("net (seq(float[N]) s, int64 i) => (float[N] y) { y = SequenceAt(s, i) }"))
    with pytest.raises(OnnxMergeError, match="'s' is a seq"):
        _ = session.inputs
    session = Session(
        model("net (float[2] x) => (float[2] y, seq(float[2]) s) { y = Relu(x) s = SequenceConstruct(x) }")
    )
    assert list(session.run({"x": np.ones(2, np.float32)})) == ["y"]


def test_only_the_outputs_asked_for_in_their_order():
    session = Session(model("net (float[2] x) => (float[2] a, float[2] b) { a = Relu(x) b = Neg(x) }"))
    assert list(session.run({"x": np.ones(2, np.float32)}, ["b", "a"])) == ["b", "a"]


def test_bfloat16_goes_in_and_comes_out():
    session = Session(
        model("net (bfloat16[N,2] x) => (float[N,2] y, bfloat16[N,2] z) { y = Cast<to = 1>(x) z = Identity(x) }")
    )
    x = np.array([[1.5, -2], [0, 3]], ml_dtypes.bfloat16)
    result = session.run({"x": x})
    np.testing.assert_array_equal(result["y"], x.astype(np.float32))
    assert result["z"].dtype == session_module.BFLOAT16
    np.testing.assert_array_equal(result["z"], x)
    assert session.run({"x": x[:0]})["z"].shape == (0, 2)


@pytest.mark.parametrize(
    ("body", "feeds", "hint"),
    [
        (RELU, {}, "missing"),
        (RELU, {"x": np.zeros((1, 5), np.float32)}, "Expected: 4"),
        (RELU, {"x": np.zeros((1, 4), np.float64)}, "expected: (tensor(float))"),
        (RELU, {"x": np.zeros((1, 4), np.float32), "z": np.zeros(1)}, "z"),
        (RESHAPE, {"x": np.zeros((1, 4), np.float32)}, "'rigid'"),
    ],
)
def test_a_failing_run_is_one_line_and_prints_nothing(body, feeds, hint, capfd):
    session = Session(model(body))
    with pytest.raises(OnnxMergeError, match="cannot run the model") as caught:
        session.run(feeds)
    message = str(caught.value)
    assert hint in message
    assert not any(noise in message for noise in ("\n", "ONNXRuntimeError", "onnxruntime_src"))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("source", [b"garbage", "nowhere.onnx", model("n (float x) => (float y) { y = own.F(x) }")])
def test_a_model_that_does_not_load_is_one_line_and_prints_nothing(source, capfd):
    with pytest.raises(OnnxMergeError, match="cannot load the model") as caught:
        Session(source)
    assert not any(noise in str(caught.value) for noise in ("\n", "ONNXRuntimeError", "onnxruntime_src"))
    assert capfd.readouterr() == ("", "")


def test_without_onnxruntime(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    onnxruntime.cache_clear()
    try:
        with pytest.raises(OnnxMergeError, match="reinstall"):
            Session(model(RELU))
    finally:
        onnxruntime.cache_clear()


def test_the_cpu_is_always_there():
    assert available_provider("cpu") == ProviderChoice("cpu", "asked for")


def test_no_device(monkeypatch, fresh_search, capfd):
    monkeypatch.setattr(probing, "first_device", lambda: "")
    assert available_provider("auto") == ProviderChoice("cpu", "no NVIDIA device")
    with pytest.raises(UsageError, match="no NVIDIA device"):
        available_provider("cuda")
    assert capfd.readouterr() == ("", "")


def test_a_device_whose_libraries_are_missing_is_found_out_in_silence(monkeypatch, fresh_search, capfd):
    """On a machine without CUDA, everything that onnxruntime says when it fails to load its provider is suppressed."""
    monkeypatch.setattr(probing, "first_device", lambda: "Some GPU")
    choice = available_provider("auto")
    assert choice.name == "cuda" or "Some GPU is here, but" in choice.reason
    assert capfd.readouterr() == ("", "")


def test_the_cpu_build_of_onnxruntime(monkeypatch, fresh_search):
    monkeypatch.setattr(probing, "first_device", lambda: "Some GPU")
    monkeypatch.setattr(onnxruntime(), "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(UsageError, match="install onnxruntime-gpu"):
        available_provider("cuda")


@pytest.fixture
def some_gpu(monkeypatch, fresh_search):
    """A machine on which CUDA works, and TensorRT where ``installed`` has it."""
    installed = {"TensorrtExecutionProvider"}

    class Probe:
        def __init__(self, model, provider, *, deployed):
            wanted = [p if isinstance(p, str) else p[0] for p in execution_providers(provider, deployed)]
            self.provider_used = next(p for p in wanted if p in installed or p == "CUDAExecutionProvider")

        def run(self, feeds):
            return {"y": 2 * feeds["x"]}

    monkeypatch.setattr(probing, "first_device", lambda: "Some GPU")
    monkeypatch.setattr(probing, "Session", Probe)
    monkeypatch.setattr(onnxruntime(), "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime(), "preload_dlls", lambda: print("noise"))
    return installed


def test_a_working_device(some_gpu):
    assert available_provider("auto") == available_provider("cuda") == ProviderChoice("cuda", "Some GPU")
    assert available_provider("tensorrt") == ProviderChoice("tensorrt", "Some GPU")


def test_a_device_without_tensorrt(some_gpu):
    some_gpu.clear()
    assert available_provider("auto").name == "cuda"
    with pytest.raises(UsageError, match="TensorRT does not work here: Some GPU is here, but .*TensorRT installed"):
        available_provider("tensorrt")


def test_numbers_are_computed_without_tf32_and_latency_is_measured_as_users_run():
    cuda, tensorrt = ProviderChoice("cuda", ""), ProviderChoice("tensorrt", "")
    for choice in (cuda, tensorrt):
        (name, options), last = execution_providers(choice, deployed=False)
        assert (name, options["use_tf32"], last) == ("CUDAExecutionProvider", "0", "CPUExecutionProvider")
    assert execution_providers(cuda, deployed=True) == ["CUDAExecutionProvider", "CPUExecutionProvider"]
    assert execution_providers(tensorrt, deployed=True)[0] == "TensorrtExecutionProvider"
    assert execution_providers(CPU, True) == execution_providers(CPU, False) == ["CPUExecutionProvider"]


def test_silence_ends_where_it_should(capfd):
    with silenced():
        print("nothing")
        print("nothing", file=sys.stderr)
        subprocess.run("echo nothing; echo nothing >&2", shell=True, check=True)
    print("spoken")
    subprocess.run("echo spoken >&2", shell=True, check=True)
    assert capfd.readouterr() == ("spoken\n", "spoken\n")


COMPARED = """net (float[T,N,4] x) => (float[N,T,5] y) <float[4,5] w = {1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9,1,2}> {
    t = Transpose<perm=[1,0,2]>(x) e = Equal(t, t) f = Cast<to=1>(e) y = MatMul(f, w) }"""


def test_a_transposed_comparison_that_a_matmul_reads_does_not_end_the_process(tmp_path):
    onnx.save(model(COMPARED), tmp_path / "model.onnx")
    code = f"from onnx_merge.runtime.session import Session; Session({str(tmp_path / 'model.onnx')!r})"
    # onnxruntime itself ends the process, which must not be that of the tests.
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(session_module.__file__).parents[2])
    assert done.returncode == 0
