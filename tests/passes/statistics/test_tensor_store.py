"""Activations in a temporary file: the same values, results and names as in memory, and no more memory than a batch."""

from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from architectures import ARCHITECTURES
from netkit import engine, feeds, net, observer
from unitkit import Quiet, typed

from passes.analysis.analyse import analyse
from passes.interface.errors import PassError
from passes.pipeline import compress
from passes.reconstruction import layerwise
from passes.reconstruction.weight_variants import WeightVariants
from passes.samples.calibration_samples import CalibrationSamples
from passes.settings.compress import CompressSettings
from passes.settings.reconstruction_tuning import ReconstructionTuning
from passes.settings.tuning import Tuning
from passes.statistics.segmented_execution import SegmentedRun
from passes.statistics.tensor_store import ScratchSpace, StoredTensors, TensorStore

CHAIN = """net (float[N,6,40,40] x) => (float[N,5,40,40] y) {
    a = Conv(x, a_w)  ar = Relu(a)  b = Conv<pads=[1,1,1,1]>(ar, b_w)  br = Relu(b)  y = Conv(br, y_w)
}"""
SIZES = dict(a_w=(48, 6, 1, 1), b_w=(32, 48, 3, 3), y_w=(5, 32, 1, 1))
COUNT = 32
KINDS = [np.float32, np.float16, ml_dtypes.bfloat16, np.int64, np.bool_]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (2, 3, 4)])
def test_tensors_come_back_as_they_were(kind, shape, tmp_path):
    store = TensorStore(str(tmp_path))
    values = [np.asarray(np.arange(np.prod(shape)).reshape(shape) + k).astype(kind) for k in range(3)]
    stored = [store.put(v) for v in values]
    for value, one in zip(values, stored, strict=True):
        found = store.get(one)
        assert found.dtype == value.dtype and np.array_equal(found, value)


def test_a_view_is_written_as_it_reads(tmp_path):
    store = TensorStore(str(tmp_path))
    value = np.arange(24.0).reshape(2, 3, 4).T[::2]
    np.testing.assert_array_equal(store.get(store.put(value)), value)


def test_space_is_used_again_and_nothing_stays(tmp_path):
    batch = StoredTensors(TensorStore(str(tmp_path)), {"x": np.zeros(2)})
    for k in range(20):
        batch["a"] = np.full(1000, k)
        batch["b"] = np.full(1000, -k)
        assert batch["a"][0] == k and batch["b"][0] == -k
        del batch["a"]
    assert sorted(batch) == ["b", "x"] and "a" not in batch and len(batch) == 2
    assert batch._store._end <= 3 * 8000
    del batch
    assert not list(tmp_path.iterdir())


def test_strings_stay_in_memory(tmp_path):
    batch = StoredTensors(TensorStore(str(tmp_path)), {})
    batch["s"] = np.array(["a", "b"], object)
    assert list(batch["s"]) == ["a", "b"] and batch._store._end == 0


def test_a_folder_that_takes_no_files_is_named(tmp_path):
    with pytest.raises(PassError, match=r"temporary files in .*nowhere: .*; set TMPDIR"):
        TensorStore(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("name", ["residual", "grouped", "attention-separate", "nhwc", "flatten-gemm"])
def test_runs_hold_the_same_tensors(name, tmp_path):
    model = ARCHITECTURES[name].model
    batches = [feeds(model, 4, seed) for seed in (1, 2)]
    here, there = (SegmentedRun(model, batches, engine, folder) for folder in (None, str(tmp_path)))
    for node in typed(model).graph.nodes:
        for flow in (here, there):
            flow.reach(node.outputs[0])
        for one, other in zip(here.live, there.live, strict=True):
            assert set(one) == set(other)
            for tensor, value in one.items():
                np.testing.assert_array_equal(other[tensor], value)


def of(memory, scratch=None, real=True):
    x = np.random.default_rng(0).standard_normal((COUNT, 6, 40, 40)).astype(np.float32)
    return CalibrationSamples({"x": x}, real, engine, memory, scratch=scratch)


def variants(analysis, samples):
    return WeightVariants(analysis.before, analysis.typing, samples)


def test_all_samples_serve_within_less_memory(tmp_path):
    found = analyse(net(CHAIN, **SIZES), {}, observer, Quiet())
    small, disk = 3 * 10**7, ScratchSpace(str(tmp_path), 1e9)
    few, all_, ample = (variants(found, samples) for samples in (of(small), of(small, disk), of(10**9, disk)))
    served = [sum(len(feed["x"]) for feed in v.feeds) for v in (few, all_, ample)]
    assert served[0] < COUNT and served[1:] == [COUNT, COUNT]
    assert all_.notes == (f"what {COUNT} samples make of the layers does not fit `memory`: it is kept on disk",)
    assert not ample.notes and next(iter(ample)).folder is None and next(iter(all_)).folder == str(tmp_path)


def test_where_the_disk_has_little_room_fewer_samples_serve(tmp_path):
    found = analyse(net(CHAIN, **SIZES), {}, observer, Quiet())
    tight = variants(found, of(3 * 10**7, ScratchSpace(str(tmp_path), 16 * 4 * 80 * 40 * 40)))
    assert 4 <= sum(len(feed["x"]) for feed in tight.feeds) < COUNT


def test_few_made_up_samples_are_kept_on_disk(tmp_path):
    """More take longer, and are worth less than those of the user."""
    found, disk = analyse(net(CHAIN, **SIZES), {}, observer, Quiet()), ScratchSpace(str(tmp_path), 1e9)
    few = Tuning(reconstruction=ReconstructionTuning(fewest_made_up=16))
    served = [
        sum(len(feed["x"]) for feed in WeightVariants(found.before, found.typing, of(3 * 10**7, disk, real), few).feeds)
        for real in (False, True)
    ]
    assert served == [16, COUNT]


def test_results_are_the_same(tmp_path, monkeypatch):
    model, settings = net(CHAIN, **SIZES), CompressSettings(keep=0.5, method="reconstruct", select="auto")
    in_memory = compress(model, settings, samples=of(10**9)).model
    make, folders = layerwise.WeightVariant.run, []

    def stored(self, model, feeds=None):
        folders.append(self.folder)
        return make(replace(self, folder=str(tmp_path)), model, feeds)

    monkeypatch.setattr(layerwise.WeightVariant, "run", stored)
    on_disk = compress(model, settings, samples=of(10**9)).model
    assert folders and on_disk.SerializeToString() == in_memory.SerializeToString()
