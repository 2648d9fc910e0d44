"""Held-out samples: nothing is fitted to them, so the result is the same model whatever they hold."""

import io

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx.numpy_helper import from_array

from onnx_merge import optimize, sweep
from onnx_merge.calibration.array_files import evenly_spaced_rows
from onnx_merge.calibration.splits import held_count, held_rows, to_load
from onnx_merge.config.options import Options
from onnx_merge.errors import InputError
from onnx_merge.evaluation.comparison import comparison_with
from onnx_merge.report.table import render
from onnx_merge.runtime.providers import CPU
from onnx_merge.tuning.calibration import SPLITS

MODEL = """<ir_version: 8, opset_import: ["" : 17]> net (float[{batch},{shape}] x) => (float[{batch},6] y) {{
    f = Flatten(x)  a = Gemm<transB=1>(f, a_w)  r = Relu(a)  y = Gemm<transB=1>(r, y_w)
}}"""


def model(*shape, batch="N", hidden=24):
    made = onnx.parser.parse_model(MODEL.format(batch=batch, shape=",".join(map(str, shape))))
    rng = np.random.default_rng(0)
    for name, size in {"a_w": (hidden, int(np.prod(shape))), "y_w": (6, hidden)}.items():
        made.graph.initializer.append(from_array(rng.standard_normal(size).astype(np.float32), name))
    return made


def rows(count, *shape):
    return np.random.default_rng(1).standard_normal((count, *shape)).astype(np.float32)


def spoilt(x, asked, count, **split):
    """``x`` with other samples where some are held out of ``asked``."""
    read = np.array(evenly_spaced_rows(len(x), asked))
    at = read[held_rows(len(read), held_count(len(read), count, **split), 0, split.get("unit", 1))]
    other = x.copy()
    other[at] = 50 * np.random.default_rng(2).standard_normal((len(at), *x.shape[1:]))
    return other, len(at)


def written(made):
    """Without what the file says of itself, which was measured on the samples held out."""
    bare = onnx.ModelProto()
    bare.CopyFrom(made)
    del bare.metadata_props[:]
    return bare.SerializeToString(deterministic=True)


class Reader:
    def __init__(self, items):
        self.items = iter(items)

    def get_next(self):
        return next(self.items, None)


def file_of(x, folder):
    np.savez(folder / "x.npz", x=x)
    return folder / "x.npz"


def folder_of(x, folder):
    for k, row in enumerate(x):
        np.save(folder / f"{k:04}.npy", row)
    return folder


SOURCES = {
    "file": file_of,
    "folder": folder_of,
    "array": lambda x, folder: x,
    "list": lambda x, folder: list(x),
    "reader": lambda x, folder: Reader([{"x": row[None]} for row in x]),
    "generator": lambda x, folder: ({"x": row} for row in x),
    "pair": lambda x, folder: (range(len(x)), lambda k: x[k]),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_the_result_does_not_depend_on_them(kind, tmp_path):
    x = rows(80, 6)
    other, held = spoilt(x, to_load(256), 256)
    assert held == 16
    found = []
    for k, samples in enumerate((x, other)):
        (tmp_path / f"{k}").mkdir()
        found.append(optimize(model(6), keep=0.5, gate=False, calib=SOURCES[kind](samples, tmp_path / f"{k}")))
    assert written(found[0][0]) == written(found[1][0])
    assert found[0][1].fidelity.relative_l2 != found[1][1].fidelity.relative_l2
    for _, result in found:
        close = result.fidelity
        assert (close.held_out, close.samples, close.fitted, close.in_sample) == (16, 16, 64, False)


@pytest.mark.parametrize(
    ("total", "options", "held", "fitted"),
    [(400, {}, 128, 256), (280, {}, 35, 245), (60, {"calib_samples": 40}, 20, 40), (100, {"check_n": 5}, 5, 84)],
)
def test_how_many(total, options, held, fitted):
    _, result = optimize(model(6), keep=0.5, effort="low", gate=False, calib=rows(total, 6), **options)
    close = result.fidelity
    assert (close.held_out, close.samples, close.fitted) == (held, held, fitted)


def test_a_fixed_batch():
    x = rows(64, 6)
    other, held = spoilt(x, to_load(256), 256, unit=8)
    found = [optimize(model(6, batch=8), keep=0.5, gate=False, calib=samples) for samples in (x, other)]
    assert written(found[0][0]) == written(found[1][0])
    assert [(r.fidelity.held_out, r.fidelity.fitted) for _, r in found] == [(16, 48)] * 2


@pytest.mark.parametrize("calib", [None, rows(64, 6)], ids=["made-up samples", "samples"])
def test_a_batch_that_is_fixed_in_fact(calib):
    """A Reshape to one row, as exporters write that saw a batch of one, in a model that declares any batch."""
    made = model(6)
    made.graph.node[0].CopyFrom(onnx.helper.make_node("Reshape", ["x", "one"], ["f"]))
    made.graph.initializer.append(from_array(np.array([1, 6]), "one"))
    _, result = optimize(made, keep=0.5, effort="low", gate=False, calib=calib)
    assert result.fidelity.samples == (64 if calib is None else 16)
    assert all(output.nsr is not None for output in result.fidelity.outputs)


@pytest.mark.parametrize("total", [300, 56])
def test_neither_further_ones_nor_mirror_images_are_of_them(total, tmp_path, monkeypatch):
    """The first layer has use for twice as many: of 300 they come from the file, of 56 they are mirror images."""
    monkeypatch.setattr("onnx_merge.config.sample_options.SAMPLES", 40)
    x, made = rows(total, 1, 8, 8), model(1, 8, 8, hidden=96)
    found = []
    for k, samples in enumerate((x, spoilt(x, to_load(40, beside=SPLITS.beside), 40)[0])):
        np.savez(tmp_path / f"{k}.npz", x=samples)
        found.append(optimize(made, keep=0.5, gate=False, calib=tmp_path / f"{k}.npz"))
    said = "80 of the samples served" if total == 300 else "mirror images served too"
    assert any(said in note for note in found[0][1].notes)
    assert [r.fidelity.fitted for _, r in found] == [80, 80] and found[0][1].fidelity.held_out == (
        128 if total == 300 else 16
    )
    if total == 56:
        assert written(found[0][0]) == written(found[1][0])


def test_further_ones_are_others_than_those_held_out(tmp_path, monkeypatch):
    monkeypatch.setattr("onnx_merge.config.sample_options.SAMPLES", 40)
    path = file_of(rows(300, 1, 8, 8), tmp_path)
    comparison = comparison_with(
        model(1, 8, 8, hidden=96), Options.make({"keep": 0.5, "gate": False, "calib": path}), CPU
    )
    measured = {row.tobytes() for row in comparison.samples.measured.feeds["x"]}
    (load_more,) = comparison.samples.more_samples(comparison.samples.fitted())
    feeds, what = load_more()
    assert what == "80 of the samples served (--calib-samples 40: no more)" and len(measured) == 128
    assert not measured & {row.tobytes() for row in feeds["x"]}


@pytest.mark.parametrize("total", [1, 31])
def test_too_few_to_divide(total):
    _, result = optimize(model(6), keep=0.5, effort="low", gate=False, calib=rows(total, 6), method="reconstruct")
    close = result.fidelity
    assert close.samples == total
    fits = total > 1  # one sample is too few to solve for: merged by weights
    assert (close.in_sample, close.held_out, close.fitted) == ((True, 0, total) if fits else (False, 1, None))


@pytest.mark.parametrize("options", [{"method": "merge"}, {"method": "prune"}, {"lossless": True, "keep": None}])
def test_nothing_is_kept_from_whoever_does_not_fit(options):
    wanted = {k: v for k, v in {"keep": 0.5, "gate": False, **options}.items() if v is not None}
    made = model(6)
    made.graph.initializer[0].raw_data = from_array(np.repeat(rows(12, 6), 2, 0), "a_w").raw_data
    _, result = optimize(made, calib=rows(20, 6), **wanted)
    close = result.fidelity
    assert (close.samples, close.held_out, close.fitted, close.in_sample) == (20, 20, None, False)


def test_made_up_ones_are_others_than_those_fitted_to():
    for options in ({}, {"calib": "synthetic"}, {"max_drop": 1.0, "keep": None}):
        wanted = {k: v for k, v in {"keep": 0.5, "gate": False, **options}.items() if v is not None}
        comparison = comparison_with(model(1, 8, 8), Options.make(wanted), CPU)
        fitted = {row.tobytes() for row in comparison.samples.fitted().feeds["x"]}
        feeds = (
            comparison.samples.measured.feeds if comparison.samples.measured else comparison.samples.loader.random(64)
        )
        assert len(feeds["x"]) >= 64 and not fitted & {row.tobytes() for row in feeds["x"]}
        assert not comparison.samples.real


def test_inputs_that_hold_different_numbers_of_samples():
    """Two rows of one input belong to three of the other: as many rows of both are no samples."""
    text = """<ir_version: 8, opset_import: ["" : 17]>
    net (float[2,6] x, float[3,6] z) => (float[2,6] y) {
        a = Gemm<transB=1>(x, a_w)  r = Relu(a)  h = Gemm<transB=1>(r, y_w)
        s = ReduceSum<keepdims=0>(z)  y = Add(h, s) }"""
    made = onnx.parser.parse_model(text)
    made.graph.initializer.extend(model(6).graph.initializer)
    options = Options.make({"keep": 0.5, "calib": {"x": rows(60, 6), "z": rows(60, 6)}})
    with pytest.raises(InputError, match=r"different numbers of samples.*give z as \(samples, 3, 6\)"):
        comparison_with(made, options, CPU)
    options = Options.make({"keep": 0.5, "calib": {"x": rows(60, 6), "z": rows(90, 6)}})
    assert len(comparison_with(made, options, CPU).samples.measured.feeds["z"]) == 90


def test_further_ones_of_the_user_are_not_looked_for_among_labels(tmp_path, monkeypatch):
    monkeypatch.setattr("onnx_merge.config.sample_options.SAMPLES", 40)
    path, x = file_of(rows(200, 1, 8, 8), tmp_path), rows(150, 1, 8, 8)
    np.savez(tmp_path / "l.npz", x=x, labels=np.arange(150) % 6)
    options = Options.make({"keep": 0.5, "calib": path, "labels": tmp_path / "l.npz"})
    comparison = comparison_with(model(1, 8, 8, hidden=96), options, CPU)
    measured = {row.tobytes() for row in comparison.samples.measured.feeds["x"]}
    (load_more,) = comparison.samples.more_samples(comparison.samples.fitted())
    assert not measured & {row.tobytes() for row in load_more()[0]["x"]} and len(measured) > 100


class TestLabels:
    def save(self, folder, x):
        np.savez(folder / "labels.npz", x=x, labels=np.arange(len(x)) % 6)
        return folder / "labels.npz"

    def test_are_held_out_from_other_samples(self, tmp_path):
        x = rows(80, 6)
        _, result = optimize(
            model(6), keep=0.5, effort="low", gate=False, labels=self.save(tmp_path, x[:40]), calib=x[40:]
        )
        close = result.fidelity
        assert (close.samples, close.held_out, close.fitted, close.in_sample) == (40, 40, 40, False)
        assert result.accuracy.samples == 40

    def test_that_are_the_same_as_the_others_are_divided(self, tmp_path):
        labels = self.save(tmp_path, rows(400, 6))
        _, result = optimize(model(6), keep=0.5, effort="low", gate=False, labels=labels, calib=labels)
        assert result.fidelity.fitted == 256 and result.accuracy.samples == 144 == result.fidelity.held_out
        assert not result.fidelity.fitted_made_up

    def test_that_are_too_few_to_divide(self, tmp_path):
        labels = self.save(tmp_path, rows(20, 6))
        _, result = optimize(model(6), keep=0.5, effort="low", gate=False, labels=labels, calib=labels)
        assert result.accuracy.samples == 20 == result.fidelity.fitted and result.fidelity.in_sample

    def test_alone_are_fitted_to_by_nothing(self, tmp_path):
        _, result = optimize(model(6), keep=0.5, effort="low", gate=False, labels=self.save(tmp_path, rows(40, 6)))
        close = result.fidelity
        assert (close.samples, close.held_out, close.fitted) == (40, 40, 256) and close.real
        assert close.fitted_made_up


class TestCopies:
    """A copy of a sample that layers are fitted to is not held out."""

    @pytest.mark.parametrize("kind", SOURCES)
    def test_are_left_out(self, kind, tmp_path):
        tiled = np.tile(rows(40, 6), (6, 1))
        _, result = optimize(model(6), keep=0.5, effort="low", gate=False, calib=SOURCES[kind](tiled, tmp_path))
        close = result.fidelity
        assert (close.samples, close.fitted, close.in_sample) == (16, 24, False)
        assert "200 of 240 samples repeat earlier ones exactly and were left out" in result.notes

    def test_that_leave_few_samples_do_not_make_a_result_good(self):
        _, result = optimize(
            model(6), keep=0.95, align=1, effort="low", gate=False, calib=np.tile(rows(16, 6), (20, 1))
        )
        close = result.fidelity
        assert (close.samples, close.in_sample, close.verdict) == (16, True, "untested")

    def test_differ_in_no_input(self):
        text = """<ir_version: 8, opset_import: ["" : 17]> net (float[N,6] x, float[N,6] z) => (float[N,6] y) {
            a = Gemm<transB=1>(x, a_w)  b = Add(a, a)  r = Relu(b)  h = Gemm<transB=1>(r, y_w)  y = Add(h, z) }"""
        made = onnx.parser.parse_model(text)
        made.graph.initializer.extend(model(6).graph.initializer)
        x = np.tile(rows(40, 6), (2, 1))
        for z, count in ((rows(80, 6), 80), (x, 40)):
            options = Options.make({"keep": 0.5, "calib": {"x": x, "z": z}})
            comparison = comparison_with(made, options, CPU)
            assert len(comparison.samples.fitted()) + len(comparison.samples.measured.feeds["x"]) == count

    def test_of_whole_batches_are_left_out(self):
        """What runs together may depend on each other, so no batch is taken apart."""
        x = rows(32, 6)
        for given in (np.concatenate([x, x]), np.concatenate([x, x[8:16], x[[0, 9, 18, 27, 1, 2, 3, 4]], x[:3]])):
            options = Options.make({"keep": 0.5, "calib": given})
            comparison = comparison_with(model(6, batch=8), options, CPU)
            found = [*comparison.samples.fitted().feeds["x"], *comparison.samples.measured.feeds["x"]]
            assert sorted(map(bytes, found)) == sorted(map(bytes, x))

    def test_that_are_scattered_over_batches_are_not_held_out(self):
        shuffled = np.random.default_rng(3).permutation(np.tile(rows(16, 6), (20, 1)))
        assert comparison_with(model(6, batch=8), Options.make({"keep": 0.5, "calib": shuffled}), CPU).samples.in_sample

    def test_are_not_looked_for_where_rows_are_no_samples(self):
        """The rows of a square matrix, such as of the edges of a graph, go with its columns."""
        text = """<ir_version: 8, opset_import: ["" : 17]> net (float[N,6] x, float[N,N] z) => (float[N,6] y) {
            a = Gemm<transB=1>(x, a_w)  r = Relu(a)  h = Gemm<transB=1>(r, y_w)  y = MatMul(z, h) }"""
        made = onnx.parser.parse_model(text)
        made.graph.initializer.extend(model(6).graph.initializer)
        options = Options.make({"keep": 0.5, "calib": {"x": np.ones((5, 6), np.float32), "z": np.ones((5, 5), "f")}})
        assert comparison_with(made, options, CPU).samples.measured.feeds["x"].shape == (5, 6)

    def test_among_labelled_samples_go_with_their_labels(self, tmp_path):
        x, labels = np.tile(rows(40, 6), (2, 1)), np.tile(np.arange(40) % 6, 2)
        labels[40] = 5  # the first sample again, with another label
        np.savez(tmp_path / "l.npz", x=x, labels=labels)
        comparison = comparison_with(model(6), Options.make({"keep": 0.5, "labels": tmp_path / "l.npz"}), CPU)
        assert np.array_equal(comparison.samples.measured.feeds["x"], x[:41])
        assert np.array_equal(comparison.samples.measured.labels, labels[:41])
        assert "39 of 80 labelled samples repeat earlier ones exactly and were left out" in comparison.notes

    def test_under_other_labels_are_not_fitted_to(self, tmp_path):
        x = np.tile(rows(40, 6), (2, 1))
        np.savez(tmp_path / "l.npz", x=x, labels=np.arange(80) // 40)
        options = Options.make({"max_drop": 1.0, "labels": tmp_path / "l.npz", "calib": None})
        comparison = comparison_with(model(6), options, CPU)
        measured = {row.tobytes() for row in comparison.samples.measured.feeds["x"]}
        fitted = {row.tobytes() for row in comparison.samples.fitted().feeds["x"]}
        assert fitted and not measured & fitted
        assert comparison.samples.split == {"total": 80, "held": 40, "seed": 0}


def test_a_sweep_measures_on_them_too(tmp_path):
    found = sweep(
        model(6), tmp_path / "sizes", start=0.4, stop=0.8, steps=2, effort="low", gate=False, calib=rows(80, 6)
    )
    assert [(p.fidelity.held_out, p.fidelity.fitted) for p in found.points] == [(16, 64)] * 2


def test_it_is_said_in_the_table():
    for total, said in ((80, "on 16 held-out samples (64 fitted)"), (20, "on 20 in-sample samples (20 fitted)")):
        _, result = optimize(model(6), keep=0.5, effort="low", gate=False, calib=rows(total, 6))
        text = render(result, io.StringIO())
        assert said.split(" (")[0] in text and said.split(" (")[1] in text
