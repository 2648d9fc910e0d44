"""Peak memory of a run stays under --memory-limit plus the needs of Python and libraries, for many kinds of models."""

import contextlib
import importlib.util
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import onnx.parser
import pytest
from memorynets import CASES

from onnx_merge.calibration import sample_loader
from onnx_merge.calibration.load import load_calibration
from onnx_merge.calibration.splits import parted
from onnx_merge.compression.optimize import optimize
from onnx_merge.config.options import Options
from onnx_merge.inputs.assignments import find_assignments, sample_sizes
from onnx_merge.inputs.memory_fit import EDGES, MemoryFit, fit_to_memory
from onnx_merge.inputs.npz_rows import StoredArray
from onnx_merge.inputs.user_arrays import read_arrays
from onnx_merge.runtime.providers import CPU
from onnx_merge.runtime.session import Session
from onnx_merge.sweeping.candidates import CandidateResult
from onnx_merge.sweeping.sweep import run as run_sweep
from onnx_merge.tuning.inputs import INPUT_SEARCH, SAMPLE_MEMORY
from passes.samples.sample_files import folder_of
from passes.statistics.tensor_store import ScratchSpace

LIMIT, LIBRARIES = 300, 500
"""Megabytes."""
LARGER_LIMITS = {"60 MB of weights": 600}
"""Copies of these weights take more than `LIMIT`."""
RUN = """import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(code, peak // (1024 if sys.platform == "darwin" else 1))"""
"""In a process of its own, which is small: what is forked from a large one begins with that one's peak."""
TOOL = """import sys
from onnx_merge.cli.main import main
from onnx_merge.runtime import session, session_settings
from passes.settings.tuning import TUNING
session.session_options = lambda threads: session_settings.session_options(threads or 1)
object.__setattr__(TUNING.distillation, "fewest_steps", 4)
object.__setattr__(TUNING.distillation, "steps", (4, 4))
object.__setattr__(TUNING.distillation, "rates", TUNING.distillation.rates[:1])
object.__setattr__(TUNING.matching, "steps", TUNING.matching.score_steps)
object.__setattr__(TUNING.reconstruction, "most_steps", 1)
sys.exit(main(sys.argv[1:]))"""
"""Every step takes as much memory as the first one, and threads that wait for each other take processor time alone."""


def peak(folder, case, limit, *args):
    """Megabytes that a run of the tool takes at most."""
    onnx.save(case.model(), folder / "in.onnx")
    if case.calib is not None:
        samples = np.random.default_rng(1).standard_normal(case.calib, np.float32)
        np.savez(folder / "calib.npz", x=samples)
        args = ("--calib", str(folder / "calib.npz"), *args)
    tool = [sys.executable, "-c", TOOL, str(folder / "in.onnx"), str(folder / "out.onnx"), "--force", "--quiet"]
    limits = ("--memory-limit", f"{limit}MB", "--provider", "cpu")
    run = [sys.executable, "-c", RUN, *tool, *limits, *args]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    code, kilobytes = map(int, done.stdout.split())
    assert code == 0, done.stderr
    return kilobytes / 1000


@pytest.mark.skipif(importlib.util.find_spec("resource") is None, reason="the system does not tell the peak")
@pytest.mark.parametrize("name", CASES)
def test_a_run_keeps_to_the_limit(tmp_path, name):
    """All kinds are solved layer by layer. One is refined as well: the one whose features take most memory."""
    effort = ("--effort", "low")
    if name == "classifier at 320 x 320":
        effort = ("--effort", "medium", "--calib-samples", "64")
    limit = LARGER_LIMITS.get(name, LIMIT)
    assert peak(tmp_path, CASES[name], limit, "--keep", "0.5", "--no-gate", *effort) < limit + LIBRARIES


def test_images_are_smaller_where_few_large_ones_fit():
    model = CASES["u-net"].model()
    inputs = Session(model).inputs
    edges = []
    for memory in (10**8, 6 * 10**8, 10**11):
        found = fit_to_memory(model, inputs, CPU, {}, memory)
        edges.append(dict(found.sizes).get("x", (1, 3, EDGES[0], EDGES[0]))[2])
        assert found.each is not None
        assert bool(found.notes) == (edges[-1] < EDGES[0])
    assert edges == sorted(edges) and edges[0] == EDGES[-1] < edges[1] < edges[-1] == EDGES[0]


def test_attention_between_all_pixels_is_never_tried_on_large_images(monkeypatch):
    """It grows with the square of their number: 10 GB at 224 x 224."""
    text = """<ir_version: 8, opset_import: ["" : 17]> net (float[N,3,H,W] x) => (float[N,P,1] y)
        <int64[3] t = {0,3,-1}> {
        v = Reshape(x, t)  w = Transpose<perm=[0,2,1]>(v)  p = MatMul(w, v)  y = ReduceMax<axes=[2]>(p) }"""
    model = onnx.parser.parse_model(text)
    session, largest, run = Session(model), [0], Session.run

    def recorded(self, feeds):
        largest.append(max((n for a in feeds.values() for n in a.shape), default=0))
        return run(self, feeds)

    monkeypatch.setattr(Session, "run", recorded)
    found = find_assignments(session, model=model)
    assert sample_sizes(session, found, model, {}) == ({}, "")
    chosen = fit_to_memory(model, session.inputs, CPU, {}, 20 * 10**9)
    assert dict(chosen.sizes) == {"x": (1, 3, 64, 64)} and "64 x 64" in chosen.notes[0]
    assert max(largest) < 100


def test_samples_say_the_size_of_images():
    """No size is chosen by memory, and multiply-adds are counted at theirs."""
    text = """<ir_version: 8, opset_import: ["" : 17]> net (float[N,3,H,W] x) => (float[N,P,4] y)
        <int64[3] t = {0,3,-1}> {
        v = Reshape(x, t)  w = Transpose<perm=[0,2,1]>(v)  p = MatMul(w, v)  q = MatMul(p, w)
        h = MatMul(q, h_w)  r = Relu(h)  y = MatMul(r, y_w) }"""
    model, rng = onnx.parser.parse_model(text), np.random.default_rng(0)
    for name, shape in (("h_w", (3, 16)), ("y_w", (16, 4))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(rng.standard_normal(shape, np.float32), name))
    samples = {"x": rng.random((40, 3, 16, 8), np.float32)}
    _, result = optimize(model, calib=samples, keep=0.5, effort="low", gate=False)
    assert result.before.macs == 128 * (2 * 128 * 3 + 3 * 16 + 16 * 4)
    assert not [note for note in result.notes if "images are" in note or "counted" in note]


def test_attention_between_all_pixels_of_even_images_is_tried_on_few(monkeypatch):
    """A skip connection past a stride of two, so that odd images do not run, and larger ones are tried."""
    text = """<ir_version: 8, opset_import: ["" : 17]> net (float[N,3,H,W] x) => (float[N,P,1] y)
        <int64[3] t = {0,3,-1}, float[4] up = {1.0,1.0,2.0,2.0}> {
        h = AveragePool<kernel_shape=[2,2], strides=[2,2]>(x)  r = Resize(h, , up)  s = Add(r, x)
        v = Reshape(s, t)  w = Transpose<perm=[0,2,1]>(v)  p = MatMul(w, v)  y = ReduceMax<axes=[2]>(p) }"""
    model = onnx.parser.parse_model(text)
    session, elements, run = Session(model), [], Session.run

    def recorded(self, feeds):
        batch, _, height, width = feeds["x"].shape
        elements.append(batch * (height * width) ** 2 if height % 2 == width % 2 == 0 else 0)
        return run(self, feeds)

    monkeypatch.setattr(Session, "run", recorded)
    found = find_assignments(session, model=model)
    assert len(found.found) > 2 and max(elements) <= INPUT_SEARCH.step_elements


def test_sizes_that_are_given_stay():
    model = CASES["u-net"].model()
    assert fit_to_memory(model, Session(model).inputs, CPU, {"x": (1, 3, 224, 224)}, 10**8).sizes == {
        "x": (1, 3, 224, 224)
    }
    fixed = CASES["classifier at 320 x 320"].model()
    assert not fit_to_memory(fixed, Session(fixed).inputs, CPU, {}, 10**8).sizes


def test_fewer_samples_are_compared_at_once_where_they_are_large():
    model = CASES["classifier at 320 x 320"].model()
    small, large = (fit_to_memory(model, Session(model).inputs, CPU, {}, memory) for memory in (10**8, 10**10))
    one = {"x": np.zeros((3, 3, 320, 320), np.float32)}
    assert 1 <= small.together(one).most < large.together(one).most
    assert large.together({"x": np.zeros((3, 3, 640, 640), np.float32)}).most < large.together(one).most


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_of_a_large_file_only_the_rows_are_read_that_serve(tmp_path, save):
    rows = SAMPLE_MEMORY.stored_bytes // (4 * 1000) + 1
    whole = np.arange(rows * 1000, dtype=np.float32).reshape(rows, 1000)
    save(tmp_path / "x.npz", x=whole, y=np.arange(rows))
    found = read_arrays(tmp_path / "x.npz")
    assert isinstance(found["x"], StoredArray) and found["x"].shape == whole.shape
    assert not isinstance(found["y"], StoredArray)
    picked = [0, 3, rows - 1]
    assert np.array_equal(found["x"][picked], whole[picked])
    assert np.array_equal(np.asarray(found["x"]), whole)


def test_as_many_of_the_users_samples_are_read_as_fit(tmp_path):
    model = CASES["classifier at 320 x 320"].model()
    np.savez(tmp_path / "x.npz", x=np.zeros((20, 3, 320, 320), np.float32))
    each = 4 * 3 * 320 * 320
    found = load_calibration(tmp_path / "x.npz", Session(model).inputs, most=5.5 * each)
    assert len(found) == 5 and found.notes == ("5 samples were read: more do not fit --memory-limit",)
    few = load_calibration({"x": np.zeros((5, 3, 320, 320), np.float32)}, Session(model).inputs, most=50.0 * each)
    assert len(few) == 5 and not few.notes


def _unlike(count, edge=320):
    return np.random.default_rng(0).standard_normal((count, 3, edge, edge)).astype(np.float32)


def _as_items(samples, folder):
    return iter(samples)


def _as_array(samples, folder):
    return {"x": samples.astype(np.float64)}


def _as_npz(samples, folder):
    np.savez(folder / "x.npz", x=samples)
    return folder / "x.npz"


def _as_npy(samples, folder):
    np.save(folder / "x.npy", samples)
    return folder / "x.npy"


def _as_folder(samples, folder):
    (folder / "some").mkdir()
    for k, sample in enumerate(samples):
        np.save(folder / "some" / f"{k:02d}.npy", sample)
    return folder / "some"


@pytest.mark.parametrize("source", [_as_items, _as_array, _as_npz, _as_npy, _as_folder])
def test_samples_that_do_not_fit_are_kept_in_a_file(tmp_path, source):
    model, samples = CASES["classifier at 320 x 320"].model(), _unlike(30)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    inputs, each = Session(model).inputs, 4 * 3 * 320 * 320
    given = dict(count=24, most=5.5 * each)
    found = load_calibration(source(samples, tmp_path), inputs, **given, scratch=ScratchSpace(str(scratch), 1e9))
    wanted = samples[:24] if source is _as_items else samples[np.linspace(0, 29, 24).round().astype(int)]
    assert found.notes == () and np.array_equal(found.feeds["x"], wanted)
    assert folder_of(found.feeds["x"]) == str(scratch)
    assert folder_of(found.take(7).feeds["x"]) == str(scratch)
    kept, apart = parted(found.feeds, np.array([3, 9]))
    assert np.array_equal(kept["x"], np.delete(wanted, [3, 9], 0)) and np.array_equal(apart["x"], wanted[[3, 9]])
    small = load_calibration({"x": samples[:5]}, inputs, **given, scratch=ScratchSpace(str(scratch), 1e9))
    assert folder_of(small.feeds["x"]) is None
    few = load_calibration({"x": samples}, inputs, **given, scratch=ScratchSpace(str(scratch), 8.5 * each))
    assert len(few) == 8 and few.notes == ("8 samples were read: more do not fit --memory-limit",)


def test_images_that_do_not_fit_are_kept_in_a_file(tmp_path):
    image = pytest.importorskip("PIL.Image")
    model, inputs = CASES["classifier at 320 x 320"].model(), Session(CASES["classifier at 320 x 320"].model()).inputs
    (tmp_path / "images").mkdir()
    for k in range(6):
        pixels = np.random.default_rng(k).integers(0, 256, (320, 320, 3), np.uint8)
        image.fromarray(pixels).save(tmp_path / "images" / f"{k}.png")
    whole = load_calibration(tmp_path / "images", inputs, model=model)
    scratch = ScratchSpace(str(tmp_path), 1e9)
    found = load_calibration(tmp_path / "images", inputs, model=model, most=3e6, scratch=scratch)
    assert folder_of(found.feeds["x"]) == str(tmp_path) and folder_of(whole.feeds["x"]) is None
    assert found.notes == whole.notes and np.array_equal(found.feeds["x"], whole.feeds["x"])


def test_samples_in_a_file_give_the_same_model(tmp_path, monkeypatch):
    """All of them serve, whatever the limit, and mirror images and splits are those that memory gives."""
    case = CASES["classifier at 320 x 320"]
    model, samples = replace(case, text=case.text.replace("320", "64")).model(), _unlike(40, edge=64)
    wanted, all_in_memory = optimize(model, keep=0.5, calib={"x": samples}, gate=False, effort="low")
    monkeypatch.setattr(sample_loader, "scratch_space", lambda: ScratchSpace(str(tmp_path), 1e10))
    monkeypatch.setattr(MemoryFit, "inputs", property(lambda self: 4 * 10**5))
    found, in_file = optimize(model, keep=0.5, calib={"x": samples}, gate=False, effort="low")
    assert found.SerializeToString() == wanted.SerializeToString()
    assert in_file.notes == all_in_memory.notes


def test_the_processes_of_a_sweep_share_the_limit(tmp_path):
    onnx.save(CASES["recurrent"].model(), tmp_path / "in.onnx")
    seen = []

    class Three:
        processes, sends = 3, False

        def run(self, job, keeps):
            seen.append(job.options.memory_limit)
            yield from (CandidateResult(keep, reason="not made") for keep in ())

    options = Options.make({"keep": 1.0, "method": "merge", "memory_limit": "900MB"})
    with contextlib.suppress(IndexError, ValueError):
        run_sweep(tmp_path / "in.onnx", tmp_path / "sizes", options, (0.5,), contextlib.nullcontext(Three()))
    assert seen == [300_000_000]
