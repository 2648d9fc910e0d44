"""Olive runs the pass in a workflow of its own. Skipped where olive-ai is not installed."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("olive")
pytestmark = pytest.mark.filterwarnings("default")  # Olive's own

from olive.workflows import run as run_workflow  # noqa: E402

from onnx_merge.integrations.olive_pass import SHARES, OnnxMerge, package_config, write_package_config  # noqa: E402


def workflow(**config):
    return {
        "input_model": {"type": "ONNXModel", "model_path": "in.onnx"},
        "passes": {"smaller": {"type": "OnnxMerge", **config}},
        "output_dir": "out",
        "cache_dir": "cache",
        "log_severity_level": 4,
    }


def widths(path):
    shapes = {tensor.name: tuple(tensor.dims) for tensor in onnx.load(path).graph.initializer}
    return shapes["w2"]


def result():
    (path,) = Path("out").rglob("*.onnx")
    return path


def test_a_workflow_writes_a_smaller_model(here):
    run_workflow(workflow(keep=0.5, options={"align": 1, "gate": False}), package_config=package_config())
    assert widths(result()) < widths("in.onnx")
    assert {entry.key for entry in onnx.load(result()).metadata_props} >= {"onnx_merge.version"}


def test_the_options_say_how_much_goes(here):
    np.savez("samples.npz", x=np.random.default_rng(0).standard_normal((64, 16), np.float32))
    options = {"target_macs": 0.4, "calib": "samples.npz", "report": "report.json", "align": 1, "gate": False}
    run_workflow(workflow(options=options), package_config=package_config())
    report = json.loads(Path("report.json").read_text())
    assert report["after"]["macs"] / report["before"]["macs"] == pytest.approx(0.4, abs=0.01)
    assert report["fidelity"]["real"] is True


def test_samples_from_olive(here):
    from olive.data.registry import Registry

    rows = np.random.default_rng(0).standard_normal((80, 16), np.float32)
    Registry.register_dataset("rows_for_the_test")(lambda **given: [({"x": row}, 0) for row in rows])
    data = {"name": "noise", "load_dataset_config": {"type": "rows_for_the_test"}}
    options = {"report": "report.json", "align": 1, "gate": False}
    made = workflow(keep=0.5, options=options, data_config="noise")
    run_workflow({**made, "data_configs": [data]}, package_config=package_config())
    fidelity = json.loads(Path("report.json").read_text())["fidelity"]
    assert fidelity["real"] is True and fidelity["samples"] + fidelity["fitted"] == 80


def test_the_package_configuration_of_the_command_line(here):
    write_package_config(Path("packages.json"))
    found = json.loads(Path("packages.json").read_text())["passes"]
    assert found["OnnxMerge"]["module_path"] == "onnx_merge.integrations.olive_pass.OnnxMerge" and len(found) > 10


def test_a_search_tries_several_shares():
    from olive.hardware import DEFAULT_CPU_ACCELERATOR

    _, _, searched = OnnxMerge.get_config_params(DEFAULT_CPU_ACCELERATOR, {"keep": "SEARCHABLE_VALUES"})
    assert tuple(searched["keep"].get_support()) == SHARES
