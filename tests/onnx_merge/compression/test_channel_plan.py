"""The same cut again: a plan that is written, read for another checkpoint, and refused where it does not fit."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from chainnet import SIZES, chain

from onnx_merge import optimize
from onnx_merge.cli.main import main
from onnx_merge.errors import InputError, UsageError


def arrays(model):
    return {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}


@pytest.fixture
def plan(tmp_path):
    optimize(chain(), keep=0.5, method="prune", save_plan=tmp_path / "plan.json")
    return tmp_path / "plan.json"


def test_the_file_says_which_channels_of_every_group_stay(plan):
    table = json.loads(plan.read_text())
    groups = {group["name"]: group for group in table["groups"]}
    assert set(groups) == {"first", "second"} and table["plan_version"] == 1
    assert groups["first"]["size"] == 8 and groups["first"]["producers"] == ["first"]
    assert all(sorted(set(g["kept"])) == g["kept"] and g["kept"] for g in groups.values())


def test_another_checkpoint_keeps_the_same_channels(plan):
    kept = {group["name"]: group["kept"] for group in json.loads(plan.read_text())["groups"]}
    other = chain(seed=1)
    made, result = optimize(other, plan=plan, method="prune")
    assert {g.name: g.kept for g in result.groups if g.status == "shrunk"} == {n: len(k) for n, k in kept.items()}
    cut, whole = arrays(made), arrays(other)
    np.testing.assert_array_equal(cut["w1"], whole["w1"][kept["first"]])
    np.testing.assert_array_equal(cut["w2"], whole["w2"][np.ix_(kept["second"], kept["first"])])
    np.testing.assert_array_equal(cut["w3"], whole["w3"][:, kept["second"]])


@pytest.mark.parametrize("method", ["merge", "reconstruct"])
def test_the_same_model_is_cut_alike_by_every_method(tmp_path, method):
    options = {"method": method, "calib_samples": 32}
    first, _ = optimize(chain(), keep=0.5, save_plan=tmp_path / "plan.json", **options)
    again, result = optimize(chain(), plan=tmp_path / "plan.json", **options)
    before, after = arrays(first), arrays(again)
    assert {n: a.shape for n, a in before.items()} == {n: a.shape for n, a in after.items()}
    for name, array in before.items():
        np.testing.assert_allclose(after[name], array, rtol=1e-4, atol=1e-5)
    assert {g.method for g in result.groups if g.status == "shrunk"} == {method}


def test_a_copy_goes_into_its_partner_only_if_that_stays(tmp_path):
    """Channels 0 and 1 are equal. A plan that keeps neither merges or drops both as any others."""
    model = chain()
    for name in ("w1", "b1"):
        tensor = next(t for t in model.graph.initializer if t.name == name)
        array = onnx.numpy_helper.to_array(tensor).copy()
        array[1] = array[0]
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, name))
    for kept, exact in (([0, 2, 3, 4, 5, 6, 7], True), ([2, 3, 4, 5, 6, 7], False)):
        groups = [
            {"name": "first", "producers": ["first"], "size": 8, "kept": kept},
            {"name": "second", "producers": ["second"], "size": 12, "kept": list(range(12))},
        ]
        path = tmp_path / "plan.json"
        path.write_text(json.dumps({"plan_version": 1, "groups": groups}))
        _, result = optimize(model, plan=path, method="merge", no_gate=True)
        assert (result.fidelity.nsr < 1e-9) == exact


def test_a_plan_that_does_not_fit_is_refused(tmp_path, plan):
    wider = chain(w1=(10, 3, 3, 3), b1=(10,), w2=(12, 10, 3, 3))
    with pytest.raises(InputError, match="group 'first' has 10 channels, but 8 in the plan"):
        optimize(wider, plan=plan)
    table = json.loads(plan.read_text())

    def written(**changes):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.json"
        path.write_text(json.dumps(table | changes))
        return path

    first, second = table["groups"]
    for path, message in (
        (written(groups=[first]), "lacks the group 'second' of the model"),
        (written(groups=[*table["groups"], second | {"name": "third", "producers": ["third"]}]), "has a group 'third'"),
        (written(groups=[first | {"kept": []}, second]), "group 'first' keeps no valid set of its 8 channels"),
        (written(groups=[first | {"kept": [0, 8]}, second]), "group 'first' keeps no valid set"),
        (written(plan_version=2), "is no plan of version 1"),
        (written(groups=[{"name": "first"}]), "is damaged"),
        (tmp_path / "missing.json", "cannot be read"),
    ):
        with pytest.raises(InputError, match=message):
            optimize(chain(), plan=path)
    (tmp_path / "other.json").write_text("{")
    with pytest.raises(InputError, match="it is not JSON"):
        optimize(chain(), plan=tmp_path / "other.json")


def test_renamed_groups_are_found_by_their_producers(plan):
    table = json.loads(plan.read_text())
    for group in table["groups"]:
        group["name"] += "_of_another_export"
    plan.write_text(json.dumps(table))
    _, result = optimize(chain(), plan=plan, method="prune")
    assert sum(group.status == "shrunk" for group in result.groups) == 2


def test_a_plan_says_how_much_goes(plan):
    with pytest.raises(UsageError, match="keep and plan both say how much goes"):
        optimize(chain(), plan=plan, keep=0.5)


def test_from_the_command_line_and_verified(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    onnx.save(chain(), "in.onnx")
    onnx.save(chain(seed=1), "next.onnx")
    assert main(["in.onnx", "out.onnx", "--keep", "0.75", "--save-plan", "plan.json"]) == 0
    assert main(["next.onnx", "next_out.onnx", "--plan", "plan.json"]) == 0
    assert main(["verify", "next_out.onnx", "--against", "next.onnx"]) == 0
    shapes = [{n: a.shape for n, a in arrays(onnx.load(name)).items()} for name in ("out.onnx", "next_out.onnx")]
    assert shapes[0] == shapes[1] != {name: size for name, size in SIZES.items()}
    assert main(["in.onnx", "other.onnx", "--keep", "0.75", "--save-plan", "plan.json"]) == 2  # it exists
    assert not Path("other.onnx").exists()
